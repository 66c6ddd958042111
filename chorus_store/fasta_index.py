"""Finding, checking and building the index of a FASTA file.

An index that is older than its FASTA, or that does not fit it, is never used: it would give wrong sequence
without a word. An index is built aside and renamed, so that processes that start together cannot read half of
one.
"""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
import time
from bisect import bisect_right
from operator import attrgetter
from pathlib import Path
from typing import Any

import pyfaidx

from chorus_store.errors import GenomeError

log = logging.getLogger(__name__)

_GZIP_MAGIC = b"\x1f\x8b"
_BGZF_SUFFIXES = (".gz", ".bgz")
#: The empty block that ends every complete BGZF file (SAM specification, section 4.1.2).
_BGZF_END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
#: Text between two contigs that is longer than this is not a header.
_LONGEST_HEADER = 1 << 20


def open_indexed(path: Path, cache_dir: Path) -> Any:
    """Open a FASTA with an index that fits it, building one where there is none.

    Parameters
    ----------
    path : Path
        Plain or bgzipped FASTA.
    cache_dir : Path
        Where the index goes when it cannot be written beside the FASTA.

    Returns
    -------
    pyfaidx.Faidx
        Read from it with `read_bytes`.

    Raises
    ------
    GenomeError
        The file is missing, empty, truncated, not FASTA, compressed but not by bgzip, or its index can be
        written nowhere.
    """
    compressed = _check_file(path)
    tag = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16]
    candidates = [path.with_name(path.name + ".fai"), cache_dir / f"{tag}-{path.name}.fai"]
    for index in candidates:
        if (faidx := _open_existing(path, index, compressed)) is not None:
            return faidx
    failures = []
    for index in candidates:
        try:
            _build(path, index)
            return _open(path, index)
        except OSError as error:
            failures.append(f"{index.parent}: {error.strerror or error}")
        except ValueError as error:  # repeated contig names
            raise GenomeError(f"{path} cannot be indexed: {error}") from error
    raise GenomeError(
        f"no index can be written for {path} ({'; '.join(failures)}); run 'samtools faidx {path.name}' "
        "in a folder that can be written to and keep the .fai beside the FASTA"
    )


def read_bytes(faidx: Any, offset: int, size: int) -> bytes:
    """Bytes of the (decompressed) file; fewer at its end. Threads may share ``faidx``."""
    with faidx.lock:
        if faidx._bgzf:
            blocks = faidx.gzi_index
            block = blocks[bisect_right(blocks, offset, key=attrgetter("ustart")) - 1]
            faidx.file.seek(pyfaidx.make_virtual_offset(block.cstart, offset - block.ustart))
        else:
            faidx.file.seek(offset)
        return bytes(faidx.file.read(size))


def _check_file(path: Path) -> bool:
    """Whether the file is bgzipped; GenomeError where it is nothing that can be indexed."""
    try:
        with path.open("rb") as file:
            head = file.read(18)
            size = file.seek(0, 2)
            file.seek(max(0, size - len(_BGZF_END)))
            tail = file.read()
    except FileNotFoundError:
        raise GenomeError(f"there is no FASTA file at {path}; check --fasta") from None
    except OSError as error:
        raise GenomeError(f"{path} cannot be read: {error.strerror}") from error
    if size == 0:
        raise GenomeError(f"{path} is empty; download or copy it again")
    compressed = head.startswith(_GZIP_MAGIC)
    plain_name = path.name.removesuffix(".gz")
    if compressed and not (head[3] & 4 and head[12:14] == b"BC"):
        raise GenomeError(
            f"{path} is compressed by gzip, which allows no random access; recompress it: "
            f"gunzip -c {path.name} | bgzip > {plain_name}.bgz"
        )
    if compressed and tail != _BGZF_END:
        raise GenomeError(f"{path} is truncated (no BGZF end marker); download or compress it again")
    if compressed != path.name.lower().endswith(_BGZF_SUFFIXES):
        what, name = ("bgzipped", f"{path.name}.gz") if compressed else ("not compressed", plain_name)
        raise GenomeError(f"{path} is {what}, but its name says otherwise; rename it to {name}")
    return compressed


def _open(path: Path, index: Path) -> Any:
    gzi = index.with_suffix(".gzi")
    return pyfaidx.Faidx(path, indexname=index, gzi_indexname=gzi, build_index=False, rebuild=False)


def _open_existing(path: Path, index: Path, compressed: bool) -> Any | None:
    """The FASTA with this index, or None where the index is absent, stale or of another file."""
    files = [index, index.with_suffix(".gzi")] if compressed else [index]
    if not all(file.is_file() for file in files):
        return None
    if min(file.stat().st_mtime_ns for file in files) < path.stat().st_mtime_ns:
        log.warning("index %s is older than its FASTA and is not used", index)
        return None
    try:
        faidx = _open(path, index)
    except (OSError, ValueError) as error:
        log.warning("index %s cannot be read and is not used: %s", index, error)
        return None
    if _fits(faidx):
        return faidx
    faidx.close()
    log.warning("index %s does not fit its FASTA and is not used", index)
    return None


def _fits(faidx: Any) -> bool:
    """Whether exactly one header, of the right name, precedes every contig and nothing follows the last."""
    end, last_base = 0, 0
    try:
        for name, record in sorted(faidx.index.items(), key=lambda item: item[1].offset):
            if record.offset >= end:
                if record.offset - end > _LONGEST_HEADER:
                    return False
                between = read_bytes(faidx, end, record.offset - end).strip(b"\r\n")
                header = between.rpartition(b"\n")[2]
                if b"\n>" in between or header[:1] != b">" or header[1:].split()[:1] != [name.encode()]:
                    return False
            # Records may also overlap: several names for one stretch of the file.
            if record.rlen and record.bend > end:
                end, last_base = record.bend, record.bend - (record.lenb - record.lenc) - 1
        return len(read_bytes(faidx, last_base, 1)) == 1 and not read_bytes(faidx, end, 1024).strip()
    except ValueError:  # an offset beyond the last compressed block
        return False


def _build(path: Path, index: Path) -> None:
    """Build the index aside and rename it; OSError where the folder cannot be written to."""
    index.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".faidx-", dir=index.parent) as folder:
        log.info("indexing %s into %s", path, index)
        aside = Path(folder) / index.name
        try:
            pyfaidx.Faidx(path, indexname=aside, gzi_indexname=aside.with_suffix(".gzi")).close()
        except (pyfaidx.FastaIndexingError, UnicodeDecodeError) as error:
            raise GenomeError(f"{path} is not a FASTA file that can be indexed: {error}") from error
        # A file server's clock may be ahead of ours.
        newest = max(time.time_ns(), path.stat().st_mtime_ns)
        for built in Path(folder).iterdir():
            os.utime(built, ns=(newest, newest))
            built.replace(index.with_name(built.name))
