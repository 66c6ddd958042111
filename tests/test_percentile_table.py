"""Tables of tracks and values: every answer is the accessor's, every bad row is named, files are whole or not there."""

from __future__ import annotations

import csv
import gzip
import io
import os
import re
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import chorus_store
from chorus_store import percentile_table
from chorus_store.errors import InputError, StoreWriteError
from chorus_store.percentile_table import rank_table
from tests.memory import peak_growth
from tests.stores import make_store

TRACKS = ["DNASE:00000", "CHIP:00001", "CHIP:00002", "CAGE:00003", "RNA:00004", "DNASE:00005", "CHIP:00006"]
EMPTY = "CAGE:00003"
HEADER = "variant\ttrack\tvalue\n"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> xr.Dataset:
    path = make_store(tmp_path_factory.mktemp("table") / "enformer.zarr", empty=(3,), decimals=2)
    return chorus_store.open(path)


def written(folder: Path, text: str, name: str = "in.tsv") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        delimiter = "\t" if "\t" in file.readline() else ","
        file.seek(0)
        return list(csv.DictReader(file, delimiter=delimiter))


@pytest.mark.parametrize("cdf", ["effect", "summary"])
@pytest.mark.parametrize("method", ["weak", "randomized"])
def test_answers_are_those_of_the_accessor(store: xr.Dataset, tmp_path: Path, cdf: Any, method: Any):
    rows = [(f"v{i}", track, value) for i, track in enumerate(TRACKS) for value in (-0.5, 1.25, 99.0) if track != EMPTY]
    table = written(tmp_path, HEADER + "".join(f"{v}\t{t}\t{x}\n" for v, t, x in rows))
    assert rank_table(store, table, tmp_path / "out.tsv", cdf=cdf, method=method) == len(rows)
    out = read(tmp_path / "out.tsv")
    assert [(row["variant"], row["track"], float(row["value"])) for row in out] == rows
    for row in out:
        answer = store.chorus.percentile(float(row["value"]), row["track"], cdf, method)
        error = store.chorus.standard_error(answer, row["track"], cdf)
        assert list(row)[3:] == [f"{cdf}_percentile", f"{cdf}_standard_error"]
        assert float(row[f"{cdf}_percentile"]) == answer
        assert float(row[f"{cdf}_standard_error"]) == pytest.approx(error, rel=5e-3)


def test_signs_are_those_asked_for(store: xr.Dataset, tmp_path: Path):
    table, out = written(tmp_path, "track,value\nRNA:00004,-0.5\n"), tmp_path / "out.csv"
    for signed in (None, True, False):
        rank_table(store, table, out, signed=signed)
        assert float(read(out)[0]["effect_percentile"]) == store.chorus.percentile(-0.5, "RNA:00004", signed=signed)


@settings(deadline=None, max_examples=25)
@given(
    rows=st.lists(st.tuples(st.sampled_from(TRACKS[:3]), st.floats(-4, 4), st.text('ab ,"\t\n', max_size=5))),
    delimiter=st.sampled_from(",\t"),
    batch=st.integers(1, 4),
)
def test_any_table_in_any_batches(
    store: xr.Dataset, tmp_path_factory: pytest.TempPathFactory, rows: list[Any], delimiter: str, batch: int
):
    folder = tmp_path_factory.mktemp("any")
    buffer = io.StringIO()
    csv.writer(buffer, delimiter=delimiter).writerows([("track", "value", "note"), *rows])
    table = folder / "in"
    table.write_text(buffer.getvalue(), newline="")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(percentile_table, "_BATCH_ROWS", batch)
        assert rank_table(store, table, folder / "out") == len(rows)
    with (folder / "out").open(newline="") as file:
        _, *found = csv.reader(file, delimiter=delimiter)
    assert [(track, float(value), note) for track, value, note, *_ in found] == rows
    expected = [store.chorus.percentile(value, track) for track, value, _ in rows]
    assert [float(row[3]) for row in found] == expected


def test_what_is_missing_stays_missing(store: xr.Dataset, tmp_path: Path):
    table = written(tmp_path, f"track,value\nRNA:00004,NA\nRNA:00004,\nRNA:00004,nan\n\n{EMPTY},0.5\nRNA:00004,inf\n")
    with pytest.warns(UserWarning, match=f"no effect background, so NaN, for track {EMPTY}"):
        assert rank_table(store, table, tmp_path / "out.csv") == 5
    lines = (tmp_path / "out.csv").read_text().splitlines()
    assert lines[1:5] == ["RNA:00004,NA,,", "RNA:00004,,,", "RNA:00004,nan,,", f"{EMPTY},0.5,,"]
    assert lines[5].startswith("RNA:00004,inf,1.0,0.0")


@pytest.mark.parametrize("text", [".", "n/a", "N/A", "#N/A", "<NA>", "NULL", "null", "None", "NaN", " NA "])
def test_what_others_write_for_a_missing_value(store: xr.Dataset, tmp_path: Path, text: str):
    rank_table(store, written(tmp_path, f"track,value\nRNA:00004,{text}\n"), tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text().splitlines()[1] == f"RNA:00004,{text},,"


@pytest.mark.parametrize("text", ["1_0", "١", "0x1", "..", "-"])
def test_what_is_no_number(store: xr.Dataset, tmp_path: Path, text: str):
    with pytest.raises(InputError, match=f"line 2: '{re.escape(text)}' is not a number"):
        rank_table(store, written(tmp_path, f"track,value\nRNA:00004,{text}\n"), tmp_path / "out.csv")


def test_identifiers_may_be_spelt_otherwise_and_are_carried_as_they_are(store: xr.Dataset, tmp_path: Path):
    table = written(tmp_path, "id\tx\nRNA_00004\t0.5\nhg38:DNASE:00000:+\t0.5\nRNA:00004:-\t0.5\n")
    with pytest.raises(
        InputError, match=r"line 3: no track 'hg38:DNASE:00000:\+' in the store; near matches: DNASE:0000"
    ):
        rank_table(store, table, track_column="id", value_column="x")
    table = written(tmp_path, "id\tx\nRNA_00004\t0.5\nRNA:00004:-\t0.5\n")
    rank_table(store, table, tmp_path / "out.tsv", track_column="id", value_column="x")
    out = read(tmp_path / "out.tsv")
    assert [row["id"] for row in out] == ["RNA_00004", "RNA:00004:-"]
    assert [float(row["effect_percentile"]) for row in out] == [store.chorus.percentile(0.5, "RNA:00004")] * 2


def test_gzip_in_and_out_is_seen_from_the_contents(store: xr.Dataset, tmp_path: Path):
    text = "\ufeff" + HEADER.replace("\n", "\r\n") + "v\tRNA:00004\t0.5\r\n"  # as a spreadsheet writes it
    plain, packed = tmp_path / "in.tsv", tmp_path / "in.dat"
    plain.write_bytes(text.encode())
    packed.write_bytes(gzip.compress(text.encode()))
    rank_table(store, plain, tmp_path / "plain.tsv")
    rank_table(store, packed, tmp_path / "packed.tsv.gz")
    assert gzip.decompress((tmp_path / "packed.tsv.gz").read_bytes()) == (tmp_path / "plain.tsv").read_bytes()


def test_through_pipes(
    store: xr.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    text = "track,value\nRNA:00004,0.5\n"
    rank_table(store, written(tmp_path, text), tmp_path / "out.csv")
    expected = (tmp_path / "out.csv").read_text()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert rank_table(store, "-") == 1
    assert capsys.readouterr().out == expected
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        writer = threading.Thread(target=(tmp_path / "pipe").write_text, args=(text,))
        writer.start()
        rank_table(store, tmp_path / "pipe")
        writer.join()
        assert capsys.readouterr().out == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no column 'track'; its header has nothing"),
        ("track\tscore\n", "has no column 'value'; its header has track, score. Name the columns"),
        ("track;value\nRNA:00004;1,5\n", "columns seem to be separated by semicolons; separate them by tabs or commas"),
        ("track value\nRNA:00004 1\n", "columns seem to be separated by spaces; separate"),
        (
            "variant\tDNASE:00000\tCHIP:00001\nrs1\t0.1\t0.2\n",
            "columns that are tracks, DNASE:00000 the first: give it a row for each variant and track, in pandas by "
            "table.melt(['variant'], var_name='track', value_name='value')",
        ),
        ("variant," + ",".join(f"x{i}" for i in range(99)) + "\n", "x7, x8 and 90 more. Name the columns"),
        ("track,track,value\n", "has two columns 'track'"),
        ("track,value,effect_percentile\n", "has a column effect_percentile already; rename it"),
        (
            "track,value\nRNA:00004,x\nRNA:00004\n",
            "\n  line 2: 'x' is not a number\n  line 3: 1 fields, but the header has 2",
        ),
        ("track,value\nRNA:0004,1\n", "line 2: no track 'RNA:0004' in the store; near matches: RNA:00004"),
        ('track,value,note\nRNA:00004,1,"two\nlines"\nRNA:00004,1,2,3\n', "line 4: 4 fields"),
        ('track,value\nRNA:00004,"1"2\n', "line 2: ',' expected after '\"'; correct the quotes"),
        ('track,value\nRNA:00004,"1\n', "line 2: unexpected end of data"),
        (
            "track,value\n" + "x,y\n" * 99,
            "line 11: no track 'x' in the store; nothing looks like it\n  and perhaps more",
        ),
    ],
)
def test_bad_tables_are_refused_before_any_work(store: xr.Dataset, tmp_path: Path, text: str, message: str):
    out = written(tmp_path, "what was there", "out.csv")
    with pytest.raises(InputError) as refusal:
        rank_table(store, written(tmp_path, text), out)
    assert message in str(refusal.value)
    assert out.read_text() == "what was there"
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (b"track,value\nRNA:00004,\xff\n", "is not text in UTF-8"),
        (gzip.compress(b"track,value\n" + b"RNA:00004,1\n" * 1000)[:60], "cannot be read"),
        (b"\x1f\x8b" + bytes(50), "cannot be read"),
        (b"PK\x03\x04\x00", "has no column 'track'"),
    ],
    ids=["latin-1", "half-gzip", "no-gzip", "zip"],
)
def test_what_is_no_table(store: xr.Dataset, tmp_path: Path, contents: bytes, message: str):
    table = tmp_path / "in"
    table.write_bytes(contents)
    with pytest.raises(InputError, match=message):
        rank_table(store, table, tmp_path / "out")
    with pytest.raises(InputError, match=r"none cannot be read \(No such file or directory\)"):
        rank_table(store, tmp_path / "none", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_result_that_cannot_be_written(store: xr.Dataset, tmp_path: Path):
    table = written(tmp_path, "track,value\nRNA:00004,1\n")
    with pytest.raises(StoreWriteError, match=r"cannot write .*No such file or directory"):
        rank_table(store, table, tmp_path / "none" / "out.csv")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peak memory is read from /proc")
def test_memory_does_not_grow_with_the_table(tmp_path: Path):
    path = make_store(tmp_path / "enformer.zarr")
    code = "import chorus_store, chorus_store.percentile_table as module; module._BATCH_ROWS = 1000\n"
    code += (
        "with chorus_store.open(arguments[0]) as store: module.rank_table(store, arguments[1], arguments[1] + '.out')"
    )
    peaks = []
    for n_rows in (20_000, 200_000):
        table = written(tmp_path, "track,value\n" + "RNA:00004,0.5\nCHIP:00001,0.25\n" * (n_rows // 2))
        peaks.append(peak_growth(code, path, table))
    assert peaks[1] - peaks[0] < 2**21
