"""What importing the package imports, and that the accessor is there whichever of it and xarray comes first."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {"torch", "tensorflow", "dask", "distributed", "numba", "jsonschema", "matplotlib", "builders"}
LABELS = {"xarray", "pandas"}


def fresh(code: str) -> list[str]:
    """What code prints in a fresh interpreter, as words."""
    command = [sys.executable, "-W", "error", "-c", f"import sys\n{code}"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import chorus_store", HEAVY | LABELS | {"zarr", "fsspec", "numpy"}),
        ("import chorus_store.normalizer", HEAVY | LABELS | {"aiohttp"}),
        ("from chorus_store.places import open_group", HEAVY | LABELS | {"aiohttp"}),
        ("import chorus_store, xarray", HEAVY | {"aiohttp"}),
        ("import chorus_store.comparison, chorus_store.drift_picture", HEAVY | {"aiohttp"}),
        ("import chorus_store.engine", HEAVY | {"aiohttp"}),
    ],
)
def test_what_is_not_imported(statement: str, absent: set[str]):
    loaded = fresh(f"{statement}\nprint(*sys.modules)")
    assert "chorus_store" in loaded
    assert not absent & set(loaded)


@pytest.mark.parametrize(
    "statements",
    [
        "import chorus_store, xarray",
        "import xarray, chorus_store",
        "from xarray import Dataset; import chorus_store, xarray",
        "import chorus_store; from xarray.core import dataset; import xarray",
        "import chorus_store.accessor, xarray",
        "import chorus_store; chorus_store.ChorusAccessor; import xarray",
    ],
)
def test_the_accessor_is_registered_in_any_order(statements: str):
    code = (
        f"{statements}\n"
        "assert xarray.Dataset.chorus is chorus_store.ChorusAccessor\n"
        "assert not any(type(finder).__module__.startswith('chorus_store') for finder in sys.meta_path)\n"
        "print(type(xarray.__spec__.loader).__name__)"
    )
    assert fresh(code) == ["SourceFileLoader"]


def test_what_the_package_offers():
    code = (
        "import chorus_store\n"
        "assert set(chorus_store.__all__) <= set(dir(chorus_store))\n"
        "from chorus_store import *\n"
        "assert open is chorus_store.open and PerTrackNormalizer and ChorusAccessor and ChorusStoreError\n"
        "assert not hasattr(chorus_store, 'nonsense')\n"
        "print(chorus_store.__version__)"
    )
    assert len(fresh(code)) == 1
