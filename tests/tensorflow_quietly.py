"""TensorFlow, or a skip that says why; imported without the warnings of its own dependencies."""

from __future__ import annotations

import os
import warnings

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    tf = pytest.importorskip("tensorflow", reason="TensorFlow is not installed (extra enformer-tf)")
