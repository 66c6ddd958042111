"""Per-track backgrounds of genomic sequence-to-function models, as labelled Zarr stores.

Importing the package registers the xarray accessor ``Dataset.chorus``:

>>> import chorus_store
>>> store = chorus_store.open("enformer.zarr")  # doctest: +SKIP
>>> store.chorus.percentile(0.31, track="ENCFF833POA")  # doctest: +SKIP
0.9921

It imports neither xarray nor Zarr: what is asked of the package is imported when it is asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from chorus_store import _registration
from chorus_store.errors import ChorusStoreError

if TYPE_CHECKING:
    from chorus_store.accessor import ChorusAccessor
    from chorus_store.comparison import compare
    from chorus_store.normalizer import PerTrackNormalizer
    from chorus_store.opening import open

__all__ = ["ChorusAccessor", "ChorusStoreError", "PerTrackNormalizer", "__version__", "compare", "open"]

_MODULES = {
    "ChorusAccessor": "accessor",
    "PerTrackNormalizer": "normalizer",
    "compare": "comparison",
    "open": "opening",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        value: Any = _version()
    elif name in _MODULES:
        value = getattr(import_module(f"chorus_store.{_MODULES[name]}"), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("chorus-store")
    except PackageNotFoundError:  # a checkout that was never installed
        return "0+unknown"


_registration.register()
