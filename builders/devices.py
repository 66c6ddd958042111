"""Which device a build runs on when none is named."""

from __future__ import annotations

import shutil


def default_device() -> str:
    """``cuda:0`` where PyTorch, or without it NVIDIA's driver, sees a GPU; else ``cpu``."""
    try:
        import torch
    except ImportError:
        return "cuda:0" if shutil.which("nvidia-smi") else "cpu"
    return "cuda:0" if torch.cuda.is_available() else "cpu"
