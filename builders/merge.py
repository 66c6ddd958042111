"""Facts → background → NPZ: the part of a build that needs neither genome nor model."""

from __future__ import annotations

import logging
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from tqdm import tqdm

from builders.runs import record_run
from builders.settings import Settings
from chorus_store import layout
from chorus_store.budget import cdfs_of
from chorus_store.claims import exclusively
from chorus_store.errors import InputError
from chorus_store.facts import FactStore
from chorus_store.npz import export_npz, is_current
from chorus_store.publish import publish

log = logging.getLogger("chorus.build")


def require_options(settings: Settings) -> None:
    """Refuse what merging would refuse, before hours of scoring: a codec or a cluster that is not to be had."""
    with layout.without_zarr_warnings():
        layout.cdf_codecs(settings.publish.codec)
    with _cluster(settings.dask):
        pass


def merge(path: Path, oracle: str, settings: Settings) -> Path:
    """Compact and publish the facts at ``path`` and export the NPZ; needs neither genome nor model.

    Returns
    -------
    Path
        The NPZ.

    Raises
    ------
    StoreBusyError
        Another process is doing that.
    ChorusStoreError
        As `publish` and `export_npz`.
    """
    with exclusively(path, " ".join(settings.command)):
        return _merge(path, oracle, settings)


def _merge(path: Path, oracle: str, settings: Settings) -> Path:
    began = time.perf_counter()
    store = FactStore(path)
    total = store.shape.n_tracks * len(cdfs_of(store.shape))
    with (
        _cluster(settings.dask) as client,
        tqdm(total=total, desc="compact", unit="track", disable=None) as bar,
    ):
        new = publish(path, settings.publish, client=client, on_rows=bar.update)
    npz = settings.npz_path(oracle)
    if new or not is_current(path, npz):
        export_npz(path, npz, allow_fewer_tracks=settings.publish.allow_fewer_tracks)
        record_run(path, settings, "merge", time.perf_counter() - began)
    else:
        log.info("%s and %s are up to date", path, npz)
    return npz


def _cluster(address: str | None) -> AbstractContextManager[Any]:
    """A client of the Dask cluster at an address, or nothing."""
    if address is None:
        return nullcontext()
    try:
        from distributed import Client

        return Client(address, timeout="10s", set_as_default=False)  # type: ignore[no-any-return]
    except ImportError:
        raise InputError("--dask needs the extra: pip install 'chorus-store[cluster]'") from None
    except (OSError, ValueError) as error:
        raise InputError(f"no Dask scheduler answers at {address} ({error}); check --dask ADDRESS") from error
