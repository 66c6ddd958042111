"""Sizes of a model: as published, or small, with the same geometry and few channels."""

from __future__ import annotations

import argparse
from typing import Literal, get_args

from chorus_store.errors import InputError

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
