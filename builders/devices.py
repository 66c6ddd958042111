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
    """Model of a GPU that PyTorch uses in this process, else the architecture of the processor."""
    torch = sys.modules.get("torch")
    if torch is not None and device.startswith("cuda") and torch.cuda.is_available():
        return str(torch.cuda.get_device_name(device))
    return platform.processor() or platform.machine()
