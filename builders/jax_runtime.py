"""Device, precision and memory of a model on JAX."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax

from builders.devices import parts_of
from chorus_store.errors import BackendUnavailableError, DeviceMemoryError, InputError

PRECISIONS = ("fp32", "bf16")


class JaxRuntime:
    """Where and in which arithmetic a model runs.

    Parameters
    ----------
    device : str
        ``cpu``, ``cuda:0``, …
    precision : {"fp32", "bf16"}

    Raises
    ------
    InputError
        There is no such precision, or no such name of a device.
    BackendUnavailableError
        There is no such device.
    """

    def __init__(self, device: str, precision: str) -> None:
        if precision not in PRECISIONS:
            raise InputError(f"the jax backend has {' and '.join(PRECISIONS)}, not {precision!r} (--precision)")
        self.precision = precision
        self.device = _device(device)

    @contextmanager
    def active(self) -> Iterator[None]:
        """Arrays are made on the device, and float32 is multiplied as such, not as TensorFloat-32.

        Raises
        ------
        DeviceMemoryError
            The device runs out of memory inside.
        """
        try:
            with jax.default_device(self.device), jax.default_matmul_precision("highest"):
                yield
        except jax.errors.JaxRuntimeError as error:
            # Where a kernel could not even be tried out, the reason is below lines about the trying.
            reasons = [line for line in str(error).splitlines() if "RESOURCE_EXHAUSTED" in line]
            if not reasons:
                raise
            raise DeviceMemoryError(f"the device is out of memory; lower --batch ({reasons[0].strip()})") from error


def _device(name: str) -> Any:
    kind, number = parts_of(name)
    try:
        return jax.devices(kind)[number]
    except (RuntimeError, IndexError) as error:
        available = ["cpu", *(f"cuda:{device.id}" for device in jax.devices() if device.platform == "gpu")]
        raise BackendUnavailableError(
            f"JAX has no device {name!r} here; there is {', '.join(available)} (--device)"
        ) from error
