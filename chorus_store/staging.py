"""A store in the making: a folder beside the one that it replaces, sharing with it the files that stay as they are.

How it takes that one's place is in `chorus_store.swap`.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import zarr

from chorus_store import layout, manifest, seal
from chorus_store.files import write_atomically

#: Files that are being written, by a process that may be dead.
_UNFINISHED = "*.partial"


def consolidate(folder: Path) -> None:
    """Consolidate and seal the metadata of a root group that has nothing but the background yet."""
    with layout.without_zarr_warnings():
        zarr.consolidate_metadata(folder, zarr_format=3)
    node = json.loads((folder / "zarr.json").read_bytes())
    write_atomically(folder / "zarr.json", json.dumps(seal.sealed_background(node), indent=2).encode())


def link_background(store: Path, staging: Path) -> None:
    """Make ``staging`` of the files of a store's background: Zarr replaces files, it never writes into them."""
    _link(store, staging, without=(*layout.BUILD_GROUPS, manifest.MANIFEST))


def link_build(store: Path, staging: Path, *, facts: bool = True) -> None:
    """Take the groups of the build along, those that there are; with or without the facts."""
    for name in layout.BUILD_GROUPS:
        if (store / name).is_dir() and (facts or name != layout.SAMPLES):
            _link(store / name, staging / name)


def _link(source: Path, target: Path, without: Iterable[str] = ()) -> None:
    ignore = shutil.ignore_patterns(*without, _UNFINISHED)
    shutil.copytree(source, target, copy_function=os.link, ignore=ignore)
