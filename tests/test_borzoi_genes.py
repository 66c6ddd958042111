"""A background of Borzoi with one value per gene, against full predictions gone through variant by variant."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import chorus_store
from builders import cli
from builders.borzoi import Borzoi
from chorus_store import layout
from chorus_store.genome import Genome
from chorus_store.sequence import encode, one_hot

torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra borzoi)")
pytest.importorskip("transformers", reason="transformers is not installed (extra borzoi)")

from tests.test_borzoi import LENGTH, N_BINS, OFFSET, published, small_inputs  # noqa: E402

#: Two genes that share an exon, one that starts before the output of some windows, one that is far away.
EXONS = {
    "A": [(270_001, 270_900), (275_001, 275_100)],
    "B": [(270_501, 270_700)],
    "C": [(171_000, 174_000), (366_000, 372_000)],
    "D": [(1_001, 2_000)],
}


def write_genes(folder: Path) -> None:
    lines = [
        f"chr20\tt\t{feature}\t{start}\t{end}\t.\t+\t.\t"
        f'gene_id "{gene}"; gene_type "protein_coding"; gene_name "{gene}";\n'
        for gene, exons in EXONS.items()
        for feature, intervals in (("gene", [(exons[0][0], exons[-1][1])]), ("exon", exons))
        for start, end in intervals
    ]
    (folder / "g.gtf").write_text("".join(lines))


def gene_bins(gene: str, pos: int) -> list[int]:
    """Bins of the output that hold a base of an exon of the gene."""
    output = pos - LENGTH // 2 + OFFSET
    touched = {(base - output) // 32 for start, end in EXONS[gene] for base in range(start - 1, end)}
    return sorted(touched & set(range(N_BINS)))


def test_effects_are_of_every_gene_in_the_output(tmp_path: Path) -> None:
    command = small_inputs(tmp_path)
    write_genes(tmp_path)
    assert cli.run(Borzoi, [*command, "--rna-mask", "gene", "--out", str(tmp_path)]) == 0
    store = tmp_path / "borzoi_demo.zarr"
    variants, tracks = (layout.read_table(store, f"plan/{name}") for name in ("variants", "tracks"))
    rna = np.flatnonzero(tracks["layer"] == "gene_expression")
    channels = tracks["channel"].values[rna]
    model = published("small", int(tracks["channel"].max()) + 1, seed=3)
    effects = []
    with Genome(tmp_path / "g.fa") as genome, torch.inference_mode():
        for pos, alt in zip(variants["pos"].values.tolist(), variants["alt"].values.tolist(), strict=True):
            reference = genome.fetch("chr20", pos - LENGTH // 2, pos + LENGTH // 2)
            alternate = reference.copy()
            alternate[LENGTH // 2 - 1] = encode(alt)[0]
            both = torch.from_numpy(one_hot(np.stack([reference, alternate]))).transpose(1, 2)
            predicted = model(both).numpy().astype(np.float64)[:, channels]
            for gene in EXONS:
                if bins := gene_bins(gene, pos):
                    ref, changed = predicted[:, :, bins].mean(axis=2)
                    effects.append(np.log((changed + 0.001) / (ref + 0.001)))
    assert len(effects) == 6, "three genes at each of two variants"
    with chorus_store.open(store) as background:
        assert set(background["effect_count"].values[rna].tolist()) == {6}
        ends = np.sort(np.array(effects), axis=0)[[0, -1]].T
        found = background["effect_cdf"].values[rna][:, [0, -1]]
        np.testing.assert_allclose(found, ends, rtol=1e-3, atol=2e-5)
        assert background.attrs["provenance"]["parameters"]["oracle"] == {"rna_mask": "gene", "size": "small"}


def test_what_genes_take_is_foreseen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reports = []
    for mask in ("exons", "gene"):
        dry = ["--dry-run", "--json", "--memory", "8G", "--rna-mask", mask, "--out", str(tmp_path)]
        assert cli.run(Borzoi, dry) == 0
        reports.append(json.loads(capsys.readouterr().out))
    merged, by_gene = reports
    more = by_gene["facts_bytes"] - merged["facts_bytes"]
    assert 0.5e9 < more < 2e9, "1,543 tracks × some 1.7 genes at 20,000 alleles, and 2.4 at 31,500 positions"
    for work in ("tracks", "work", "store_bytes", "npz_bytes"):
        assert merged[work] == by_gene[work]
    memory = "scoring, besides the model"
    assert by_gene["peak_memory_bytes"][memory] > merged["peak_memory_bytes"][memory]
