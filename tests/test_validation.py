"""A background is read from end to end, and what is wrong with it is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from chorus_store.cli import main
from chorus_store.errors import ChorusStoreError, CorruptStoreError, SchemaError
from chorus_store.layout import shard_file
from chorus_store.npz import export_npz
from chorus_store.publish import consolidate
from chorus_store.validation import validate
from tests.stores import make_store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return make_store(tmp_path / "enformer.zarr", empty=(3,))


def change(path: Path, name: str, index: Any, value: Any) -> None:
    zarr.open_group(path, mode="r+", use_consolidated=False)[name][index] = value


def test_what_is_in_order(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["validate", str(path)]) == 0
    assert capsys.readouterr().out == f"{path}: 21 rows, all in order\n"
    assert validate(export_npz(path, tmp_path / "enformer_pertrack.npz")) == 21


@pytest.mark.parametrize(
    ("name", "index", "value", "message"),
    [
        ("summary_cdf", (5, 7), 99.0, "the row of summary_cdf of track DNASE:00005 is missing or does not ascend"),
        ("perbin_cdf", (0, 0), np.nan, "the row of perbin_cdf of track DNASE:00000 is missing"),
        ("effect_cdf", (6, -1), np.inf, "the row of effect_cdf of track CHIP:00006 is missing"),
        ("effect_retained", 2, 99_999, "the count of effect of track CHIP:00002 contradicts"),
    ],
)
def test_what_is_wrong_is_named(path: Path, name: str, index: Any, value: Any, message: str):
    change(path, name, index, value)
    with pytest.raises(CorruptStoreError, match=message):
        validate(path)


def test_damaged_bytes_and_attributes(path: Path):
    shard = shard_file(path, "summary_cdf", (0, 0))
    data = bytearray(shard.read_bytes())
    data[100] ^= 1
    shard.write_bytes(data)
    with pytest.raises(CorruptStoreError, match="summary_cdf cannot be read"):
        validate(path)
    zarr.open_group(path, mode="r+", use_consolidated=False).attrs["genome"] = 38
    consolidate(path)
    with pytest.raises(SchemaError, match=r"\$.genome"):
        validate(path)
    with pytest.raises(ChorusStoreError, match="there is nothing"):
        validate(path.parent / "none.zarr")
