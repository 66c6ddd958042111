"""Which device a build runs on when none is named, and what a device is."""

from __future__ import annotations

import argparse
import platform
import re
import shutil
import sys

from chorus_store.errors import InputError


def asked_device(args: argparse.Namespace) -> str:
    """The device that a command line names, or else the default of the framework that it names.

    Raises
    ------
    InputError
        It is named twice, or its number is none.
    """
    if args.gpu is not None and args.device is not None:
        raise InputError("--gpu and --device exclude each other")
    if args.gpu is not None:
        return f"cuda:{args.gpu}"
    device = args.device or default_device(getattr(args, "backend", "torch"))
    parts_of(device)  # raises here, not once the work is done
    return str(device)


def parts_of(device: str) -> tuple[str, int]:
    """Kind and number of a device; 0 where it names none.

    Raises
    ------
    InputError
        The number is none.

    Examples
    --------
    >>> parts_of("cuda:1")
    ('cuda', 1)
    """
    kind, colon, number = device.partition(":")
    if not kind or (colon and not re.fullmatch("[0-9]{1,9}", number)):
        raise InputError(f"{device!r} names no device; give cpu, cuda or one of several, such as cuda:1 (--device)")
    return kind, int(number or 0)


def default_device(framework: str = "torch") -> str:
    """``cuda:0`` where the framework sees a GPU, or NVIDIA's driver if the framework is not here; else ``cpu``.

    Parameters
    ----------
    framework : str
        ``torch``, ``tensorflow`` or ``jax``; of any other the driver is asked.
    """
    try:
        sees_gpu = bool(_GPUS_OF[framework]())
    except (KeyError, ImportError):
        sees_gpu = shutil.which("nvidia-smi") is not None
    return "cuda:0" if sees_gpu else "cpu"


def hardware_of(device: str) -> str:
    """What a device is: model of the GPU; else architecture of the processor, and the number of PyTorch's threads.

    Sums are split among threads, so facts that are made on a processor depend on their number in the last bits.
    """
    kind, number = parts_of(device)
    if kind == "cuda":
        for framework, gpus_of in _GPUS_OF.items():
            gpus = gpus_of() if framework in sys.modules else []  # nothing is imported for a record
            if number < len(gpus):
                return gpus[number]
    processor = platform.processor() or platform.machine()
    torch = sys.modules.get("torch")
    return processor if torch is None else f"{processor}, {torch.get_num_threads()} threads"


def _gpus_of_torch() -> list[str]:
    import torch

    return [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]


def _gpus_of_tensorflow() -> list[str]:
    from builders.quiet_tensorflow import tf

    details = map(tf.config.experimental.get_device_details, tf.config.list_physical_devices("GPU"))
    return [str(detail.get("device_name", "GPU")) for detail in details]


def _gpus_of_jax() -> list[str]:
    import jax

    return [str(device.device_kind) for device in jax.devices() if device.platform == "gpu"]


_GPUS_OF = {"torch": _gpus_of_torch, "tensorflow": _gpus_of_tensorflow, "jax": _gpus_of_jax}
