"""Sizes of a model: as published, or small, with the same geometry and few channels."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Literal, get_args

from chorus_store.errors import InputError, TrackTableError
from chorus_store.tracks import TrackTable

Size = Literal["full", "small"]
SIZES = get_args(Size)


def add_option(options: argparse._ArgumentGroup) -> None:
    """``--size``."""
    options.add_argument(
        "--size", choices=SIZES, help="small: a few channels, for trying out (default full; --demo: small)"
    )


def asked(args: argparse.Namespace) -> Size:
    """The size asked for, or the one that suits a demonstration or a real run."""
    return args.size or ("small" if args.demo else "full")


def require_weights(args: argparse.Namespace) -> None:
    """Refuse what would need published weights of the small model, which has none.

    Raises
    ------
    InputError
    """
    if asked(args) == "small" and args.weights is None and args.random_weights is None:
        raise InputError("the small model has no published weights; give --random-weights SEED or --weights FILE")


def table_of(
    title: str, expected: int, tracks: Path | TrackTable, size: str, read: Callable[[Path], TrackTable], remedy: str
) -> TrackTable:
    """Track table of a model of some size: the small one takes any number of tracks, the published one its own.

    Parameters
    ----------
    title : str
        Of the oracle.
    expected : int
        Tracks of the published model.
    tracks : Path or TrackTable
        A file, or the table itself.
    size : str
    read : callable
        Reads the file.
    remedy : str
        Which file to give instead.

    Raises
    ------
    InputError
        No such size.
    TrackTableError
        The table is malformed, or of another number of tracks at full size.
    """
    if size not in SIZES:
        raise InputError(f"{size!r} is not one of {', '.join(SIZES)}")
    table = tracks if isinstance(tracks, TrackTable) else read(tracks)
    if size == "full" and len(table) != expected:
        source = "the track table" if isinstance(tracks, TrackTable) else tracks
        raise TrackTableError(
            f"{source} has {len(table):,} tracks where {title} predicts {expected:,}; "
            f"give {remedy} (--tracks), or take the small model (--size small)"
        )
    return table
