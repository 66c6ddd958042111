"""AlphaGenome on JAX, against a stand-in for the original, which is in no package index."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import chorus_store
from builders import cli, conformance
from builders.alphagenome import AlphaGenome
from builders.oracle import BinArray, Exons
from builders.reduction import reduce_arrays
from chorus_store.errors import BackendUnavailableError, DeviceMemoryError, InputError, TrackTableError, WeightsError
from chorus_store.sequence import one_hot
from tests.exon_requests import exons_of, with_genes, write_one_gene

jax = pytest.importorskip("jax", reason="JAX is not installed (extra alphagenome-jax)")
hk = pytest.importorskip("haiku", reason="Haiku is not installed (extra alphagenome-jax)")

from tests import alphagenome_research_standin as standin  # noqa: E402

# What Orbax's threads still say of a checkpoint that could not be read, once its event loop is closed.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

LENGTH = 8192
MASKS = [[(0, 3), (900, 1400), (4000, 4100), (LENGTH - 1, LENGTH)], [], [(4095, 4096)]]


@pytest.fixture(scope="module")
def metadata(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return standin.write_metadata(tmp_path_factory.mktemp("metadata"))


@pytest.fixture(scope="module", autouse=True)
def original(metadata: Path) -> Iterator[standin.AlphaGenomeOutputMetadata]:
    """The stand-in is installed; its metadata."""
    outputs = standin.metadata_of(metadata)
    jax.config.update("jax_disable_most_optimizations", True)  # compiles in a fifth of the time
    with pytest.MonkeyPatch.context() as patch:
        standin.install(patch, outputs)
        yield outputs
    jax.config.update("jax_disable_most_optimizations", False)


def small(metadata: Path, weights: Path | None = None, **options: Any) -> AlphaGenome:
    made = AlphaGenome(metadata, backend="jax", size="small")
    made.load(weights, **{"seed": 1, **options})
    return made


@pytest.fixture(scope="module")
def oracle(metadata: Path) -> AlphaGenome:
    return small(metadata)


@pytest.fixture(scope="module")
def values() -> Any:
    """Parameters and state of the oracle."""
    from builders.alphagenome_original import load_metadata, random_values

    return random_values(load_metadata(), seed=1)


def save(values: Any, folder: Path) -> Path:
    ocp = pytest.importorskip("orbax.checkpoint", reason="Orbax is not installed (extra alphagenome-jax)")
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder, values)
    return folder


def random_codes(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 5, (n, LENGTH), dtype=np.uint8)


def request_of(masks: list[list[tuple[int, int]]], seed: int = 0) -> tuple[dict[int, BinArray], Exons]:
    """Random bins of both resolutions, these runs of exon bins with some in the slots, and genes that share them."""
    rng = np.random.default_rng(seed)
    exons = with_genes(exons_of(masks, rng), rng)
    return {bp: rng.integers(0, LENGTH // bp, (len(masks), 32), dtype=np.int32) for bp in (1, 128)}, exons


def full_predictions(values: Any, codes: np.ndarray) -> dict[str, np.ndarray]:
    """The model's own forward pass, whole outputs, by the names of our heads."""
    from builders.alphagenome_original import load_metadata

    forward = hk.transform_with_state(lambda *inputs: standin.AlphaGenome(load_metadata())(*inputs))
    (found, _), _ = forward.apply(*values, None, one_hot(codes), np.zeros(len(codes), np.int32))
    predictions = {name: found[name]["predictions_1bp"] for name in ("atac", "cage", "dnase", "rna_seq", "procap")}
    predictions |= {name: found[name]["predictions_128bp"] for name in ("chip_tf", "chip_histone")}
    predictions["splice_sites"] = found["splice_sites_classification"]["predictions"]
    predictions["splice_site_usage"] = jax.nn.sigmoid(found["splice_sites_usage"]["logits"])
    rounded = found["splice_sites_usage"]["predictions"]
    np.testing.assert_allclose(predictions["splice_site_usage"], rounded, rtol=1e-3)
    return {name: np.asarray(values) for name, values in predictions.items()}


def test_conforms(oracle: AlphaGenome) -> None:
    assert conformance.check(oracle, repeats=2) == []


def test_facts_are_those_of_the_full_prediction(oracle: AlphaGenome, values: Any) -> None:
    codes, (bins, exons) = random_codes(3), request_of(MASKS)
    predictions = full_predictions(values, codes)
    assert all(
        len(output[0]) == LENGTH // (128 if name.startswith("chip") else 1) for name, output in predictions.items()
    )
    np.testing.assert_allclose(predictions["splice_sites"].sum(axis=2), 1, rtol=1e-6)
    expected, found = reduce_arrays(oracle, predictions, bins, exons), oracle.reduce(codes, bins, exons)
    for part in ("statistics", "bins", "genes"):
        assert getattr(found, part).dtype == np.float32 and getattr(found, part).size
        np.testing.assert_allclose(getattr(found, part), getattr(expected, part), rtol=1e-5)
    rna = oracle.tracks.layer == "gene_expression"
    assert np.isnan(found.statistics[1]).tolist() == rna.tolist() and np.isfinite(found.statistics[[0, 2]]).all()
    alone = oracle.reduce(codes)
    assert alone.bins is None and alone.genes is None and np.isnan(alone.statistics[:, rna]).all()
    np.testing.assert_array_equal(alone.statistics[:, ~rna], found.statistics[:, ~rna])


def test_heads_see_the_wanted_bins_alone(oracle: AlphaGenome) -> None:
    standin.SEEN.clear()
    n = 5  # of no other test, so that everything is traced anew
    oracle.reduce(random_codes(n), *request_of([[(100, 200)]] * n))
    # 501 bases of a window, or 100 of exons, and 32 chosen ones; 15 bins of a window and 32 chosen ones.
    fine = ((n, 1024, standin.FINE), (n, 8, standin.COARSE), None)
    exons = ((n, 256, standin.FINE), (n, 2, standin.COARSE), None)
    coarse = (None, (n, 128, standin.COARSE), None)
    others = {"rna_seq": exons, "chip_tf": coarse, "chip_histone": coarse}
    assert [others.get(head.name, fine) for head in oracle.heads] == standin.SEEN


def test_weights_are_read_and_bf16_is_close(oracle: AlphaGenome, values: Any, metadata: Path, tmp_path: Path) -> None:
    weights = save(values, tmp_path / "checkpoint")
    codes, (bins, exons) = random_codes(3), request_of(MASKS)
    expected = oracle.reduce(codes, bins, exons)
    same, lower = (
        small(metadata, weights, precision=precision).reduce(codes, bins, exons) for precision in ("fp32", "bf16")
    )
    np.testing.assert_array_equal(same.statistics, expected.statistics)
    np.testing.assert_array_equal(same.bins, expected.bins)
    np.testing.assert_allclose(lower.statistics, expected.statistics, rtol=0.05)
    assert (lower.statistics != expected.statistics).any()


# What Orbax leaves behind where it fails complains when it is collected: here, and in no later test.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_weights_that_do_not_fit_are_named(values: Any, metadata: Path, tmp_path: Path) -> None:
    parameters, state = values
    linear = "alphagenome/head/atac/resolution_1/multi_organism_linear"
    wider = {**parameters, linear: {**parameters[linear], "b": np.zeros((2, 6), np.float32)}}
    lacking = {name: part for name, part in parameters.items() if name != linear}
    for name, broken, message in (("wider", wider, r"shape: \(2, 5\) .* \(2, 6\)"), ("lacking", lacking, linear)):
        with pytest.raises(WeightsError, match=f"is not a checkpoint of AlphaGenome .*{message}"):
            small(metadata, save((broken, state), tmp_path / name))
    with pytest.raises(WeightsError, match=r"none is not a checkpoint .*not found.*google/alphagenome-all-folds"):
        small(metadata, tmp_path / "none")
    damaged = save(values, tmp_path / "damaged")
    for file in (damaged / "d").iterdir():
        file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(WeightsError, match="damaged is not a checkpoint"):
        small(metadata, damaged)
    gc.collect()


@pytest.mark.parametrize(
    ("means", "message"),
    [
        (None, "lacks the track means of atac, without which"),
        (1.0, r"atac, holds no track means \(all the same\)"),
        ([1, 0, 2, 3, 0], r"atac, holds no track means \(not all above 0\)"),
        ([1, np.nan, 2, 3, 0], r"atac, holds no track means \(not all above 0\)"),
    ],
)
def test_track_means_must_be_there(
    original: standin.AlphaGenomeOutputMetadata, metadata: Path, tmp_path: Path, means: Any, message: str
) -> None:
    atac = original.atac.drop(columns="nonzero_mean") if means is None else original.atac.assign(nonzero_mean=means)
    with pytest.MonkeyPatch.context() as patch:
        standin.install(patch, replace(original, atac=atac))
        with pytest.raises(WeightsError, match=message):
            small(metadata, tmp_path)


def test_tracks_must_be_those_of_the_package(
    original: standin.AlphaGenomeOutputMetadata, metadata: Path, tmp_path: Path
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        standin.install(patch, replace(original, dnase=original.dnase[::-1].reset_index(drop=True)))
        with pytest.raises(TrackTableError, match=r"channel 0 of dnase is DNASE/EFO.* and DNASE/Padding/. in"):
            small(metadata, tmp_path)
        standin.install(patch, replace(original, dnase=original.dnase[:2]))
        with pytest.raises(TrackTableError, match=r"channel 2 of dnase is DNASE/.* and nothing in"):
            small(metadata, tmp_path)


def test_what_this_backend_has_not(metadata: Path) -> None:
    with pytest.raises(InputError, match="fp32 and bf16, not 'tf32'"):
        small(metadata, precision="tf32")
    with pytest.raises(InputError, match="'cpu:x' names no device"):
        small(metadata, device="cpu:x")
    for device in ("cuda:3", "cpu:1000", "abacus"):
        with pytest.raises(BackendUnavailableError, match=f"no device '{device}' here; there is .*cpu"):
            small(metadata, device=device)


@pytest.mark.parametrize("absent", ["haiku", "alphagenome_research.model.model"])
def test_what_is_to_be_installed_is_said(metadata: Path, monkeypatch: pytest.MonkeyPatch, absent: str) -> None:
    for name in ("alphagenome_jax", "alphagenome_original"):
        monkeypatch.delitem(sys.modules, f"builders.{name}", raising=False)
    monkeypatch.setitem(sys.modules, absent, None)
    with pytest.raises(BackendUnavailableError, match=r"chorus-store\[alphagenome-jax\].*github.com/google-deepmind"):
        small(metadata)


def test_the_command_line_offers_it(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.run(AlphaGenome, ["--backend", "jax", "--help"])
    assert ended.value.code == 0 and "--backend {torch,jax}" in capsys.readouterr().out
    with pytest.raises(InputError, match="'tensorflow' is not one of torch, jax"):
        AlphaGenome(Path("tracks"), backend="tensorflow")  # type: ignore[arg-type]


def test_the_reason_is_found_below_what_a_gpu_says_first() -> None:
    from builders.jax_runtime import JaxRuntime

    said = "NOT_FOUND: All configs failed during profiling.\nRESOURCE_EXHAUSTED: Out of memory (21.99GiB).\nTrace:"
    found = r"lower --batch \(RESOURCE_EXHAUSTED: Out of memory \(21.99GiB\)\.\)"
    with pytest.raises(DeviceMemoryError, match=found), JaxRuntime("cpu", "fp32").active():
        raise jax.errors.JaxRuntimeError(said)
    with pytest.raises(jax.errors.JaxRuntimeError, match="INVALID"), JaxRuntime("cpu", "fp32").active():
        raise jax.errors.JaxRuntimeError("INVALID_ARGUMENT: no")


class Scarce(AlphaGenome):
    """On a device that has memory for two sequences."""

    def load(self, weights: Path | None, *, device: str = "cpu", precision: str = "fp32", seed: int = 0) -> None:
        super().load(weights, device=device, precision=precision, seed=seed)
        backend: Any = self._backend
        trunk = backend._trunk

        def limited(values: Any, codes: np.ndarray) -> Any:
            if len(codes) > 2:
                raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 9 bytes.")
            return trunk(values, codes)

        backend._trunk = limited


def test_a_build_whose_batch_is_halved(
    metadata: Path, values: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_one_gene(tmp_path)
    sizes = {"n-variants": 3, "n-random": 4, "n-tss": 1, "n-gene-bodies": 0, "bin-slots": 8, "batch": 4}
    command = ["--fasta", str(tmp_path / "g.fa"), "--gtf", str(tmp_path / "g.gtf"), "--tracks", str(metadata)]
    command += ["--weights", str(save(values, tmp_path / "w")), "--size", "small", "--out", str(tmp_path / "out")]
    command += ["--backend", "jax", "--device", "cpu", "--precision", "fp32"]
    command += ["--ccre", "all=0", "--variant-margin-bp", "26000", "--random-margin-bp", "26000"]
    command += [part for name, n in sizes.items() for part in (f"--{name}", str(n))]
    assert cli.run(Scarce, command) == 0
    assert "out of memory: 2 sequences at a time instead of 4" in caplog.text
    with chorus_store.open(tmp_path / "out/alphagenome.zarr") as store:
        assert len(store["layer"]) == 52
        assert set(store["effect_count"].values.tolist()) == {3}
        assert set(store["summary_count"].values.tolist()) == {5}
        assert store.attrs["provenance"]["parameters"]["oracle"]["backend"] == "jax"
