"""CI-SpliceAI: the published weights against the published graph, and the whole chain on a real chromosome."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

import chorus_store
from benchmarks.splice_sites import annotated_sites, percentiles, random_sites
from builders import check, cli, conformance, fetch
from builders.cispliceai import CONTEXT_BP, OUTPUT_BP, CISpliceAI
from builders.resources import RESOURCES
from chorus_store.errors import BackendUnavailableError, InputError, ModelError, WeightsError
from chorus_store.genome import Genome
from chorus_store.npz_file import open_npz_file
from chorus_store.sequence import Codes, one_hot
from tests.test_real_run import chr20 as chr20  # a fixture

pytest.importorskip("torch", reason="PyTorch is not installed (extra cispliceai)")


@pytest.fixture(scope="module")
def published() -> Path:
    file = fetch.installed(RESOURCES["cispliceai"])
    if file is None:
        pytest.skip("no published weights: pip install --no-deps cispliceai==1.2.2")
    return file


@pytest.fixture(scope="module")
def oracle(published: Path) -> CISpliceAI:
    made = CISpliceAI()
    made.load(published)
    return made


def random_codes(n: int, seed: int = 0) -> Codes:
    return np.random.default_rng(seed).integers(0, 5, (n, CISpliceAI.input_length_bp), dtype=np.uint8)


@pytest.mark.tensorflow
def test_equals_the_published_graph(oracle: CISpliceAI, published: Path) -> None:
    tf = pytest.importorskip("builders.quiet_tensorflow", reason="TensorFlow is not installed").tf
    graph = tf.compat.v1.GraphDef.FromString(published.read_bytes())
    wrapped = tf.compat.v1.wrap_function(lambda: tf.compat.v1.import_graph_def(graph, name=""), [])
    predict = wrapped.prune("x:0", "Identity:0")
    codes = random_codes(1)
    complement = np.array([3, 2, 1, 0, 4], np.uint8)[codes[:, ::-1]]
    plus, minus = (predict(tf.constant(one_hot(strand))).numpy()[:, :, 1:] for strand in (codes, complement))
    theirs = np.concatenate([plus, minus[:, ::-1]], axis=2)
    np.testing.assert_allclose(oracle.predict(codes), theirs, rtol=1e-4, atol=1e-9)


def test_the_published_weights_conform(published: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check.run(["builders.cispliceai", "--weights", str(published)]) == 0
    assert capsys.readouterr().out == "CISpliceAI: conforms\n"


def test_the_last_layer_runs_in_float32_whatever_the_others_do() -> None:
    import torch

    small = CISpliceAI("small")
    small.load(None, precision="bf16", seed=1)
    logits: list[torch.Tensor] = []
    assert small._net is not None
    for member in small._net.members:
        member.register_forward_hook(lambda module, inputs, output: logits.append(output))
    small.predict(random_codes(1))
    for values in logits:
        assert values.dtype == torch.float32 and (values != values.bfloat16().float()).float().mean() > 0.9


def test_conforms() -> None:
    small = CISpliceAI("small")
    small.load(None, seed=1)
    assert conformance.check(small, {"splicing": 4}, repeats=8) == []
    assert small.input_length_bp == OUTPUT_BP + 2 * CONTEXT_BP


def test_the_strands_mirror_each_other() -> None:
    small = CISpliceAI("small")
    small.load(None, seed=2)
    codes = random_codes(2)
    there, back = small.predict(codes), small.predict(np.array([3, 2, 1, 0, 4], np.uint8)[codes[:, ::-1]])
    np.testing.assert_allclose(there[:, :, :2], back[:, ::-1, 2:], rtol=1e-5)
    np.testing.assert_allclose(there[:, :, 2:], back[:, ::-1, :2], rtol=1e-5)


@pytest.mark.shared
def test_real_weights_on_a_real_chromosome(
    oracle: CISpliceAI, shared: Path, chr20: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gtf = shared / "data/gencode_v44_mane_chr20.gtf.gz"
    arguments = [
        *("--fasta", str(chr20), "--gtf", str(gtf), "--out", str(tmp_path), "--offline", "--json", "--batch", "4"),
        *("--n-variants", "6", "--n-random", "16", "--n-tss", "2", "--n-gene-bodies", "2", "--ccre", "all=0"),
    ]
    assert cli.run(CISpliceAI, arguments) == 0
    said = json.loads(capsys.readouterr().out)
    scored = said["baselines"]["sequences"]
    assert said["variants"]["sequences"] == 12 and 10 <= scored <= 20, "some random positions lie among unknown bases"
    with chorus_store.open(tmp_path / "cispliceai.zarr") as store, Genome(chr20) as genome:
        assert store.attrs["demo"] is False and set(store["layer"].values) == {"splicing"}
        assert set(store["effect_count"].values) == {6} and set(store["summary_count"].values) == {scored}
        assert set(store["perbin_count"].values) == {scored * 32}
        assert store.attrs["provenance"]["inputs"]["weights"]["name"] == "CI-SpliceAI.pb"
        sites = annotated_sites(gtf, {"chr20"})
        assert len(sites.pos) > 8000
        chosen = np.random.default_rng(3).choice(len(sites.pos), 6, replace=False)
        annotated = percentiles(oracle, genome, store, type(sites)(*(column[chosen] for column in sites)))
        elsewhere = percentiles(oracle, genome, store, random_sites(sites, genome, 6, seed=3))
        # So small a background is coarse; the figures of a large one are in the README.
        assert np.median(annotated) > 0.9 > np.median(elsewhere)
        with open_npz_file(tmp_path / "cispliceai_pertrack.npz") as npz:
            assert npz.track_ids == ["acceptor:+", "donor:+", "acceptor:-", "donor:-"]
            np.testing.assert_array_equal(npz.read("summary_cdfs"), store["summary_cdf"].values)


def test_without_the_framework_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("builders.cispliceai_torch", "builders.torch_runtime"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(BackendUnavailableError, match=r"needs PyTorch .*pip install 'chorus-store\[cispliceai\]'"):
        CISpliceAI().load(None)


def test_another_size() -> None:
    with pytest.raises(InputError, match="'large' is not one of full, small"):
        CISpliceAI("large")  # type: ignore[arg-type]


def test_what_is_not_loaded_or_of_another_length() -> None:
    small = CISpliceAI("small")
    with pytest.raises(ModelError, match="not loaded"):
        small.predict(random_codes(1))
    small.load(None)
    with pytest.raises(ModelError, match=r"takes \(batch, 11000\) base codes, not \(1, 10999\)"):
        small.predict(random_codes(1)[:, 1:])


def test_files_that_are_not_the_model(published: Path, tmp_path: Path) -> None:
    oracle, file = CISpliceAI(), tmp_path / "model.pb"
    whole = published.read_bytes()
    with pytest.raises(WeightsError, match=r"No such file.*give CI-SpliceAI\.pb"):
        oracle.load(file)
    for content, finding in (
        (b"", "holds no weights"),
        (b"\x0a", "cannot be read as a frozen TensorFlow graph"),
        (b"\xff" * 40, "more than 64 bits"),
        (b"no graph at all", "cannot be read as a frozen TensorFlow graph"),
        (whole[: len(whole) // 2], "it ends in the middle"),
        (whole.replace(b"model_1/conv1d_39/BiasAdd/", b"model_1/conv1d_40/BiasAdd/"), r"missing: .*38\.bias; unknown"),
        (
            whole.replace(b"model_1/conv1d_39/BiasAdd/", b"model_1/conv2d_39/BiasAdd/"),
            "another model: it has model_1/c",
        ),
    ):
        file.write_bytes(content)
        with pytest.raises(WeightsError, match=finding):
            oracle.load(file)
    with pytest.raises(WeightsError, match="does not fit the architecture"):
        CISpliceAI("small").load(published)
