"""Per-track backgrounds of genomic sequence-to-function models, as labelled Zarr stores.

Importing the package registers the xarray accessor ``Dataset.chorus``:

>>> import chorus_store
>>> store = chorus_store.open("enformer.zarr")  # doctest: +SKIP
>>> store.chorus.percentile(0.31, track="ENCFF833POA")  # doctest: +SKIP
0.9921
"""

from importlib.metadata import PackageNotFoundError, version

from chorus_store.accessor import ChorusAccessor
from chorus_store.errors import ChorusStoreError
from chorus_store.opening import open

__all__ = ["ChorusAccessor", "ChorusStoreError", "__version__", "open"]

try:
    __version__ = version("chorus-store")
except PackageNotFoundError:  # a checkout that was never installed
    __version__ = "0+unknown"
