"""The package transformers, imported without TensorFlow."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def transformers_without_tensorflow() -> Iterator[None]:
    """For importing a package that imports transformers."""
    # Version 4 imports TensorFlow wherever it finds it: five seconds and half a gigabyte for nothing.
    before = os.environ.get("USE_TF")
    os.environ["USE_TF"] = "0"
    try:
        yield
    finally:
        if before is None:
            del os.environ["USE_TF"]
        else:
            os.environ["USE_TF"] = before
