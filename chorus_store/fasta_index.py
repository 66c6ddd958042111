"""Finding, checking and building the index of a FASTA file.

An index that is older than its FASTA, or that does not fit it, is never used: it would give wrong sequence
without a word. An index is built aside and renamed, so that processes that start together cannot read half of
one.
"""

from __future__ import annotations

import hashlib
import logging
import os
import struct
import tempfile
import time
import zlib
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
#: What pyfaidx and Biopython raise for damaged bytes.
_DAMAGE = (pyfaidx.FastaIndexingError, UnicodeDecodeError, RuntimeError, struct.error, zlib.error, EOFError)
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
            faidx = _open(path, index)
        except OSError as error:
            failures.append(f"{index.parent}: {error.strerror or error}")
        except ValueError as error:  # repeated contig names
            raise GenomeError(f"{path} cannot be indexed: {error}") from error
        else:
            if not _fits(faidx):
                faidx.close()
                raise GenomeError(
                    f"{path} cannot be indexed: lines of a contig differ in length; wrap them anew, for example with: "
                    f"seqkit seq -w 60 {path.name}"
                )
            return faidx
    raise GenomeError(
        f"no index can be written for {path} ({'; '.join(failures)}); run 'samtools faidx {path.name}' "
        "in a folder that can be written to and keep the .fai beside the FASTA"
    )


def read_bytes(faidx: Any, offset: int, size: int) -> bytes:
    """Bytes of the (decompressed) file; fewer at its end. Threads may share ``faidx``.

    Raises
    ------
    GenomeError
        Compressed blocks that are damaged, or not where their index says.
    """
    with faidx.lock:
        if not faidx._bgzf:
            faidx.file.seek(offset)
            return bytes(faidx.file.read(size))
        try:
            _seek(faidx, offset)
            return bytes(faidx.file.read(size))
        except (OSError, ValueError, *_DAMAGE) as error:
            raise GenomeError(
                f"{faidx.filename} is damaged, or its .gzi does not fit it ({error}); delete .fai and .gzi and run "
                "again, and if that does not help download or compress the FASTA again"
            ) from error


def _seek(faidx: Any, offset: int) -> None:
    """Go to a byte of a bgzipped file; ValueError where its block does not end at the next one of the index."""
    blocks, file = faidx.gzi_index, faidx.file
    number = bisect_right(blocks, offset, key=attrgetter("ustart")) - 1
    block = blocks[number]
    file.seek(pyfaidx.make_virtual_offset(block.cstart, offset - block.ustart))
    end = block.cstart + file._block_raw_length, block.ustart + len(file._buffer)
    if number + 1 < len(blocks) and end != (blocks[number + 1].cstart, blocks[number + 1].ustart):
        raise ValueError(f"block {number} ends elsewhere")


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
    if compressed and not (head[12:14] == b"BC" and head[3] & 4):
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
    except (OSError, ValueError, ArithmeticError, struct.error) as error:
        log.warning("index %s cannot be read and is not used: %s", index, error)
        return None
    if _fits(faidx):
        return faidx
    faidx.close()
    log.warning("index %s does not fit its FASTA and is not used", index)
    return None


def _fits(faidx: Any) -> bool:
    """Whether exactly one header, of the right name, precedes every contig, lines end where they should, and the file.

    Records may also lie inside of others: several names for one stretch of the file.
    """
    end = 0
    try:
        for name, record in sorted(faidx.index.items(), key=lambda item: item[1].offset):
            if record.rlen < 0 or (record.rlen and not 0 < record.lenc <= record.lenb):
                return False
            if record.offset >= end and not _has_header(faidx, name, end, record):
                return False
            last = record.offset if not record.rlen else record.bend
            if last > end and record.rlen and not _has_lines(faidx, record):
                return False
            end = max(end, last)
        return not read_bytes(faidx, end, 1024).strip()
    except (ValueError, ArithmeticError):  # an offset beyond the last compressed block, or beyond any file
        return False


def _has_header(faidx: Any, name: str, end: int, record: Any) -> bool:
    """Whether there is the header of the contig, and nothing else, between the end of the one before and its bases."""
    if record.offset - end > _LONGEST_HEADER:
        return False
    between = read_bytes(faidx, end, record.offset - end)
    header = between.strip(b"\r\n")
    # Without a line's end the sequence would begin in the header.
    whole = between.endswith(b"\n") or not record.rlen
    return whole and b"\n" not in header and header[:1] == b">" and header[1:].split()[:1] == [name.encode()]


def _has_lines(faidx: Any, record: Any) -> bool:
    """Whether the first line of a contig and its last end where the index says."""
    first = record.offset + min(record.lenc, record.rlen) - 1
    last = record.bend - (record.lenb - record.lenc) - 1
    many = record.rlen > record.lenc
    return all(_ends_line(faidx, base) for base in (first, last)) and (
        not many or read_bytes(faidx, record.offset + record.lenb - 1, 1) == b"\n"
    )


def _ends_line(faidx: Any, base: int) -> bool:
    text = read_bytes(faidx, base, 2)
    return text[:1].strip() != b"" and text[1:].strip() == b""


def _build(path: Path, index: Path) -> None:
    """Build the index aside and rename it; OSError where the folder cannot be written to."""
    index.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".faidx-", dir=index.parent) as folder:
        log.info("indexing %s into %s", path, index)
        aside = Path(folder) / index.name
        try:
            pyfaidx.Faidx(path, indexname=aside, gzi_indexname=aside.with_suffix(".gzi")).close()
        except _DAMAGE as error:
            reason = str(error).partition("Please report")[0]
            raise GenomeError(
                f"{path} is damaged, or not a FASTA file that can be indexed: {reason}; download or copy it again"
            ) from error
        # A file server's clock may be ahead of ours.
        newest = max(time.time_ns(), path.stat().st_mtime_ns)
        for built in Path(folder).iterdir():
            os.utime(built, ns=(newest, newest))
            built.replace(index.with_name(built.name))
