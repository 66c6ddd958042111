"""Fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.disturbed import builds as builds  # fixtures
from tests.disturbed import crash_server as crash_server
from tests.stub import stub_genome as stub_genome  # a fixture


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real inputs and golden outputs; tests that use it carry the marker ``shared``."""
    default = Path(__file__).resolve().parents[2] / "shared"
    folder = Path(os.environ.get("CHORUS_SHARED", default))
    if not (folder / "golden").is_dir():
        pytest.skip(f"no real inputs at {folder}; set CHORUS_SHARED to the folder that holds golden/ and data/")
    return folder


def pytest_make_parametrize_id(val: object) -> str | None:
    """Bytes are named by their number: what is compressed holds the time, and names must be the same in every run."""
    return f"{len(val)}-bytes" if isinstance(val, bytes) else None
