"""The device of a build that names none."""

from __future__ import annotations

import shutil
import sys
from types import SimpleNamespace

import pytest

from builders import cli, devices, memory
from builders.alphagenome import AlphaGenome
from builders.options import parser_of
from chorus_store.errors import InputError

GPU = "NVIDIA H100 80GB HBM3"


@pytest.fixture
def no_gpu_for_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch's build for processors, as many have it beside another framework's build for GPUs."""
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)


def test_pytorch_without_a_gpu(no_gpu_for_torch: None) -> None:
    assert devices.default_device() == "cpu"
    assert "threads" in devices.hardware_of("cpu")


def test_a_gpu_that_pytorch_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda number: f"GPU {number}")
    assert devices.default_device() == "cuda:0"
    assert devices.hardware_of("cuda:1") == "GPU 1"
    assert devices.hardware_of("cuda") == "GPU 0"


def test_a_gpu_that_jax_alone_sees(monkeypatch: pytest.MonkeyPatch, no_gpu_for_torch: None) -> None:
    jax = pytest.importorskip("jax")
    assert devices.default_device("jax") == "cpu"
    found = [SimpleNamespace(platform="gpu", device_kind=GPU), SimpleNamespace(platform="cpu", device_kind="cpu")]
    monkeypatch.setattr(jax, "devices", lambda: found)
    assert devices.default_device("jax") == "cuda:0"
    assert devices.default_device("torch") == "cpu"
    assert devices.hardware_of("cuda:0") == GPU
    assert GPU not in devices.hardware_of("cuda:1")


@pytest.mark.tensorflow
def test_a_gpu_that_tensorflow_alone_sees(monkeypatch: pytest.MonkeyPatch, no_gpu_for_torch: None) -> None:
    from builders.quiet_tensorflow import tf

    assert devices.default_device("tensorflow") == "cpu"
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: ["a GPU"] if kind == "GPU" else [])
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda device: {"device_name": GPU})
    assert devices.default_device("tensorflow") == "cuda:0"
    assert devices.hardware_of("cuda:0") == GPU


@pytest.mark.parametrize("framework", ["jax", "onnx"])
def test_the_driver_is_asked_where_the_framework_cannot_be(monkeypatch: pytest.MonkeyPatch, framework: str) -> None:
    monkeypatch.setitem(sys.modules, "jax", None)
    monkeypatch.setattr(shutil, "which", lambda program: f"/usr/bin/{program}")
    assert devices.default_device(framework) == "cuda:0"
    monkeypatch.setattr(shutil, "which", lambda program: None)
    assert devices.default_device(framework) == "cpu"


def test_the_parts_of_a_device() -> None:
    named = {"cpu": ("cpu", 0), "cuda": ("cuda", 0), "cuda:12": ("cuda", 12), "mps": ("mps", 0), "meta": ("meta", 0)}
    assert {name: devices.parts_of(name) for name in named} == named
    for name in ("", ":0", "cuda:", "cuda:-1", "cpu:-1", "cuda:abc", "cuda:1:2", "cuda: 1", "cuda:\u0661"):
        for ask in (devices.parts_of, devices.hardware_of, memory.free_on_gpu):
            with pytest.raises(InputError, match="names no device; give cpu, cuda"):
                ask(name)


def test_jax_has_no_last_device() -> None:
    pytest.importorskip("jax")
    from builders.jax_runtime import JaxRuntime

    with pytest.raises(InputError, match="'cpu:-1' names no device"):
        JaxRuntime("cpu:-1", "fp32")


def test_the_command_line_asks_the_framework_of_its_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(devices, "default_device", lambda framework: asked.append(framework) or "cpu")
    for backend in ("torch", "jax"):
        args = parser_of(AlphaGenome).parse_args(["--demo", "--backend", backend])
        assert cli.settings_of(AlphaGenome, args).device == "cpu"
    assert asked == ["torch", "jax"]
