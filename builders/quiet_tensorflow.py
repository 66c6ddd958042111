"""TensorFlow, imported without its start-up notices."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def _silent_standard_error() -> Iterator[None]:
    # At the level of the descriptor: the notices come from C++, before any log level applies.
    saved = os.dup(2)
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


# Whatever matters is raised as an exception, too.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
with _silent_standard_error(), warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import tensorflow as tf

__all__ = ["tf"]
