"""The reference genome: base codes of any stretch, and how much of a window is unknown."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt
import platformdirs

from chorus_store.errors import GenomeError
from chorus_store.fasta_index import open_indexed, read_bytes
from chorus_store.sequence import UNKNOWN, Codes, encode

IntArray = npt.NDArray[np.int64]

#: Length of chr1, which tells assemblies apart.
CHR1_LENGTH = {"hg38": 248_956_422}
#: Bases read at a time when a whole contig is scanned: few enough to stay in the processor's cache.
_SCAN_BASES = 256 << 10
_PREFIX_BYTES = 64 << 20


class Genome:
    r"""A FASTA file, plain or bgzipped, with any set of contigs. Threads may share one.

    Parameters
    ----------
    path : str or Path
        The FASTA file; it is indexed on first use.
    cache_dir : Path, optional
        Where the index goes when it cannot be written beside the FASTA; by default the user's cache folder.

    Attributes
    ----------
    path : Path
        The FASTA file.
    lengths : dict of str to int
        Bases of every contig, in file order.

    Raises
    ------
    GenomeError
        The file is missing, empty, truncated, not FASTA, compressed but not by bgzip, or cannot be indexed.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "tiny.fa").write_text(">chr1\nACGTN\nNNac\n")
    ...     with Genome(Path(folder, "tiny.fa")) as genome:
    ...         genome.lengths, genome.fetch("chr1", 3, 9).tolist(), genome.unknown_runs("chr1").tolist()
    ({'chr1': 9}, [3, 4, 4, 4, 0, 1], [[4, 7]])
    """

    def __init__(self, path: str | Path, cache_dir: Path | None = None) -> None:
        self.path = Path(path)
        self._cache_dir = cache_dir or platformdirs.user_cache_path("chorus-store") / "indexes"
        self._faidx = open_indexed(self.path, self._cache_dir)
        self.lengths: dict[str, int] = {name: record.rlen for name, record in self._faidx.index.items()}
        self._runs: dict[str, IntArray] = {}

    def __enter__(self) -> Genome:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Genome {self.path.name}: {len(self.lengths)} contigs, {sum(self.lengths.values()):,} bp>"

    def close(self) -> None:
        """Close the file."""
        self._faidx.close()

    def reopen(self) -> Genome:
        """An independent handle on the same file, for a reader that should not wait for this one."""
        return Genome(self.path, self._cache_dir)

    def fetch(self, chrom: str, start: int, end: int) -> Codes:
        """Base codes of an interval.

        Parameters
        ----------
        chrom : str
            A key of `lengths`.
        start, end : int
            0-based, half-open.

        Returns
        -------
        ndarray of uint8, shape (end - start,)
            As from `chorus_store.sequence.encode`; writable.

        Raises
        ------
        GenomeError
            No such contig, the interval leaves it, or the file is no longer the one that was indexed.
        """
        length = self._length(chrom)
        if not 0 <= start <= end <= length:
            raise GenomeError(f"interval {chrom}:[{start}, {end}) leaves the contig, which has {length:,} bp")
        if start == end:
            return encode(b"")
        record = self._faidx.index[chrom]
        first, last = (
            record.offset + base // record.lenc * record.lenb + base % record.lenc for base in (start, end - 1)
        )
        raw = read_bytes(self._faidx, first, last + 1 - first)
        codes = encode(raw.replace(b"\n", b"").replace(b"\r", b""))
        if len(codes) != end - start or b">" in raw:
            raise GenomeError(
                f"the index of {self.path} does not fit the file at {chrom}:[{start}, {end}); "
                f"delete {self._faidx.indexname} and run again"
            )
        return codes

    def unknown_runs(self, chrom: str) -> IntArray:
        """Stretches of bases other than A, C, G and T; found in one pass over the contig, then remembered.

        Parameters
        ----------
        chrom : str
            A key of `lengths`.

        Returns
        -------
        ndarray of int64, shape (n_runs, 2)
            0-based half-open intervals, ascending.
        """
        if chrom not in self._runs:
            self._runs[chrom] = self._scan(chrom)
        return self._runs[chrom]

    def _scan(self, chrom: str) -> IntArray:
        length = self._length(chrom)
        edges: list[int] = []
        inside = False
        for start in range(0, length, _SCAN_BASES):
            unknown = self.fetch(chrom, start, min(start + _SCAN_BASES, length)) == UNKNOWN
            edges.extend((np.flatnonzero(np.diff(unknown, prepend=inside)) + start).tolist())
            inside = bool(unknown[-1])
        if inside:
            edges.append(length)
        return np.array(edges, dtype=np.int64).reshape(-1, 2)

    def unknown_fraction(self, chrom: str, starts: npt.ArrayLike, ends: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Part of every interval that is unknown, without reading the intervals.

        Parameters
        ----------
        chrom : str
            A key of `lengths`.
        starts, ends : array_like of int, shape (n,)
            0-based half-open intervals inside the contig, none empty.

        Returns
        -------
        ndarray of float64, shape (n,)
        """
        runs = self.unknown_runs(chrom)
        before = np.concatenate([[0], np.cumsum(runs[:, 1] - runs[:, 0])])
        # A run that ends before every position stands in where no run starts at or before the position.
        run_ends = np.concatenate([[0], runs[:, 1]])

        def unknown_below(position: IntArray) -> IntArray:
            run = np.searchsorted(runs[:, 0], position, side="right")
            below: IntArray = before[run] - np.maximum(run_ends[run] - position, 0)
            return below

        start, end = np.asarray(starts, np.int64), np.asarray(ends, np.int64)
        fraction: npt.NDArray[np.float64] = (unknown_below(end) - unknown_below(start)) / (end - start)
        return fraction

    def check_assembly(self, assembly: str) -> None:
        """Refuse a genome whose chr1 has another length than that of ``assembly``.

        A genome without chr1 passes, and so does an assembly whose length is not known here.

        Raises
        ------
        GenomeError
            chr1 is of another assembly.
        """
        expected = CHR1_LENGTH.get(assembly)
        found = self.lengths.get("chr1")
        if expected is not None and found is not None and found != expected:
            raise GenomeError(
                f"{self.path} is not {assembly}: chr1 has {found:,} bp instead of {expected:,}; "
                f"give a FASTA of {assembly} with --fasta"
            )

    def fingerprint(self) -> dict[str, str | int]:
        """Cheap identity of the file: name, bytes, SHA-256 of its first 64 MiB and of its index."""
        with self.path.open("rb") as file:
            prefix = hashlib.sha256(file.read(_PREFIX_BYTES)).hexdigest()
        return {
            "name": self.path.name,
            "bytes": self.path.stat().st_size,
            "fasta_sha256_prefix64mb": prefix,
            "fai_sha256": hashlib.sha256(Path(self._faidx.indexname).read_bytes()).hexdigest(),
        }

    def sha256(self) -> str:
        """SHA-256 of the whole file, hexadecimal."""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def _length(self, chrom: str) -> int:
        try:
            return self.lengths[chrom]
        except KeyError:
            some = ", ".join(list(self.lengths)[:5])
            raise GenomeError(f"{self.path} has no contig {chrom!r}; it has {some}, …") from None
