"""What a build needs of disk, memory and inputs; each of these functions raises where it is not there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from builders import estimate, memory
from builders.estimate import SCORING, existing
from builders.oracle import Oracle, Workload
from builders.settings import Settings
from chorus_store import layout
from chorus_store.coverage import Coverage, require_replaceable
from chorus_store.errors import (
    AnnotationError,
    DeviceMemoryError,
    GenomeError,
    InputError,
    MemoryBudgetError,
    StoreWriteError,
)
from chorus_store.facts import FactStore
from chorus_store.files import writing
from chorus_store.genome import Genome
from chorus_store.opening import reading
from chorus_store.sequence import encode
from chorus_store.store_append import appended_tracks
from chorus_store.swap import aside_name, remove_stale, replace_directory

#: Variants whose reference base is compared with the genome, evenly spread over the plan.
_COMPARED = 256


def writable(folder: Path) -> None:
    """Try in a folder what a build does there: make files and links, rename, exchange directories.

    Raises
    ------
    StoreWriteError
        One of these is refused.
    """
    place = existing(folder) / "preflight"
    trial = aside_name(place)
    with writing(folder):
        remove_stale(place)
        try:
            for name in ("old", "new"):
                (trial / name).mkdir(parents=True)
            file = trial / "new" / "file"
            file.write_bytes(b"")
            os.link(file, trial / "new" / "link")
            file.rename(trial / "new" / "renamed")
            replace_directory(trial / "new", trial / "old")
        finally:
            shutil.rmtree(trial, ignore_errors=True)


def space(report: Mapping[str, Any], folder: Path) -> None:
    """Compare what is still to be written with what is free; see `builders.estimate.describe`.

    Raises
    ------
    StoreWriteError
        It does not fit.
    """
    written, free = report["written_bytes"], report["free_bytes"]
    if written > free:
        raise StoreWriteError(
            f"{folder} has {_size(free)} free, and this build has yet to write {_size(written)} there; free some "
            "space, give another --out, or ask for fewer positions"
        )


def scoring_memory(report: Mapping[str, Any]) -> None:
    """Compare the units of work and the batches that are in memory at a time with what is available.

    Raises
    ------
    MemoryBudgetError
        It is not enough.
    """
    _require_memory("scoring (besides the model)", report["peak_memory_bytes"][SCORING], "--block or --batch")


def compaction_memory(oracle: type[Oracle], workload: Workload, settings: Settings) -> None:
    """Compare what compaction takes with its budget, and with what is available unless a cluster does it.

    Raises
    ------
    MemoryBudgetError
        It is not enough.
    """
    size = estimate.compaction_bytes(estimate.shape_of(oracle, workload, settings), settings.publish)
    if settings.dask is None:
        _require_memory("compaction", size, "--memory or --workers")


def _require_memory(what: str, size: int, option: str) -> None:
    available = memory.available()
    if size > available:
        raise MemoryBudgetError(
            f"{what} takes {_size(size)} of memory, and {_size(available)} are available; use a lower {option}, or "
            "raise the limit of the container or job"
        )


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 2**30:,.1f} GiB" if n_bytes >= 2**30 else f"{n_bytes / 2**20:,.1f} MiB"


def gpu_memory(oracle: type[Oracle], weights: Path, device: str) -> None:
    """Compare the size of the weights with the free memory of the GPU, where that is known.

    Of an oracle with one model per track only one file is in memory at a time, so the largest one counts.

    Raises
    ------
    DeviceMemoryError
        The weights alone do not fit.
    """
    files = weights.rglob("*") if weights.is_dir() else [weights]
    sizes, free = [file.stat().st_size for file in files if file.is_file()], memory.free_on_gpu(device)
    one_by_one = oracle.tracks_per_unit is not None
    size = max(sizes, default=0) if one_by_one else sum(sizes)
    what = "the largest model alone takes" if one_by_one else "the weights alone take"
    if free is not None and size > free:
        raise DeviceMemoryError(
            f"{device} has {_size(free)} of memory free and {what} {_size(size)}; take another GPU "
            "(--gpu), or end what holds the memory of this one"
        )


def readable(option: str, path: Path) -> None:
    """Open an input, or every file of a folder.

    Raises
    ------
    InputError
        It cannot be read, or there is nothing in it.
    """
    try:
        files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
        size = sum(_bytes_in(file) for file in files)
    except OSError as error:
        raise InputError(f"--{option} {error.filename}: {error.strerror}; check its permissions") from error
    if not size:
        raise InputError(f"--{option} {path} is empty; download or copy it again")


def _bytes_in(file: Path) -> int:
    with file.open("rb") as handle:
        return handle.seek(0, os.SEEK_END)


def shared_chromosomes(path: Path, names: Iterable[str], genome: Genome) -> None:
    """Compare the chromosomes of an annotation with those of the genome.

    Raises
    ------
    AnnotationError
        They have none in common, so nothing of it would be used.
    """
    found = set(names)
    if found.isdisjoint(genome.lengths):
        raise AnnotationError(
            f"{path} is about {_some(sorted(found))} and {genome.path} has {_some(genome.lengths)}: they share no "
            "chromosome, so nothing of it would be used; give files that name chromosomes alike (chr1 is not 1)"
        )


def _some(names: Collection[str]) -> str:
    return ", ".join(islice(names, 3)) + (", …" if len(names) > 3 else "")


def reference_bases(path: Path, genome: Genome) -> None:
    """Compare reference bases of a stored plan with the genome.

    Raises
    ------
    GenomeError
        They differ.
    """
    FactStore(path)
    with reading(f"the plan of {path}"):
        variants = layout.read_table(path, f"{layout.PLAN}/variants")
    columns = [variants[name].values for name in ("chrom", "pos", "ref")]
    rows = np.linspace(0, len(columns[0]) - 1, min(_COMPARED, len(columns[0]))).astype(int)
    for chrom, pos, ref in zip(*(column[rows].tolist() for column in columns), strict=True):
        if genome.fetch(chrom, pos - 1, pos)[0] != encode(ref.encode())[0]:
            raise GenomeError(
                f"{genome.path} is not the genome of the plan of {path}: {chrom}:{pos} is not {ref} there; give that "
                "genome with --fasta, or another --out to build anew"
            )


def replaceable(oracle: type[Oracle], tracks: Iterable[str], cdfs: Iterable[str], settings: Settings) -> None:
    """Refuse to begin what could not replace the NPZ that is there, even if every track got samples.

    Raises
    ------
    CoverageError
        See `chorus_store.coverage.require_replaceable`.
    """
    npz, path = settings.npz_path(oracle.name), settings.store_path(oracle.name)
    if not npz.exists() or settings.publish.allow_fewer_tracks:
        return
    there = [*FactStore(path).tracks.track.tolist(), *appended_tracks(path)] if path.exists() else []
    if every := {*tracks, *there}:
        require_replaceable(npz, Coverage.of_all(every, cdfs, demo=settings.demo))
