"""Real Dask clusters that leave the process as it was."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def local_cluster(n_workers: int, threads_per_worker: int) -> Iterator[Any]:
    """A cluster of processes on this machine.

    To give its workers one thread for their products, distributed changes the environment of this process and leaves
    it so. A model in a process that is started later would have one thread too, and so other last bits.
    """
    before = dict(os.environ)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # distributed, of ports and of its own clean-up
            from distributed import LocalCluster

            with LocalCluster(
                n_workers=n_workers, threads_per_worker=threads_per_worker, dashboard_address=None
            ) as cluster:
                yield cluster
    finally:
        os.environ.clear()
        os.environ.update(before)
