"""The options that all oracles share, and how their values are read."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from builders.oracle import Oracle
from builders.settings import KINDS_OF_PART
from chorus_store.budget import SAMPLERS
from chorus_store.plan import PlanOptions

#: Bytes of a name in any usual file system.
_LONGEST_NAME = 255

#: What NumPy's seeded streams take.
_SEEDS = 2**32

_EXAMPLES = """\
examples:
  {command} --demo --out demo       the whole chain on a synthetic genome with random weights
  {command} --part all              everything, resources downloaded once
  {command} --part all --dry-run    what that would do, take and need
  {command} --part variants --gpu 1 --shard 2/4
                                                    the second quarter of the SNPs on the second GPU
  {command} --part merge            compact and publish what the shards have scored
"""


def program_of(oracle: type[Oracle]) -> str:
    """Module that runs an oracle's command line, or the file of a script.

    Examples
    --------
    >>> from builders.legnet import LegNet
    >>> program_of(LegNet)
    'builders.legnet'
    """
    if oracle.__module__ != "__main__":
        return oracle.__module__
    main = sys.modules["__main__"]
    return main.__spec__.name if main.__spec__ else Path(getattr(main, "__file__", oracle.name)).name


def parser_of(oracle: type[Oracle]) -> argparse.ArgumentParser:
    """The parser of an oracle's command line."""
    program = program_of(oracle)
    command = f"python {program}" if program.endswith(".py") else f"python -m {program}"
    parser = argparse.ArgumentParser(
        prog=command,
        description=f"Build the per-track backgrounds of {oracle.title}: plan → score → compact → publish.",
        epilog=_EXAMPLES.format(command=command),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--part",
        choices=list(KINDS_OF_PART),
        default="all",
        help="variants or baselines: score them; merge: compact and publish; all (= both): everything (default)",
    )
    _add_inputs(parser.add_argument_group("inputs (downloaded once where they are not given)"))
    _add_model(parser.add_argument_group("model"), oracle)
    _add_plan(parser.add_argument_group("plan"), oracle)
    _add_compaction(parser.add_argument_group("compaction and publishing"))
    work = parser.add_argument_group("work")
    work.add_argument(
        "--out", type=_path, metavar="DIR", help="results (default $CHORUS_BACKGROUNDS_DIR or ~/.chorus/backgrounds)"
    )
    work.add_argument(
        "--shard", type=_shard, default=(1, 1), metavar="K/N", help="do every N-th unit of work, from the K-th"
    )
    work.add_argument(
        "--block",
        type=_positive,
        metavar="N",
        help=f"positions per unit of work (default {oracle.default_block}, or the store's)",
    )
    work.add_argument(
        "--demo", action="store_true", help="synthetic genome, small model, random weights; minutes on a laptop"
    )
    work.add_argument("--dry-run", action="store_true", help="say what would be done: units, bytes, memory, time")
    work.add_argument("--json", action="store_true", help="print the result as JSON on standard output")
    work.add_argument("-v", "--verbose", action="count", default=0, help="log more; -vv for every unit")
    return parser


def arguments_of(parser: argparse.ArgumentParser, values: Mapping[str, Any]) -> list[str]:
    """The arguments that a parser reads these values from; inverse of ``parse_args``.

    Parameters
    ----------
    parser : ArgumentParser
        Made by `parser_of`.
    values : mapping of str to object
        By destination; None, and what is no option, is left out.

    Examples
    --------
    >>> from builders.legnet import LegNet
    >>> arguments_of(parser_of(LegNet), {"batch": 8, "demo": True, "ccre": [("PLS", 4)], "cell_type": ["K562"]})
    ['--batch', '8', '--cell-type', 'K562', '--ccre', 'PLS=4', '--demo']
    """
    arguments: list[str] = []
    for action in parser._actions:
        value = values.get(action.dest)
        option = max(action.option_strings, key=len)
        if isinstance(value, bool):
            arguments += [option] * value
            continue
        for one in value if isinstance(value, list) else [] if value is None else [value]:
            text = "=".join(map(str, one)) if isinstance(one, tuple) else str(one)
            arguments += [f"{option}={text}"] if text.startswith("-") else [option, text]
    return arguments


def _add_inputs(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--fasta", type=_path, metavar="FILE", help="genome, plain or bgzipped FASTA; any chromosomes")
    group.add_argument("--gtf", type=_path, metavar="FILE", help="GENCODE genes (GTF)")
    group.add_argument("--ccres", type=_path, metavar="FILE", help="ENCODE SCREEN cCREs (BED)")
    group.add_argument("--tracks", type=_path, metavar="FILE", help="track table of the oracle")
    group.add_argument("--weights", type=_path, metavar="PATH", help="file or folder of model weights")
    group.add_argument("--offline", action="store_true", help="never download")


def _add_model(group: argparse._ArgumentGroup, oracle: type[Oracle]) -> None:
    group.add_argument("--gpu", type=_count, metavar="N", help="run on GPU N; short for --device cuda:N")
    group.add_argument("--device", metavar="NAME", help="cpu, cuda:0, …; default: the first GPU there is, else cpu")
    group.add_argument(
        "--precision", choices=["fp32", "tf32", "bf16"], default="fp32", help="of the forward pass (default fp32)"
    )
    group.add_argument(
        "--batch", type=_positive, default=oracle.default_batch, metavar="N",
        help=f"sequences per forward pass (default {oracle.default_batch})",
    )  # fmt: skip
    group.add_argument(
        "--random-weights", type=_seed, metavar="SEED", help="seeded random weights; the result is marked as a demo"
    )
    oracle.add_options(group)


def _add_plan(group: argparse._ArgumentGroup, oracle: type[Oracle]) -> None:
    defaults = PlanOptions(**oracle.plan_defaults).to_dict()
    for name, value in defaults.items():
        if isinstance(value, int):
            kind = _seed if name.endswith("_seed") else _count
            group.add_argument(f"--{name.replace('_', '-')}", type=kind, metavar="N", help=f"default {value:,}")
    group.add_argument(
        "--ccre", action="append", default=[], type=_ccre_count, metavar="CLASS=N",
        help="cCREs of a class, to be repeated; 'all=N' sets every class; default "
        + ", ".join(f"{name}={n}" for name, n in defaults["ccre_counts"].items()),
    )  # fmt: skip


def _add_compaction(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--sampler", choices=SAMPLERS, default="exact",
        help="exact: every value counts (default); algorithm-r: thin as the reference does",
    )  # fmt: skip
    group.add_argument(
        "--capacity", type=_positive, default=50_000, metavar="N", help="of the reservoir (default 50,000)"
    )
    group.add_argument(
        "--memory", type=parse_size, metavar="SIZE", help="budget of compaction, as 4G (default: half of what is free)"
    )
    group.add_argument(
        "--workers", type=_positive, default=os.cpu_count() or 1, metavar="N", help="threads (default: all cores)"
    )
    group.add_argument("--dask", metavar="ADDRESS", help="compact on the Dask cluster of this scheduler")
    group.add_argument("--codec", choices=["blosc", "pcodec"], default="blosc", help="of the store (default blosc)")
    group.add_argument("--discard-facts", action="store_true", help="remove the facts once the background is published")
    group.add_argument(
        "--allow-fewer-tracks", action="store_true", help="replace a background or NPZ that covers many more tracks"
    )


def _path(text: str) -> Path:
    if any(len(os.fsencode(part)) > _LONGEST_NAME for part in Path(text).parts):
        raise argparse.ArgumentTypeError(f"{text[:20]!r}… is too long for the name of a file")
    return Path(text)


def _shard(text: str) -> tuple[int, int]:
    try:
        k, n = (int(part) for part in text.split("/"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form K/N, such as 2/4") from None
    if not 1 <= k <= n:
        raise argparse.ArgumentTypeError(f"in {text!r} K must be from 1 to N")
    return k, n


def _count(text: str) -> int:
    try:
        value = int(text.replace("_", "").replace(",", ""))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is negative")
    return value


def _positive(text: str) -> int:
    value = _count(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def _seed(text: str) -> int:
    value = _count(text)
    if value >= _SEEDS:
        raise argparse.ArgumentTypeError(f"{text} is too large for a seed, which is at most {_SEEDS - 1:,}")
    return value


def _ccre_count(text: str) -> tuple[str, int]:
    name, equals, number = text.partition("=")
    if not equals or not number.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form CLASS=N, such as PLS=3000")
    return name, int(number)


def parse_size(text: str) -> int:
    """Bytes from a text such as 800M or 4G."""
    units = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
    number = text.upper().removesuffix("B").removesuffix("I")
    factor = units.get(number[-1:], 1)
    try:
        return int(float(number.rstrip("KMGT")) * factor)
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(f"{text!r} is not a size, such as 800M or 4G") from None
