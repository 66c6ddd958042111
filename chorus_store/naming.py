"""What the files of a background are called: a demonstration never takes the names of a real one."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

#: Stands for standard input or output where the name of a file is asked for.
STANDARD = "-"


def stem(oracle: str, demo: bool) -> str:
    """What the names of an oracle's files begin with.

    Examples
    --------
    >>> stem("sei", demo=False), stem("sei", demo=True)
    ('sei', 'sei_demo')
    """
    return f"{oracle}_demo" if demo else oracle


def store_name(oracle: str, demo: bool) -> str:
    """What the store of an oracle is called, ``{oracle}.zarr`` or ``{oracle}_demo.zarr``."""
    return f"{stem(oracle, demo)}.zarr"


def npz_name(oracle: str, demo: bool) -> str:
    """What the NPZ file of an oracle is called, ``{oracle}_pertrack.npz`` or ``{oracle}_demo_pertrack.npz``."""
    return f"{stem(oracle, demo)}_pertrack.npz"


def with_a_name(path: Path) -> Path:
    """The path as it is; of ``.`` and ``..``, which are the names of no folder, the whole path."""
    return path.resolve() if path.name in ("", "..") else path


def publishing(root: Mapping[str, Any], path: Path) -> str:
    """How to publish the build at a path, whose builder looks for it by its name.

    Parameters
    ----------
    root : mapping
        Root attributes of the build.
    path : Path
        Of the build.

    Examples
    --------
    >>> publishing({"oracle": {"name": "sei"}, "demo": True}, Path("all/sei_demo.zarr"))
    'python -m builders.sei --demo --part merge --out all'
    >>> publishing({"oracle": {"name": "sei"}, "demo": False}, Path("all/m.zarr"))
    'rename all/m.zarr to all/sei.zarr, then python -m builders.sei --part merge --out all'
    """
    path = with_a_name(path)
    oracle, demo = root["oracle"]["name"], root["demo"]
    found = path.with_name(store_name(oracle, demo))
    rename = "" if path == found else f"rename {path} to {found}, then "
    option = " --demo" if demo else ""
    return (
        f"{rename}python -m builders.{shlex.quote(oracle)}{option} --part merge --out {shlex.quote(str(path.parent))}"
    )
