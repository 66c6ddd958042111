"""Whole builds of the scalar oracles on the stub inputs: their own mixture of positions, windows and counts."""

from __future__ import annotations

import csv
import gzip
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

import chorus_store
from builders import cli
from builders.legnet import LegNet
from builders.oracle import BinArray, Oracle, Reduced
from builders.sei import Sei
from chorus_store import layout
from chorus_store.sequence import Codes, decode
from tests import stub

POINTS = 10_000


class StubLegNet(LegNet):
    """LegNet's declaration around the stub model."""

    def load(self, weights: Path | None, *, device: str = "cpu", precision: str = "fp32", seed: int = 0) -> None:
        """Nothing to load."""

    def reduce(self, codes: Codes, bins: Mapping[int, BinArray] | None = None) -> Reduced:
        assert bins is None
        return predicted(codes, 3)


class StubSei(Sei):
    """Sei's declaration around the stub model."""

    def load(self, weights: Path | None, *, device: str = "cpu", precision: str = "fp32", seed: int = 0) -> None:
        """Nothing to load."""

    def reduce_alleles(self, codes: Codes) -> Reduced:
        return predicted(codes, 40)

    def reduce(self, codes: Codes, bins: Mapping[int, BinArray] | None = None) -> Reduced:
        assert bins is None
        return predicted(codes, 40)


def predicted(codes: Codes, n_tracks: int) -> Reduced:
    middle = codes.shape[1] // 2
    rows = [stub.predict(decode(row[middle - 32 : middle + 32]), 1, n_tracks)[0] for row in codes]
    return Reduced(np.stack(rows))


@pytest.fixture(scope="module", params=[StubLegNet, StubSei], ids=["legnet", "sei"])
def built(
    request: pytest.FixtureRequest, stub_genome: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[type[Oracle], Path]]:
    """An oracle and the folder of its whole build by the command line, of the documented size."""
    folder = tmp_path_factory.mktemp("scalar")
    weights = folder / "weights"
    weights.write_text("stub")
    command = ["--fasta", str(stub_genome), "--gtf", str(stub.stub_gtf(folder / "genes.gtf"))]
    command += ["--ccres", str(stub.stub_ccres(folder / "ccres.bed")), "--weights", str(weights), "--out", str(folder)]
    assert cli.run(request.param, command) == 0
    yield request.param, folder


def golden(path: Path) -> list[list[str]]:
    with gzip.open(path, "rt") as text:
        return list(csv.reader(text, delimiter="\t"))[1:]


class Windows:
    """The stub genome, read without the project's code."""

    def __init__(self, length: int, most_unknown: float) -> None:
        self._text = 3 * stub.template().decode()
        self._length, self._most_unknown = length, most_unknown

    def at(self, chrom: str, pos: int, alt: str = "") -> str | None:
        """The window, or None where it is not to be scored."""
        start = pos - self._length // 2
        assert start >= 0 and start + self._length <= stub.LENGTHS[chrom]
        first = (stub.SHIFT * list(stub.LENGTHS).index(chrom) + start) % stub.PERIOD
        window = self._text[first : first + self._length]
        if window.count("N") > self._most_unknown * self._length:
            return None
        before = self._length // 2 - 1
        return window[:before] + alt + window[before + 1 :] if alt else window


def grid(values: np.ndarray) -> np.ndarray:
    """The reference's compaction of values (sample, track)."""
    ordered, k = np.sort(values.astype(np.float64), axis=0), len(values)
    if k >= POINTS:
        return ordered[np.linspace(0, k - 1, POINTS, dtype=int)].T.astype(np.float32)
    points = [np.interp(np.linspace(0, 1, POINTS), np.arange(k) / k, column) for column in ordered.T]
    return np.array(points, np.float32)


@pytest.mark.shared
def test_the_build_is_that_of_the_reference_without_gene_bodies(built: tuple[type[Oracle], Path], shared: Path) -> None:
    oracle, folder = built
    n_tracks = oracle.expected_tracks
    windows = Windows(oracle.input_length_bp, oracle.max_unknown_fraction)
    effects, activities = [], []
    for chrom, pos, ref, alt in golden(shared / "golden/enformer_variants.tsv.gz"):
        reference = windows.at(chrom, int(pos))
        if reference is not None:
            assert reference[oracle.input_length_bp // 2 - 1] == ref
            alternate = windows.at(chrom, int(pos), alt)
            assert alternate is not None
            ref_value, alt_value = (stub.predict(window, 1, n_tracks)[0] for window in (reference, alternate))
            effects.append(alt_value.astype(np.float64) - ref_value)
    for chrom, pos, stratum in golden(shared / "golden/enformer_baselines.tsv.gz"):
        window = None if stratum == "gene_body" else windows.at(chrom, int(pos))
        if window is not None:
            activities.append(stub.predict(window, 1, n_tracks)[0])
    with np.load(folder / f"{oracle.name}_pertrack.npz") as npz:
        assert set(npz.files) == {
            "track_ids", "signed_flags", "layers_per_row", "build_config",
            *(f"{cdf}_{what}" for cdf in ("effect", "summary") for what in ("cdfs", "counts", "retained")),
        }  # fmt: skip
        assert npz["signed_flags"].tolist() == [True] * n_tracks
        for cdf, values in (("effect", effects), ("summary", activities)):
            assert npz[f"{cdf}_counts"].tolist() == npz[f"{cdf}_retained"].tolist() == [len(values)] * n_tracks
            np.testing.assert_allclose(npz[f"{cdf}_cdfs"], grid(np.array(values)), rtol=1e-6, atol=1e-6)
    with chorus_store.open(folder / f"{oracle.name}.zarr") as store:
        track = str(store["track"].values[-1])
        assert store.chorus.percentile(effects[0][-1], track=track, cdf="effect") == pytest.approx(
            2 * np.mean(np.array(effects)[:, -1] <= effects[0][-1]) - 1, abs=1e-3
        )


@pytest.mark.shared
def test_positions_are_those_of_the_reference(built: tuple[type[Oracle], Path], shared: Path) -> None:
    oracle, folder = built
    plan = {
        kind: layout.read_table(folder / f"{oracle.name}.zarr", f"{layout.PLAN}/{kind}")
        for kind in ("variants", "baselines")
    }
    variants = zip(*(plan["variants"][name].values.tolist() for name in ("chrom", "pos", "ref", "alt")), strict=True)
    expected = golden(shared / "golden/enformer_variants.tsv.gz")
    assert [[chrom, str(pos), ref, alt] for chrom, pos, ref, alt in variants] == expected
    baselines = zip(*(plan["baselines"][name].values.tolist() for name in ("chrom", "pos", "stratum")), strict=True)
    wanted = Counter(map(tuple, golden(shared / "golden/enformer_baselines.tsv.gz")))
    gene_bodies = {row for row in wanted if row[2] == "gene_body"}
    assert Counter((chrom, str(pos), stratum) for chrom, pos, stratum in baselines) == Counter(
        {row: n for row, n in wanted.items() if row not in gene_bodies}
    )


@pytest.mark.shared
def test_the_windows_of_these_positions_tell_the_rules_apart(shared: Path) -> None:
    """So that the counts above would differ with another share of unknown bases."""
    rows = [row for row in golden(shared / "golden/enformer_baselines.tsv.gz") if row[2] != "gene_body"]
    rules = [Windows(200, share) for share in (0.3, 0.5, 1.0)]
    kept = [sum(rule.at(chrom, int(pos)) is not None for chrom, pos, _ in rows) for rule in rules]
    assert kept[0] < kept[1] < kept[2] == len(rows)
