"""Real chromosome, real annotation, real track table, through the real command line; the weights are seeded."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import chorus_store
from builders import cli
from builders.enformer import Enformer
from chorus_store import layout
from chorus_store.genome import Genome
from chorus_store.sequence import encode

pytest.importorskip("torch", reason="PyTorch is not installed (extra enformer)")

LAYER_COUNTS = {"chromatin_accessibility": 684, "tf_binding": 2101, "histone_marks": 1890, "tss_activity": 638}


@pytest.fixture(scope="module")
def chr20(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    fasta = tmp_path_factory.mktemp("genome") / "chr20.fa"
    with gzip.open(shared / "data/hg38_chr20.fa.gz") as packed, fasta.open("wb") as plain:
        shutil.copyfileobj(packed, plain)
    return fasta


def arguments(shared: Path, fasta: Path, out: Path, **sizes: int) -> list[str]:
    data = shared / "data"
    return [
        *("--fasta", str(fasta), "--out", str(out), "--offline"),
        *("--gtf", str(data / "gencode_v44_mane_chr20.gtf.gz")),
        *("--ccres", str(data / "screen_v4_ccres_chr20_9550320-13038089.bed.gz")),
        *("--tracks", str(data / "tracks/enformer_targets_human.txt.gz")),
        *("--random-weights", "0", "--json"),
        *(text for key, value in sizes.items() for text in (f"--{key.replace('_', '-')}", str(value))),
    ]


@pytest.mark.shared
def test_chr20_end_to_end(shared: Path, chr20: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = {"n_variants": 20, "n_random": 16, "n_tss": 8, "n_gene_bodies": 8, "batch": 4}
    small = [*arguments(shared, chr20, tmp_path, **sizes), "--size", "small", "--ccre", "all=3"]
    assert cli.run(Enformer, small) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["variants"]["sequences"] == 40
    path = tmp_path / "enformer_demo.zarr"
    variants = layout.read_table(path, "plan/variants")
    with Genome(chr20) as genome:
        for pos, ref in zip(variants["pos"].values.tolist(), variants["ref"].values.tolist(), strict=True):
            assert genome.fetch("chr20", pos - 1, pos).tolist() == encode(ref).tolist()
    baselines = layout.read_table(path, "plan/baselines")
    valid, ccre = baselines["valid"].values, baselines["stratum"].values == "ccre"
    assert 50 <= valid.sum() <= 56, "windows of genes near the ends of the chromosome leave it"
    assert said["baselines"]["sequences"] == valid.sum()
    assert said["baselines"]["dropped"].get("window", 0) == 56 - valid.sum()
    strata, counts = np.unique(baselines["stratum"].values, return_counts=True)
    assert dict(zip(strata.tolist(), counts.tolist(), strict=True)) == {
        "ccre": 24, "gene_body": 8, "random": 16, "tss": 8,
    }  # fmt: skip

    with xr.open_zarr(path) as store:
        layers, counts = np.unique(store["layer"].values.tolist(), return_counts=True)
        assert dict(zip(layers.tolist(), counts.tolist(), strict=True)) == LAYER_COUNTS
        cage = store["layer"].values == "tss_activity"
        assert set(store["summary_count"].values[cage]) == {(valid & ~ccre).sum()}
        assert set(store["summary_count"].values[~cage]) == {valid.sum()}
        assert set(store["perbin_count"].values) == {valid.sum() * 32}
        rows = store["effect_cdf"].values
        assert (np.diff(rows, axis=1) >= 0).all()
        assert (rows[:, -1] > 0).all(), "a base change moves every track"
        top = float(rows[0, -1])
        assert store.chorus.percentile(top, track="ENCFF833POA", cdf="effect") == 1.0
        assert 0 < store.chorus.percentile(top / 2, track="ENCFF833POA", cdf="effect") < 1
    with np.load(tmp_path / "enformer_demo_pertrack.npz") as npz:
        assert npz["effect_cdfs"].shape == (5313, 10_000)
        assert npz["track_ids"][0] == "ENCFF833POA"
        assert set(npz["layers_per_row"]) == set(LAYER_COUNTS)
    assert not (tmp_path / "enformer_pertrack.npz").exists(), "random weights never take the canonical name"


@pytest.mark.shared
@pytest.mark.timeout(1800)
def test_full_size_architecture(shared: Path, chr20: Path, tmp_path: Path) -> None:
    sizes = {"n_variants": 1, "n_random": 2, "n_tss": 0, "n_gene_bodies": 0, "batch": 2}
    full = [*arguments(shared, chr20, tmp_path, **sizes), "--ccre", "all=0", "--precision", "bf16"]
    assert cli.run(Enformer, full) == 0
    with chorus_store.open(tmp_path / "enformer_demo.zarr") as store:
        assert store.sizes["track"] == 5313
        assert set(store["effect_count"].values) == {1}
        assert set(store["perbin_count"].values) == {64}
        assert (store["summary_cdf"].values[:, 0] < store["summary_cdf"].values[:, -1]).all()
        assert store.attrs["provenance"]["parameters"]["precision"] == "bf16"
