"""Borzoi: its tracks, its facts with the small model, its weights, and builds by the command line."""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import chorus_store
from builders import cli, conformance
from builders.borzoi import Borzoi
from builders.borzoi_tracks import demo_targets, read_targets
from builders.oracle import BinArray, Exons, Reduced
from builders.reduction import reduce_arrays
from builders.resources import RESOURCES
from chorus_store import layout
from chorus_store.errors import BackendUnavailableError, InputError, ModelError, TrackTableError, WeightsError
from chorus_store.exon_bins import ExonBins
from chorus_store.layout import Kind
from chorus_store.plan import Plan
from chorus_store.sequence import Codes, decode, one_hot
from chorus_store.tracks import TrackTable
from tests import stub

torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra borzoi)")
pytest.importorskip("transformers", reason="transformers is not installed (extra borzoi)")

from builders.borzoi_torch import architecture, random_weights  # noqa: E402
from builders.checkpoints import install, shapes_of  # noqa: E402
from builders.gather import CentralGather  # noqa: E402
from tests.exon_requests import exons_of, with_genes  # noqa: E402

LENGTH, N_BINS, OFFSET = 524_288, 6144, 163_840
KINDS: tuple[Kind, Kind] = ("variants", "baselines")
COUNTS = {
    "chromatin_accessibility": 906,
    "tf_binding": 1996,
    "histone_marks": 1890,
    "tss_activity": 1276,
    "gene_expression": 1543,
}


def tracks() -> TrackTable:
    rows = (
        ("DNASE", "chromatin_accessibility"), ("RNA", "gene_expression"), ("CHIP", "histone_marks"),
        ("CHIP", "tf_binding"), ("CAGE", "tss_activity"), ("RNA", "gene_expression"),
        ("ATAC", "chromatin_accessibility"),
    )  # fmt: skip
    # Channels in another order than rows, so that a mix-up shows.
    return TrackTable.from_rows(
        [(f"TRK{i}", "human", (i * 3) % 7, assay, layer, "K562", "", ".") for i, (assay, layer) in enumerate(rows)]
    )


RNA = [1, 5]


@pytest.fixture(scope="module")
def oracle() -> Borzoi:
    made = Borzoi(tracks(), size="small")
    made.load(None, seed=1)
    return made


def published(size: str, n_channels: int, seed: int) -> Any:
    """The package's own model, to be run as its authors do."""
    table = TrackTable.from_rows([("T", "human", 0, "RNA", "gene_expression", "", "", ".")])
    model = architecture(size, CentralGather.of(Borzoi(table, size="small"), n_channels))
    install(model, random_weights(shapes_of(model), seed))
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def state() -> dict[str, Any]:
    """Weights of the oracle."""
    return dict(published("small", 7, seed=1).state_dict())


def random_codes(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 5, (n, LENGTH), dtype=np.uint8)


def request_of(masks: list[list[tuple[int, int]]], seed: int = 0) -> tuple[dict[int, BinArray], Exons]:
    """Random bins, these runs of exon bins with some of them in the slots, and genes that share them."""
    rng = np.random.default_rng(seed)
    exons = with_genes(exons_of(masks, rng), rng)
    return {32: rng.integers(0, N_BINS, (len(masks), 32), dtype=np.int32)}, exons


MASKS = [[(0, 3), (900, 950), (3060, 3080), (6143, 6144)], [], [(3071, 3072)]]


def assert_facts(found: Reduced, expected: Reduced) -> None:
    assert found.statistics.dtype == np.float32 and found.bins is not None and expected.bins is not None
    np.testing.assert_allclose(found.statistics, expected.statistics, rtol=2e-5, atol=1e-6)
    np.testing.assert_allclose(found.bins, expected.bins, rtol=2e-5, atol=1e-6)
    assert found.genes is not None and expected.genes is not None and len(found.genes)
    np.testing.assert_allclose(found.genes, expected.genes, rtol=2e-5, atol=1e-6)


def test_conforms(oracle: Borzoi) -> None:
    counts = {
        "chromatin_accessibility": 2,
        "histone_marks": 1,
        "tf_binding": 1,
        "tss_activity": 1,
        "gene_expression": 2,
    }
    assert conformance.check(oracle, counts, repeats=4) == []


def test_facts_are_those_of_the_full_prediction(oracle: Borzoi) -> None:
    codes, (bins, exons) = random_codes(3), request_of(MASKS)
    model = published("small", 7, seed=1)
    with torch.inference_mode():
        full = model(torch.from_numpy(one_hot(codes)).transpose(1, 2)).numpy()
    assert full.shape == (3, 7, N_BINS)
    found = oracle.reduce(codes, bins, exons)
    assert_facts(found, reduce_arrays(oracle, {"human": full.transpose(0, 2, 1)}, bins, exons))
    assert np.isnan(found.statistics).tolist() == [
        [row == 1 and track in RNA for track in range(7)] for row in range(3)
    ]
    alone = oracle.reduce(codes)
    assert alone.bins is None and np.isnan(alone.statistics[:, RNA]).all()
    facts = oracle.reduce(codes, None, exons).statistics
    np.testing.assert_allclose(facts, found.statistics, rtol=1e-6)
    assert (np.ptp(np.nan_to_num(facts), axis=1) > 0.1).all(), "tracks differ"
    assert (np.abs(facts[2] / facts[0] - 1) > 1e-4).all(), "sequences differ"


def test_expression_alone_is_nothing_where_no_exon_is() -> None:
    """No bin of the head is needed, and the means are 0 / 0."""
    alone = Borzoi(tracks().select(np.array(RNA)), size="small")
    alone.load(None)
    found = alone.reduce(random_codes(2), None, Exons(ExonBins.none(2)))
    np.testing.assert_array_equal(found.statistics, np.full((2, 2), np.nan, np.float32))


def test_one_base_changes_every_layer(oracle: Borzoi) -> None:
    reference = random_codes(1) % 4
    alternate = reference.copy()
    alternate[0, LENGTH // 2 - 1] ^= 1
    _, exons = request_of([[(3065, 3075)]])
    ref, alt = (oracle.reduce(codes, None, exons).statistics for codes in (reference, alternate))
    effects = [layer.effect(ref[0, i], alt[0, i]) for i, layer in enumerate(oracle.tracks.layers())]
    assert min(np.abs(effects)) > 1e-4


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_lower_precision_is_close(oracle: Borzoi, precision: str) -> None:
    codes, (bins, exons) = random_codes(1), request_of(MASKS[:1])
    lower = Borzoi(tracks(), size="small")
    lower.load(None, seed=1, precision=precision)
    found, expected = (each.reduce(codes, bins, exons).statistics for each in (lower, oracle))
    np.testing.assert_allclose(found, expected, rtol=0.03, atol=0.1)


def test_other_lengths_are_refused(oracle: Borzoi) -> None:
    with pytest.raises(ModelError, match=r"\(batch, 524288\) base codes, not \(1, 1000\)"):
        oracle.reduce(random_codes(1)[:, :1000])
    with pytest.raises(ModelError, match="call load first"):
        Borzoi(tracks(), size="small").reduce(random_codes(1))


@pytest.mark.parametrize("form", ["safetensors", "bin", "folder"])
def test_weights_round_trip(oracle: Borzoi, state: dict[str, Any], tmp_path: Path, form: str) -> None:
    from safetensors.torch import save_file

    path = tmp_path / ("pytorch_model.bin" if form == "bin" else "model.safetensors")
    if form == "bin":
        torch.save({key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}, path)
    else:
        save_file(state, path)
    (tmp_path / "config.json").write_text("{}")
    loaded = Borzoi(tracks(), size="small")
    loaded.load(tmp_path if form == "folder" else path)
    codes, (_, exons) = random_codes(1), request_of(MASKS[:1])
    expected = oracle.reduce(codes, None, exons).statistics
    np.testing.assert_allclose(loaded.reduce(codes, None, exons).statistics, expected, rtol=1e-6)


def test_weights_that_do_not_fit_are_named(state: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    oracle = Borzoi(tracks(), size="small")
    head = state["human_head.weight"]
    cases: list[tuple[dict[str, Any], str]] = [
        ({k: v for k, v in state.items() if k != "conv_dna.conv_layer.bias"}, "missing: conv_dna.conv_layer.bias"),
        ({**state, "mouse_head.weight": head}, "unknown: mouse_head.weight"),
        ({**state, "human_head.weight": head[:5]}, r"human_head.weight \(5, 60, 1\) instead of \(7, 60, 1\)"),
        ({"stem.0.weight": head}, r"missing: .* and \d+ more; unknown: stem.0.weight"),
    ]
    for broken, message in cases:
        torch.save(broken, path)
        with pytest.raises(WeightsError, match=message) as caught:
            oracle.load(path)
        assert "johahi/borzoi-replicate-0" in str(caught.value)


def test_files_that_are_no_weights(state: dict[str, Any], tmp_path: Path) -> None:
    oracle = Borzoi(tracks(), size="small")
    torch.save(state, tmp_path / "whole.pt")
    contents = {
        "text.bin": b"not a checkpoint",
        "half.pt": (tmp_path / "whole.pt").read_bytes()[: 2**14],
        "half.safetensors": b"\x10" + bytes(7) + b"{",
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(WeightsError, match=f"{name} is not a readable checkpoint"):
            oracle.load(tmp_path / name)
    with pytest.raises(WeightsError, match=r"no weights at .*nowhere"):
        oracle.load(tmp_path / "nowhere")


def test_devices_that_are_not_there() -> None:
    with pytest.raises(BackendUnavailableError, match="no device 'toaster' here; there is cpu"):
        Borzoi(tracks(), size="small").load(None, device="toaster")


@pytest.mark.shared
def test_the_published_table(shared: Path) -> None:
    table = Borzoi(shared / "data/tracks/borzoi_targets_human.txt.gz").tracks
    assert table.layer_counts() == COUNTS
    assert table.channel.tolist() == list(range(7611))
    rna = table.layer == "gene_expression"
    assert {s: int((table.strand[rna] == s).sum()) for s in "+-."} == {"+": 588, "-": 588, ".": 367}
    assert (table.track[0], table.strand[0]) == ("CNhs10608+", "+")
    assert table.cell_type[0] == "Clontech Human Universal Reference Total RNA, pool1"


def test_tables_that_do_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "targets.txt"
    path.write_text(demo_targets())
    table = read_targets(path)
    assert set(table.layer_counts()) == set(COUNTS)
    with pytest.raises(TrackTableError, match=f"has {len(table)} tracks where Borzoi predicts 7,611"):
        Borzoi(path)
    with pytest.raises(InputError, match="'tiny' is not one of full, small"):
        Borzoi(path, size="tiny")  # type: ignore[arg-type]
    path.write_text(demo_targets().replace("\tidentifier", "index\tidentifier", 1))
    with pytest.raises(TrackTableError, match=r"line 1: no column .*borzoi-pytorch"):
        Borzoi(path, size="small")


@pytest.mark.parametrize("fold", range(4))
def test_every_fold_has_its_weights(fold: int) -> None:
    args = argparse.Namespace(fold=fold, size=None, demo=False, weights=None, random_weights=None)
    wanted = Borzoi.resources(args)
    assert f"johahi/borzoi-replicate-{fold}/" in RESOURCES[wanted["weights"]].url
    assert wanted["tracks"] in RESOURCES


class StubBorzoi(Borzoi):
    """Borzoi's declaration around the stub model."""

    def load(self, weights: Path | None, *, device: str = "cpu", precision: str = "fp32", seed: int = 0) -> None:
        """Nothing to load."""

    def reduce(self, codes: Codes, bins: Mapping[int, BinArray] | None = None, exons: Exons | None = None) -> Reduced:
        middle = codes.shape[1] // 2
        full = [stub.predict(decode(row[middle - 32 : middle + 32]), N_BINS, len(self.tracks)) for row in codes]
        return reduce_arrays(self, {"human": np.stack(full)}, bins, exons)


def coding_exons() -> dict[str, np.ndarray]:
    """Exons of the stub's protein-coding genes per chromosome, 0-based half-open."""
    genes, exons, _ = stub.tables()
    kinds = {(gene[0], gene[4]): gene[5] for gene in genes}
    found: dict[str, list[tuple[int, int]]] = {}
    for chrom, start, end, _, name in exons:
        if kinds[chrom, name] == "protein_coding":
            found.setdefault(chrom, []).append((start - 1, end))
    return {chrom: np.array(rows) for chrom, rows in found.items()}


def bins_of(exons: np.ndarray, pos: int) -> set[int]:
    relative = exons - (pos - LENGTH // 2 + OFFSET)
    touched = [range(max(start // 32, 0), min((end - 1) // 32 + 1, N_BINS)) for start, end in relative.tolist()]
    return set().union(*touched)


def test_a_stub_build_counts_expression_where_there_are_exons(stub_genome: Path, tmp_path: Path) -> None:
    table, weights = tmp_path / "targets.txt", tmp_path / "weights"
    table.write_text(demo_targets())
    weights.write_text("stub")
    command = ["--fasta", str(stub_genome), "--gtf", str(stub.stub_gtf(tmp_path / "genes.gtf"))]
    command += ["--ccres", str(stub.stub_ccres(tmp_path / "ccres.bed")), "--tracks", str(table)]
    command += ["--weights", str(weights), "--size", "small", "--out", str(tmp_path), "--workers", "2"]
    command += ["--n-variants", "120", "--n-random", "90", "--n-tss", "40", "--n-gene-bodies", "20", "--ccre", "all=8"]
    assert cli.run(StubBorzoi, command) == 0
    store = tmp_path / "borzoi.zarr"
    plan = Plan.from_datasets({kind: layout.read_table(store, f"plan/{kind}") for kind in KINDS})
    exons, counted = coding_exons(), {}
    for kind in KINDS:
        part = plan.part(kind)
        assert part.exons is not None
        bins = [
            bins_of(exons[chrom], pos) if valid else set()
            for chrom, pos, valid in zip(part.chrom.tolist(), part.pos.tolist(), part.valid.tolist(), strict=True)
        ]
        assert [set(part.exons.at(i).tolist()) for i in range(len(part))] == bins
        counted[kind] = bins
    with chorus_store.open(store) as published_store:
        rna = published_store["layer"].values == "gene_expression"
        counts = {cdf: published_store[f"{cdf}_count"].values for cdf in ("effect", "summary", "perbin")}
        provenance = published_store.attrs["provenance"]
    with_exons = {kind: sum(map(bool, bins)) for kind, bins in counted.items()}
    assert (rna.sum(), provenance["parameters"]["oracle"]["rna_mask"]) == (5, "exons")
    assert set(counts["effect"][rna].tolist()) == {with_exons["variants"]}
    assert set(counts["summary"][rna].tolist()) == {with_exons["baselines"]}
    assert set(counts["perbin"][rna].tolist()) == {sum(min(len(bins), 32) for bins in counted["baselines"])}
    n_valid = {kind: int(plan.part(kind).valid.sum()) for kind in KINDS}
    assert all(0 < with_exons[kind] < n_valid[kind] for kind in KINDS)
    assert set(counts["effect"][~rna].tolist()) == {n_valid["variants"]}
    assert set(counts["perbin"][~rna].tolist()) == {32 * n_valid["baselines"]}


def small_inputs(folder: Path) -> list[str]:
    """One contig, one gene whose exon lies in every output, and a track table."""
    bases = np.frombuffer(b"ACGT", np.uint8)[np.random.default_rng(5).integers(0, 4, 560_000)]
    (folder / "g.fa").write_text(f">chr20\n{bases.tobytes().decode()}\n")
    notes = 'gene_id "G"; gene_type "protein_coding"; gene_name "G";'
    lines = [f"chr20\tt\t{feature}\t270001\t270900\t.\t+\t.\t{notes}\n" for feature in ("gene", "exon")]
    (folder / "g.gtf").write_text("".join(lines))
    (folder / "t.txt").write_text(demo_targets())
    sizes = {"n-variants": 2, "n-random": 2, "n-tss": 0, "n-gene-bodies": 0, "bin-slots": 8}
    margins = {"variant-margin-bp": 270_000, "random-margin-bp": 270_000}
    options = [text for name, value in {**sizes, **margins}.items() for text in (f"--{name}", str(value))]
    files = ["--fasta", str(folder / "g.fa"), "--gtf", str(folder / "g.gtf"), "--tracks", str(folder / "t.txt")]
    return [*files, *options, "--ccre", "all=0", "--random-weights", "3", "--size", "small", "--block", "1"]


def test_any_split_gives_the_same_bytes(tmp_path: Path) -> None:
    command = small_inputs(tmp_path)
    assert cli.run(Borzoi, [*command, "--out", str(tmp_path / "one")]) == 0
    for k in (2, 1):
        assert cli.run(Borzoi, [*command, "--out", str(tmp_path / "two"), "--shard", f"{k}/2"]) == 0
    found = [
        {
            file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
            for file in folder.rglob("*")
            if file.is_file() and "runs" not in file.parts
        }
        for folder in (tmp_path / "one", tmp_path / "two")
    ]
    assert "borzoi_demo.zarr/effect_cdf/c/0/0" in found[0]
    assert found[0] == found[1]
    with chorus_store.open(tmp_path / "one/borzoi_demo.zarr") as store:
        assert set(store["effect_count"].values.tolist()) == {2}
        assert np.isfinite(store["summary_cdf"].values).all()


def test_the_small_model_has_no_published_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [text for text in small_inputs(tmp_path) if text not in ("--random-weights", "3")]
    assert cli.run(Borzoi, [*command, "--out", str(tmp_path)]) == 2
    assert "the small model has no published weights" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.shared
def test_full_size(shared: Path) -> None:
    """Seeded random weights of the published shapes: 185.9 million parameters, a forward pass of minutes and 5 GiB."""
    oracle = Borzoi(shared / "data/tracks/borzoi_targets_human.txt.gz")
    oracle.load(None, seed=1)
    codes, (bins, exons) = random_codes(1), request_of(MASKS[:1])
    model = published("full", 7611, seed=1)
    assert len(model.state_dict()) == 215
    with torch.inference_mode():
        full = model(torch.from_numpy(one_hot(codes)).transpose(1, 2)).numpy()
    assert_facts(
        oracle.reduce(codes, bins, exons), reduce_arrays(oracle, {"human": full.transpose(0, 2, 1)}, bins, exons)
    )
