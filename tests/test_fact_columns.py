"""Columns read past Zarr are those that Zarr reads, and damage is seen."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chorus_store import layout
from chorus_store.errors import CorruptStoreError
from chorus_store.facts import FactStore
from chorus_store.units import Shape

NAME = "perbin/value"


def filled(path: Path, shape: Shape) -> FactStore:
    """Random facts, some of them missing."""
    store = FactStore.create(path, shape, {"identity": {}}, layout.root_attributes(), {})
    rng = np.random.default_rng(0)
    for unit in store.units("baselines"):
        facts = {
            array.name: rng.standard_normal(
                ((unit.stop - unit.start) * shape.slots(array), unit.stop_track - unit.first_track), np.float32
            )
            for array in shape.arrays("baselines")
        }
        facts[NAME][::5] = np.nan
        store.write(unit, facts, {})
    return store


@settings(max_examples=25, deadline=None)
@given(
    positions=st.integers(1, 40),
    block=st.integers(1, 16),
    tracks=st.sampled_from([1, 6, 70, 200]),
    one_per_unit=st.booleans(),
    data=st.data(),
)
def test_columns_are_those_that_zarr_reads(
    positions: int, block: int, tracks: int, one_per_unit: bool, data: st.DataObject
) -> None:
    tracks = min(tracks, 6) if one_per_unit else tracks
    first = data.draw(st.integers(0, tracks - 1))
    stop = data.draw(st.integers(first + 1, tracks))
    shape = Shape(0, positions, tracks, 3, block, 1 if one_per_unit else tracks)
    with tempfile.TemporaryDirectory() as folder:
        store = filled(Path(folder) / "facts.zarr", shape)
        for name in ("summary/value", NAME):
            columns = store.read_columns(name, first, stop)
            assert columns.flags.c_contiguous
            np.testing.assert_array_equal(columns, np.asarray(store.array(name)[:, first:stop]).T)


@pytest.mark.parametrize("damage", ["flip a value", "flip the index", "truncate", "empty", "remove"])
def test_damage_is_an_error_that_names_the_file(tmp_path: Path, damage: str) -> None:
    store = filled(tmp_path / "facts.zarr", Shape(0, 8, 70, 3, 4, 70))
    file = layout.shard_file(store.path, f"samples/{NAME}", (1, 0))
    raw = bytearray(file.read_bytes())
    if damage == "remove":
        file.unlink()
    else:
        raw[{"flip a value": 10, "flip the index": -10}.get(damage, 0)] ^= 1
        file.write_bytes(raw[: {"truncate": len(raw) // 2, "empty": 0}.get(damage, len(raw))])
    with pytest.raises(CorruptStoreError, match=r"perbin/value/c/1/0 is not what was written.*delete it"):
        store.read_columns(NAME, 0, 70)
