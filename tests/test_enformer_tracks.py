"""The track table of Enformer, real and broken."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from builders.enformer import Enformer
from builders.enformer_tracks import read_targets
from builders.targets import parse_description
from chorus_store.errors import InputError, TrackTableError

HEADER = "index\tgenome\tidentifier\tfile\tclip\tscale\tsum_stat\tdescription"
ROWS = (
    "0\t0\tENCFF833POA\t-\t32\t2\tmean\tDNASE:cerebellum male adult (27 years)",
    "1\t0\tENCFF776DPQ\t-\t32\t2\tmean\tCHIP:H3K27ac:K562",
    "2\t0\tENCFF601VTB\t-\t32\t2\tmean\tCHIP:CTCF:U2OS stably expressing Bmal1:Luc",
    "3\t0\tCNhs11250\t-\t384\t1\tsum\tCAGE:lung adenocarcinoma, papillary cell line:NCI-H441",
)


def write(folder: Path, *rows: str, header: str = HEADER) -> Path:
    path = folder / "targets.txt"
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def test_columns_of_a_table(tmp_path: Path) -> None:
    table = read_targets(write(tmp_path, *ROWS))
    assert table.track.tolist() == ["ENCFF833POA", "ENCFF776DPQ", "ENCFF601VTB", "CNhs11250"]
    assert table.assay.tolist() == ["DNASE", "CHIP", "CHIP", "CAGE"]
    assert table.layer.tolist() == ["chromatin_accessibility", "histone_marks", "tf_binding", "tss_activity"]
    assert table.cell_type.tolist() == [
        "cerebellum male adult (27 years)",
        "K562",
        "U2OS stably expressing Bmal1:Luc",
        "lung adenocarcinoma, papillary cell line:NCI-H441",
    ]
    assert table.channel.tolist() == [0, 1, 2, 3]
    assert set(table.strand.tolist()) == {"."} and set(table.head.tolist()) == {"human"}


def test_gzip_is_recognised_by_content_and_channels_follow_the_index(tmp_path: Path) -> None:
    path = tmp_path / "targets.txt"  # no suffix on purpose
    path.write_bytes(gzip.compress("\n".join([HEADER, ROWS[1], ROWS[0]]).encode()))
    table = read_targets(path)
    assert dict(zip(table.track.tolist(), table.channel.tolist(), strict=True)) == {
        "ENCFF776DPQ": 1,
        "ENCFF833POA": 0,
    }


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ((ROWS[0], ROWS[1].replace("ENCFF776DPQ", "ENCFF833POA")), r"line 3: ENCFF833POA is already"),
        ((ROWS[0], ROWS[2]), r"the 2 indices are not 0 to 1"),
        ((ROWS[0].replace("ENCFF833POA", ""),), r"line 2: no identifier"),
        ((ROWS[0].replace("0\t0", "zero\t0", 1),), r"line 2: .*zero"),
        ((ROWS[0].replace("DNASE", "HIC"),), r"line 2: unknown assay 'HIC'"),
        ((ROWS[0], "1\t0\tX"), r"line 3: 3 columns, not 8"),
        ((), r"no tracks"),
    ],
)  # fmt: skip
def test_bad_rows_are_named_with_line_and_remedy(tmp_path: Path, rows: tuple[str, ...], message: str) -> None:
    with pytest.raises(TrackTableError, match=message) as caught:
        read_targets(write(tmp_path, *rows))
    assert "targets_human.txt" in str(caught.value)


def test_missing_columns_are_named(tmp_path: Path) -> None:
    with pytest.raises(TrackTableError, match="line 1: no column identifier, description"):
        read_targets(write(tmp_path, "0\t1", header="index\tgenome"))


@pytest.mark.parametrize("content", [gzip.compress(HEADER.encode() * 100)[:40], b"\xff\xfe\x00binary", b""])
def test_files_that_are_no_table(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "targets.txt"
    path.write_bytes(content)
    with pytest.raises(TrackTableError, match=r"targets\.txt"):
        read_targets(path)


def test_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrackTableError, match=r"cannot read .*nowhere"):
        read_targets(tmp_path / "nowhere.txt")


def test_full_size_takes_the_published_number_of_tracks_only(tmp_path: Path) -> None:
    path = write(tmp_path, *ROWS)
    with pytest.raises(TrackTableError, match="has 4 tracks where Enformer predicts 5,313"):
        Enformer(path)
    assert len(Enformer(path, size="small").tracks) == 4
    with pytest.raises(InputError, match="'jax' is not one of torch, tensorflow"):
        Enformer(path, backend="jax", size="small")  # type: ignore[arg-type]


def test_description_without_a_biosample() -> None:
    assert parse_description("DNASE") == ("DNASE", "")


@pytest.mark.shared
def test_the_published_table(shared: Path) -> None:
    table = Enformer(shared / "data" / "tracks" / "enformer_targets_human.txt.gz").tracks
    assert table.layer_counts() == {
        "chromatin_accessibility": 684,
        "tf_binding": 2101,
        "histone_marks": 1890,
        "tss_activity": 638,
    }
    assert table.channel.tolist() == list(range(5313))
    assert table.track[0] == "ENCFF833POA"
