"""Which device a build runs on when none is named."""

from __future__ import annotations


def default_device() -> str:
    """``cuda:0`` where PyTorch sees a GPU, else ``cpu``."""
    try:
        import torch
    except ImportError:
        return "cpu"
    return "cuda:0" if torch.cuda.is_available() else "cpu"
