"""Pictures show the CDFs that were asked for, and the value where it belongs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
import xarray as xr
from matplotlib import pyplot as plt

import chorus_store
from chorus_store.errors import InputError, TrackNotFoundError
from chorus_store.picture import MAX_TRACKS
from tests.stores import make_store

UNSIGNED, SIGNED = "CHIP:00001", "RNA:00004"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> xr.Dataset:
    return chorus_store.open(make_store(tmp_path_factory.mktemp("picture") / "enformer.zarr", 12))


@pytest.fixture(autouse=True)
def no_window() -> Iterator[None]:
    with mpl.rc_context({"backend": "agg"}):
        yield
        plt.close("all")


def test_a_curve_passes_through_percentiles(store: xr.Dataset):
    ax = store.chorus.plot([UNSIGNED, SIGNED])
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "CHIP:CTCF:HepG2 (CHIP:00001)",
        "RNA:HepG2 (RNA:00004)",
    ]
    for line, track in zip(ax.get_lines(), (UNSIGNED, SIGNED), strict=True):
        x, y = line.get_data()
        np.testing.assert_array_equal(x, store["effect_cdf"].sel(track=track))
        np.testing.assert_array_equal(y, store.chorus.percentile(x, track))
    assert ax.get_xlabel() == "variant effect"


def test_a_value_is_marked_where_it_is_looked_up(store: xr.Dataset):
    ax = store.chorus.plot([UNSIGNED, SIGNED], value=-1.5)
    answers = store.chorus.percentile(-1.5, [UNSIGNED, SIGNED])
    points = [line.get_xydata()[0].tolist() for line in ax.get_lines() if line.get_marker() == "o"]
    assert points == [[1.5, answers[0]], [-1.5, answers[1]]]
    assert ax.get_legend().get_texts()[1].get_text() == f"RNA:HepG2 (RNA:00004): {answers[1]:.3g}"


def test_other_backgrounds_on_axes_of_ones_own(store: xr.Dataset):
    _, given = plt.subplots()
    ax = store.sel(track=UNSIGNED).chorus.plot(cdf="summary", value=-1.5, ax=given)
    assert ax is given
    np.testing.assert_array_equal(ax.get_lines()[0].get_xdata(), store["summary_cdf"].sel(track=UNSIGNED))
    assert ax.get_lines()[-1].get_xydata().tolist() == [[-1.5, 0.0]]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("window statistic", "percentile")


def test_what_cannot_be_drawn(store: xr.Dataset):
    with pytest.raises(InputError, match=f"12 tracks are too many for one picture; choose up to {MAX_TRACKS} "):
        store.chorus.plot()
    with pytest.raises(TrackNotFoundError, match="near matches"):
        store.chorus.plot("CHIP:0001")
    with pytest.raises(InputError, match="no background 'nothing'"):
        store.chorus.plot(UNSIGNED, "nothing")
    assert not plt.get_fignums(), "no empty figure is left"


def test_without_matplotlib_the_extra_is_named(tmp_path: Path):
    path = make_store(tmp_path / "enformer.zarr")
    code = "import sys, chorus_store; sys.modules['matplotlib'] = None; chorus_store.open(sys.argv[1]).chorus.plot()"
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)
    assert (
        "MissingPackageError: plots need matplotlib; install it with: pip install 'chorus-store[plot]'" in done.stderr
    )
