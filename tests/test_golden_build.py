"""The reference's whole Enformer build on stub inputs, reproduced through the real pipeline."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from builders import cli
from builders.oracle import BinArray, Head, Oracle, Reduced
from builders.reduction import reduce_arrays
from chorus_store.facts import FactStore
from chorus_store.grid import compact_rows
from chorus_store.sequence import Codes, decode
from chorus_store.tracks import TrackTable
from tests import stub

ROOT = Path(__file__).resolve().parents[1]


class StubEnformer(Oracle):
    """Enformer's geometry around the stub model: six tracks of gamma noise."""

    name = "enformer"
    title = "Enformer (stub)"
    input_length_bp = 393_216
    expected_tracks = 6
    default_batch = 8
    heads = (Head("human", 128, 896, 139_264),)

    def __init__(self) -> None:
        layers = (
            ("DNASE", "chromatin_accessibility"), ("CAGE", "tss_activity"), ("CHIP", "histone_marks"),
            ("CHIP", "tf_binding"), ("ATAC", "chromatin_accessibility"), ("CAGE", "tss_activity"),
        )  # fmt: skip
        self.tracks = TrackTable.from_rows(
            [(f"TRK{i}", "human", i, assay, layer, "", "", ".") for i, (assay, layer) in enumerate(layers)]
        )

    @classmethod
    def from_options(cls, args: argparse.Namespace, tracks: Path | None) -> StubEnformer:
        return cls()

    def load(self, weights: Path | None, *, device: str = "cpu", precision: str = "fp32", seed: int = 0) -> None:
        """Nothing to load."""

    def reduce(self, codes: Codes, bins: Mapping[int, BinArray] | None = None) -> Reduced:
        middle = codes.shape[1] // 2
        predictions = [stub.predict(decode(row[middle - 32 : middle + 32]), 896, 6) for row in codes]
        return reduce_arrays(self, {"human": np.stack(predictions)}, bins)


@pytest.fixture(scope="module")
def built(stub_genome: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a whole build by the command line, in a process of its own, compacted as the reference does."""
    folder = tmp_path_factory.mktemp("golden")
    gtf, ccres = folder / "genes.gtf", folder / "ccres.bed"
    stub.stub_gtf(gtf)
    stub.stub_ccres(ccres)
    command = [sys.executable, "-m", "tests.test_golden_build", "--part", "all", "--fasta", str(stub_genome)]
    command += ["--gtf", str(gtf), "--ccres", str(ccres), "--out", str(folder), "--sampler", "algorithm-r"]
    subprocess.run(command, cwd=ROOT, check=True)
    return folder


@pytest.mark.shared
def test_agrees_with_the_reference(built: Path, shared: Path) -> None:
    with (
        np.load(shared / "golden/enformer_stub_pertrack.npz") as theirs,
        np.load(built / "enformer_pertrack.npz") as ours,
    ):
        for key in ("track_ids", "signed_flags", "effect_counts", "summary_counts", "perbin_counts"):
            np.testing.assert_array_equal(ours[key], theirs[key], err_msg=key)
        for key in ("effect_cdfs", "summary_cdfs"):
            np.testing.assert_allclose(ours[key], theirs[key], rtol=1e-6, atol=1e-6, err_msg=key)
        np.testing.assert_array_equal(ours["perbin_cdfs"], theirs["perbin_cdfs"])


@pytest.mark.shared
def test_exact_perbin_is_the_quantiles_of_all_values(built: Path, shared: Path) -> None:
    assert cli.run(StubEnformer, ["--part", "merge", "--out", str(built)]) == 0
    offered = FactStore(built / "enformer.zarr").read_columns("perbin/value", 0, 6)
    expected, counts = compact_rows(offered.astype(np.float64))
    with np.load(built / "enformer_pertrack.npz") as ours:
        np.testing.assert_array_equal(ours["perbin_cdfs"], expected)
        np.testing.assert_array_equal(ours["perbin_counts"], counts)
        np.testing.assert_array_equal(ours["perbin_retained"], counts)
        np.testing.assert_array_equal(ours["perbin_cdfs"][:, -1], offered.max(axis=1))


if __name__ == "__main__":
    raise SystemExit(cli.run(StubEnformer))
