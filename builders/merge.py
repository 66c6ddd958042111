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
from builders.software import software_versions
from chorus_store.compact import cdfs_of
from chorus_store.errors import InputError
from chorus_store.facts import FactStore
from chorus_store.npz import export_npz
from chorus_store.publish import publish

log = logging.getLogger("chorus.build")


def merge(path: Path, oracle: str, settings: Settings) -> Path:
    """Compact and publish the facts at ``path`` and export the NPZ; needs neither genome nor model.

    Returns
    -------
    Path
        The NPZ.
    """
    began = time.perf_counter()
    store = FactStore(path)
    total = store.shape.n_tracks * len(cdfs_of(store.shape))
    with (
        _cluster(settings.dask) as client,
        tqdm(total=total, desc="compact", unit="track", disable=None) as bar,
    ):
        new = publish(path, settings.publish, software=software_versions(), client=client, on_rows=bar.update)
    npz = settings.npz_path(oracle)
    if new or not npz.exists():
        export_npz(path, npz)
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

        return Client(address, timeout="10s")  # type: ignore[no-any-return]
    except ImportError:
        raise InputError("--dask needs the extra: pip install 'chorus-store[cluster]'") from None
    except OSError as error:
        raise InputError(f"no Dask scheduler answers at {address} ({error}); check --dask ADDRESS") from error
