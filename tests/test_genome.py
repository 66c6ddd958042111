"""The genome: real FASTA files, plain and bgzipped, good and bad."""

from __future__ import annotations

import gzip
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from Bio import bgzf
from hypothesis import given
from hypothesis import strategies as st

from chorus_store.errors import GenomeError
from chorus_store.genome import CHR1_LENGTH, Genome
from chorus_store.sequence import UNKNOWN, decode

NOBODY = 65534
SEQUENCES = {
    "chr1": "ACGTNNNNacgtRYnACGT" * 7,
    "chr2": "N" * 50 + "ACGT" * 30,
    "empty": "",
    "chrM": "GATTACA",
}


def fasta_text(sequences: dict[str, str] = SEQUENCES, width: int = 13, newline: str = "\n") -> str:
    lines = []
    for name, sequence in sequences.items():
        lines.append(f">{name} a description")
        lines += [sequence[i : i + width] for i in range(0, len(sequence), width)]
    return newline.join(lines) + newline


def write_fasta(path: Path, text: str | None = None) -> Path:
    path.write_bytes((text or fasta_text()).encode())
    return path


def write_bgzip(path: Path, text: str) -> Path:
    with bgzf.BgzfWriter(str(path)) as file:
        file.write(text.encode())
    return path


def known(sequence: str) -> str:
    """What `decode` gives back of a sequence."""
    return "".join(base if base in "ACGT" else "N" for base in sequence.upper())


@pytest.fixture(params=["plain", "windows", "no final newline", "bgzipped"])
def any_fasta(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if request.param == "bgzipped":
        return write_bgzip(tmp_path / "g.fa.gz", fasta_text())
    if request.param == "windows":
        return write_fasta(tmp_path / "g.fa", fasta_text(newline="\r\n"))
    return write_fasta(tmp_path / "g.fa", fasta_text().rstrip("\n") if "no" in request.param else None)


def test_every_interval(any_fasta: Path) -> None:
    with Genome(any_fasta) as genome:
        assert genome.lengths == {name: len(sequence) for name, sequence in SEQUENCES.items()}
        for name in ("chr1", "chr2", "chrM"):
            expected = known(SEQUENCES[name])
            for start in range(0, len(expected) + 1, 3):
                for end in range(start, len(expected) + 1):
                    assert decode(genome.fetch(name, start, end)) == expected[start:end]
        assert genome.fetch("empty", 0, 0).tolist() == []
        assert genome.fetch("chr1", 0, 5).flags.writeable


def test_bgzipped_over_many_blocks(tmp_path: Path) -> None:
    bases = "".join(np.random.default_rng(1).choice(list("ACGTN"), 300_000))
    path = write_bgzip(tmp_path / "g.fa.gz", fasta_text({"chr1": bases, "chr2": bases[::-1]}, width=60))
    with Genome(path) as genome:
        for start in (0, 64_000, 65_279, 65_280, 128_123, 199_999):
            assert decode(genome.fetch("chr2", start, start + 100_000)) == bases[::-1][start : start + 100_000]
    with Genome(path) as genome:  # through the indexes just written
        assert decode(genome.fetch("chr1", 0, 300_000)) == bases


@pytest.mark.parametrize(("start", "end"), [(-1, 5), (0, 134), (10, 9), (200, 210)])
def test_interval_outside_is_refused(tmp_path: Path, start: int, end: int) -> None:
    with (
        Genome(write_fasta(tmp_path / "g.fa")) as genome,
        pytest.raises(GenomeError, match=r"chr1:.*leaves the contig, which has 133 bp"),
    ):
        genome.fetch("chr1", start, end)


def test_unknown_contig_is_named(tmp_path: Path) -> None:
    with (
        Genome(write_fasta(tmp_path / "g.fa")) as genome,
        pytest.raises(GenomeError, match="no contig '1'; it has chr1, chr2"),
    ):
        genome.fetch("1", 0, 1)


@given(st.text("ACGTN", min_size=1, max_size=60), st.data())
def test_unknown_runs_and_fractions(sequence: str, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr("chorus_store.genome._SCAN_BASES", data.draw(st.integers(1, 20)))
        with Genome(write_fasta(Path(folder) / "g.fa", f">c\n{sequence}\n")) as genome:
            runs = genome.unknown_runs("c")
            covered = {base for start, end in runs.tolist() for base in range(start, end)}
            assert covered == {i for i, base in enumerate(sequence) if base == "N"}
            assert (runs[1:, 0] > runs[:-1, 1]).all()
            ends = [(i, j) for i in range(len(sequence)) for j in range(i + 1, len(sequence) + 1)]
            starts, stops = np.array(ends).T
            expected = [sequence[i:j].count("N") / (j - i) for i, j in ends]
            np.testing.assert_array_equal(genome.unknown_fraction("c", starts, stops), expected)


def test_reopened_genome_is_independent(tmp_path: Path) -> None:
    with Genome(write_fasta(tmp_path / "g.fa")) as first:
        second = first.reopen()
    with second:
        assert decode(second.fetch("chrM", 0, 7)) == "GATTACA"


def test_threads_may_share_one(tmp_path: Path) -> None:
    bases = "".join(np.random.default_rng(1).choice(list("ACGT"), 200_000))
    wrong: list[int] = []
    with Genome(write_bgzip(tmp_path / "g.fa.gz", fasta_text({"c": bases}))) as genome:

        def read(seed: int) -> None:
            starts = np.random.default_rng(seed).integers(0, 190_000, 50).tolist()
            found = [decode(genome.fetch("c", start, start + 9_000)) for start in starts]
            wrong.extend([s for s, text in zip(starts, found, strict=True) if text != bases[s : s + 9_000]])

        threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_assembly_is_told_by_chr1(tmp_path: Path) -> None:
    with Genome(write_fasta(tmp_path / "g.fa")) as genome:
        with pytest.raises(GenomeError, match=r"not hg38: chr1 has 133 bp instead of 248,956,422.*--fasta"):
            genome.check_assembly("hg38")
        genome.check_assembly("another")
    with Genome(write_fasta(tmp_path / "h.fa", ">chr20\nACGT\n")) as genome:
        genome.check_assembly("hg38")
    assert CHR1_LENGTH["hg38"] == 248_956_422


def test_fingerprint(tmp_path: Path) -> None:
    path = write_fasta(tmp_path / "g.fa")
    content = path.read_bytes()
    with Genome(path) as genome:
        assert genome.fingerprint() == {
            "name": "g.fa",
            "bytes": len(content),
            "fasta_sha256_prefix64mb": sha256(content).hexdigest(),
            "fai_sha256": sha256((tmp_path / "g.fa.fai").read_bytes()).hexdigest(),
        }
        assert genome.sha256() == sha256(content).hexdigest()


BAD = {
    "empty.fa": (b"", "is empty"),
    "text.fa": (b"chr1\t5\nhello\n", "not a FASTA file"),
    "binary.fa": (bytes(range(128, 256)) * 9, "not a FASTA file"),
    "ragged.fa": (b">a\nACGT\nAC\nACGTT\n", "not a FASTA file.*[Ll]ine length"),
    "twice.fa": (b">a\nACGT\n>a\nACGT\n", "cannot be indexed: Duplicate key"),
    "plain.fa.gz": (gzip.compress(b">a\nACGT\n"), r"compressed by gzip.*gunzip -c plain.fa.gz \| bgzip"),
    "liar.fa.gz": (b">a\nACGT\n", "not compressed, but its name says otherwise; rename it to liar.fa"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_file(tmp_path: Path, name: str) -> None:
    content, message = BAD[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(GenomeError, match=message) as caught:
        Genome(tmp_path / name, cache_dir=tmp_path / "cache")
    assert name in str(caught.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(GenomeError, match=r"no FASTA file at .*none.fa"):
        Genome(tmp_path / "none.fa")
    with pytest.raises(GenomeError, match="cannot be read"):
        Genome(tmp_path)


def test_bgzipped_under_a_plain_name(tmp_path: Path) -> None:
    with pytest.raises(GenomeError, match=r"bgzipped, but its name says otherwise; rename it to g\.fa\.gz"):
        Genome(write_bgzip(tmp_path / "g.fa", fasta_text()))


@pytest.mark.parametrize("kept", [20, 0.5, -10])
def test_truncated_bgzip(tmp_path: Path, kept: float) -> None:
    path = write_bgzip(tmp_path / "g.fa.gz", fasta_text())
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content)) if isinstance(kept, float) else kept])
    with pytest.raises(GenomeError, match="truncated"):
        Genome(path)


def test_older_index_is_rebuilt(any_fasta: Path) -> None:
    Genome(any_fasta).close()
    compressed = any_fasta.suffix == ".gz"
    text = fasta_text({"chr1": "TTTT", **SEQUENCES, "chr9": "ACGT"}, width=7)
    (write_bgzip if compressed else write_fasta)(any_fasta, text)
    index = any_fasta.with_name(any_fasta.name + ".fai")
    os.utime(index, (0, 0))
    with Genome(any_fasta) as genome:
        assert decode(genome.fetch("chrM", 0, 7)) == "GATTACA"
        assert "chr9" in genome.lengths
    assert "chr9" in index.read_text()


OTHERS = {
    "longer contig": {**SEQUENCES, "chr1": SEQUENCES["chr1"] + "A"},
    "shorter contig": {**SEQUENCES, "chr1": SEQUENCES["chr1"][1:]},
    "another order": {"chr2": SEQUENCES["chr2"], "chr1": SEQUENCES["chr1"], "chrM": "GATTACA"},
    "other names, same lengths": {f"x{name}": sequence for name, sequence in SEQUENCES.items()},
    "one more contig": {**SEQUENCES, "chr9": "ACGT"},
    "one fewer contig": {"chr1": SEQUENCES["chr1"], "chr2": SEQUENCES["chr2"]},
    "one more in the middle": {"chr1": SEQUENCES["chr1"], "new": "ACGT", "chr2": SEQUENCES["chr2"]},
}


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("compressed", [False, True])
def test_newer_index_of_another_file_is_rebuilt(tmp_path: Path, other: str, compressed: bool) -> None:
    path = tmp_path / ("g.fa.gz" if compressed else "g.fa")
    write = write_bgzip if compressed else write_fasta
    Genome(write(path, fasta_text())).close()
    write(path, fasta_text(OTHERS[other]))
    os.utime(path, (0, 0))
    with Genome(path) as genome:
        assert list(genome.lengths) == list(OTHERS[other])
        for name, sequence in OTHERS[other].items():
            assert decode(genome.fetch(name, 0, len(sequence))) == known(sequence)


@pytest.mark.parametrize("index", ["", "garbage", "chr1\t133\t5\t13\n", "chr1\tx\t5\t13\t14\n"])
def test_damaged_index_is_rebuilt(tmp_path: Path, index: str) -> None:
    path = write_fasta(tmp_path / "g.fa")
    path.with_name("g.fa.fai").write_text(index)
    with Genome(path) as genome:
        assert decode(genome.fetch("chrM", 0, 7)) == "GATTACA"


def test_file_that_changes_while_open_is_noticed(tmp_path: Path) -> None:
    path = write_fasta(tmp_path / "g.fa")
    with Genome(path) as genome:
        path.write_bytes(fasta_text(width=5).encode())
        with pytest.raises(GenomeError, match=r"does not fit the file at chr2.*g\.fa\.fai"):
            genome.fetch("chr2", 0, 100)


@contextmanager
def as_nobody() -> Iterator[None]:
    """Without root's privileges, for which permissions do not count."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(user)


@pytest.fixture
def read_only() -> Iterator[Path]:
    """A folder that holds a FASTA and cannot be written to, and beside it one that can."""
    top = Path(tempfile.mkdtemp())
    top.chmod(0o755)
    folder, cache = top / "read-only", top / "cache"
    folder.mkdir()
    cache.mkdir()
    if os.geteuid() == 0:
        os.chown(cache, NOBODY, NOBODY)
    write_fasta(folder / "g.fa")
    folder.chmod(0o555)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(top)


def test_index_goes_to_the_cache_where_the_folder_is_read_only(read_only: Path) -> None:
    cache = read_only.parent / "cache" / "indexes"
    path = read_only / "g.fa"
    with as_nobody():
        for _ in range(2):
            with Genome(path, cache_dir=cache) as genome:
                assert decode(genome.fetch("chrM", 0, 7)) == "GATTACA"
                assert len(genome.fingerprint()["fai_sha256"]) == 64  # type: ignore[arg-type]
    assert [file.name for file in read_only.iterdir()] == ["g.fa"]
    (index,) = cache.iterdir()
    assert index.name.endswith("-g.fa.fai")
    written = index.stat().st_mtime_ns
    os.utime(path, ns=(written + 10**9, written + 10**9))
    with as_nobody(), Genome(path, cache_dir=cache):
        assert index.stat().st_mtime_ns > written


def test_no_folder_for_the_index(read_only: Path) -> None:
    with as_nobody(), pytest.raises(GenomeError, match=r"no index can be written.*samtools faidx g\.fa"):
        Genome(read_only / "g.fa", cache_dir=read_only / "cache")


@pytest.mark.shared
def test_human_chr20(shared: Path, tmp_path: Path) -> None:
    path = tmp_path / "chr20.fa"
    with gzip.open(shared / "data/hg38_chr20.fa.gz") as packed, path.open("wb") as plain:
        shutil.copyfileobj(packed, plain)
    with Genome(path) as genome:
        assert genome.lengths == {"chr20": 64_444_167}
        genome.check_assembly("hg38")
        runs = genome.unknown_runs("chr20")
        assert 64_444_167 - int((runs[:, 1] - runs[:, 0]).sum()) == 59_504_608
        assert genome.unknown_fraction("chr20", [0, 8_251_675], [10_000, 12_520_408]).tolist() == [1.0, 0.0]
        assert (genome.fetch("chr20", 8_251_675, 12_520_408) < UNKNOWN).all()
