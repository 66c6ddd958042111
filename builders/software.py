"""Versions of everything that a result may depend on."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
from pathlib import Path

_PACKAGES = (
    "chorus-store", "numpy", "zarr", "numcodecs", "xarray", "dask", "numba", "pyfaidx",
    "torch", "enformer-pytorch", "borzoi-pytorch", "h5py", "tensorflow",
)  # fmt: skip


def software_versions() -> dict[str, str | None]:
    """Version of every package that matters, None where it is absent, and the git revision of a checkout."""
    versions: dict[str, str | None] = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    return {**versions, "git_revision": git_revision()}


def git_revision() -> str | None:
    """Revision of the checkout that this file is in, with ``-dirty`` where it was changed; None outside one."""
    folder = Path(__file__).parent
    try:
        text = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40"],
            cwd=folder, capture_output=True, text=True, check=True, timeout=10,
        ).stdout  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return text.strip() or None
