"""What tracks of gene expression are measured over: the exons of all genes together, or of each gene by itself."""

from __future__ import annotations

import argparse
from typing import Literal, get_args

RnaMask = Literal["exons", "gene"]
MASKS: tuple[RnaMask, ...] = get_args(RnaMask)


def add_option(options: argparse._ArgumentGroup) -> None:
    """``--rna-mask``."""
    options.add_argument(
        "--rna-mask", choices=MASKS, default="exons",
        help="RNA tracks over the exons of all genes in the output, merged (exons, default), or one value per gene",
    )  # fmt: skip
