"""Which device a build runs on when none is named, and what a device is."""

from __future__ import annotations

import platform
import shutil
import sys


def default_device() -> str:
    """``cuda:0`` where PyTorch, or without it NVIDIA's driver, sees a GPU; else ``cpu``."""
    try:
        import torch
    except ImportError:
        return "cuda:0" if shutil.which("nvidia-smi") else "cpu"
    return "cuda:0" if torch.cuda.is_available() else "cpu"


def hardware_of(device: str) -> str:
    """What a device is: model of the GPU; else architecture of the processor, and the number of PyTorch's threads.

    Sums are split among threads, so facts that are made on a processor depend on their number in the last bits.
    """
    torch = sys.modules.get("torch")
    if torch is not None and device.startswith("cuda") and torch.cuda.is_available():
        return str(torch.cuda.get_device_name(device))
    processor = platform.processor() or platform.machine()
    return processor if torch is None else f"{processor}, {torch.get_num_threads()} threads"
