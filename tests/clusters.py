"""Real Dask clusters that leave the process as it was."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dask


@contextmanager
def local_cluster(n_workers: int, threads_per_worker: int) -> Iterator[Any]:
    """A cluster of processes on this machine.

    To give its workers one thread for their products, distributed changes the environment of this process and leaves
    it so. A model in a process that is started later would have one thread too, and so other last bits.
    """
    before = dict(os.environ)
    # A worker that no longer answers, as happens to one in many on a busy machine, is started again.
    patience = {"distributed.scheduler.worker-ttl": "60s"}
    try:
        with warnings.catch_warnings(), dask.config.set(patience):
            warnings.simplefilter("ignore")  # distributed, of ports and of its own clean-up
            from distributed import LocalCluster

            with LocalCluster(
                n_workers=n_workers, threads_per_worker=threads_per_worker, dashboard_address=None
            ) as cluster:
                yield cluster
    finally:
        os.environ.clear()
        os.environ.update(before)
