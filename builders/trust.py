"""Which checkpoints may run code: pickles hold programs, and reading one with more than tensors runs them."""

from __future__ import annotations

import argparse
import re

#: Instead of a checksum: every file is trusted.
ANY = "any"
#: What to do about a checkpoint that is not trusted.
REMEDY = "if you trust it to run code, give --trust-pickle, or --trust-pickle SHA256 for this very file"


def add_option(options: argparse._ArgumentGroup) -> None:
    """``--trust-pickle [SHA256]``, a list of checksums and `ANY`."""
    options.add_argument(
        "--trust-pickle", action="append", nargs="?", const=ANY, default=[], type=_checksum, metavar="SHA256",
        help="read checkpoints that hold more than tensors, and so can run code: any, or the file of this SHA-256",
    )  # fmt: skip


def _checksum(text: str) -> str:
    digest = text.lower().removeprefix("sha256:")
    if digest != ANY and not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise argparse.ArgumentTypeError(f"{text!r} is not a SHA-256 in hexadecimal")
    return digest
