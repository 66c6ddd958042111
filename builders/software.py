"""Versions of everything that a result may depend on."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
from pathlib import Path

_PACKAGES = (
    "chorus-store", "numpy", "zarr", "numcodecs", "pcodec", "google-crc32c", "isal", "xarray", "dask", "numba",
    "pyfaidx", "biopython", "pandas", "torch", "enformer-pytorch", "borzoi-pytorch", "alphagenome-pytorch", "h5py",
    "safetensors", "tensorflow", "alphagenome-research", "jax", "jaxlib", "dm-haiku",
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
    """Revision of the checkout that this file is in, with ``-dirty`` where it was changed; None outside one.

    A copy that is installed below a checkout of something else is none of it: git does not know this file then.
    """
    file = Path(__file__).resolve()
    try:
        _git(file.parent, "ls-files", "--error-unmatch", file.name)
        return _git(file.parent, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.strip()
