"""Device, precision and memory of a PyTorch model, the same for every oracle."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch

from chorus_store.errors import BackendUnavailableError, DeviceMemoryError, InputError
from chorus_store.sequence import Codes

PRECISIONS = ("fp32", "tf32", "bf16")
Model = TypeVar("Model", bound=torch.nn.Module)


class TorchRuntime:
    """Where and in which arithmetic a model runs.

    Parameters
    ----------
    device : str
        ``cpu``, ``cuda:0``, …
    precision : {"fp32", "tf32", "bf16"}

    Raises
    ------
    InputError
        There is no such precision.
    BackendUnavailableError
        There is no such device.
    """

    def __init__(self, device: str, precision: str) -> None:
        if precision not in PRECISIONS:
            raise InputError(f"precision {precision!r} is not one of {', '.join(PRECISIONS)}")
        self.precision = precision
        self.device = _device(device)

    def place(self, model: Model) -> Model:
        """The model on the device, for inference alone.

        Raises
        ------
        DeviceMemoryError
            The device is out of memory.
        """
        with _out_of_memory_named():
            placed: Model = model.eval().requires_grad_(False).to(self.device)
            return placed

    def table(self, table: npt.NDArray[np.generic]) -> torch.Tensor:
        """A copy of an array on the device, such as a table of one-hot rows."""
        return torch.tensor(table).to(self.device)

    def one_hot(self, codes: Codes, table: torch.Tensor) -> torch.Tensor:
        """Encode sequences on the device, so that one byte per base travels; (batch, position, channel)."""
        return table[torch.tensor(codes).to(self.device).int()]

    @contextmanager
    def inference(self) -> Iterator[None]:
        """Nothing is recorded for gradients; `DeviceMemoryError` where the device runs out of memory."""
        with torch.inference_mode(), _out_of_memory_named():
            yield

    @contextmanager
    def arithmetic(self) -> Iterator[None]:
        """TensorFloat-32 on or off for the products and convolutions inside, as before afterwards."""
        matmul, cudnn = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
        torch.set_float32_matmul_precision("highest" if self.precision == "fp32" else "high")
        torch.backends.cudnn.allow_tf32 = self.precision != "fp32"
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(matmul)
            torch.backends.cudnn.allow_tf32 = cudnn

    def autocast(self) -> torch.autocast:
        """Bfloat16 inside, where that is the precision."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16")


@contextmanager
def _out_of_memory_named() -> Iterator[None]:
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        raise DeviceMemoryError(f"the device is out of memory; lower --batch ({error})") from error


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        available = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
        raise BackendUnavailableError(
            f"PyTorch has no device {name!r} here; there is {', '.join(available)} (--device)"
        ) from error
    return device
