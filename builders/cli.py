"""The command line that all oracles share: ``python -m builders.{oracle}``."""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from builders import demo, estimate, resources
from builders.devices import default_device
from builders.merge import check_memory, check_options, merge
from builders.oracle import Oracle
from builders.pipeline import Build
from builders.settings import KINDS_OF_PART, MERGING_PARTS, Inputs, Settings
from chorus_store import console
from chorus_store.budget import SAMPLERS, Sampler
from chorus_store.errors import InputError
from chorus_store.plan import PlanOptions
from chorus_store.publish import PublishOptions
from chorus_store.swap import recover

log = logging.getLogger("chorus")

_INPUTS = ("fasta", "gtf", "ccres", "tracks", "weights")

_EXAMPLES = """\
examples:
  python -m builders.{name} --demo --out demo       the whole chain on a synthetic genome with random weights
  python -m builders.{name} --part all              everything, resources downloaded once
  python -m builders.{name} --part all --dry-run    what that would do, take and need
  python -m builders.{name} --part variants --gpu 1 --shard 2/4
                                                    the second quarter of the SNPs on the second GPU
  python -m builders.{name} --part merge            compact and publish what the shards have scored
"""


def run(oracle: type[Oracle], argv: Sequence[str] | None = None) -> int:
    """Run the command line of an oracle.

    Returns
    -------
    int
        Exit code, see `chorus_store.console.run`.
    """
    # A job that a scheduler ends stops as it does on Ctrl-C: what is finished is kept.
    with _terminated_as_interrupted():
        return console.run(lambda arguments: _main(oracle, arguments), argv)


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def backgrounds_folder(out: Path | None) -> Path:
    """Where results go: ``--out``, else ``CHORUS_BACKGROUNDS_DIR``, else ``~/.chorus/backgrounds``; absolute."""
    configured = out or os.environ.get("CHORUS_BACKGROUNDS_DIR") or Path.home() / ".chorus" / "backgrounds"
    return Path(configured).resolve()


def parser_of(oracle: type[Oracle]) -> argparse.ArgumentParser:
    """The parser of an oracle's command line."""
    parser = argparse.ArgumentParser(
        prog=f"python -m builders.{oracle.name}",
        description=f"Build the per-track backgrounds of {oracle.title}: plan → score → compact → publish.",
        epilog=_EXAMPLES.format(name=oracle.name),
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
        "--out", type=Path, metavar="DIR", help="results (default $CHORUS_BACKGROUNDS_DIR or ~/.chorus/backgrounds)"
    )
    work.add_argument(
        "--shard", type=_shard, default=(1, 1), metavar="K/N", help="do every N-th unit of work, from the K-th"
    )
    work.add_argument(
        "--block", type=_positive, metavar="N", help="positions per unit of work (default 128, or the store's)"
    )
    work.add_argument(
        "--demo", action="store_true", help="synthetic genome, small model, random weights; minutes on a laptop"
    )
    work.add_argument("--dry-run", action="store_true", help="say what would be done: units, bytes, memory, time")
    work.add_argument("--json", action="store_true", help="print the result as JSON on standard output")
    work.add_argument("-v", "--verbose", action="count", default=0, help="log more; -vv for every unit")
    return parser


def _add_inputs(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--fasta", type=Path, metavar="FILE", help="genome, plain or bgzipped FASTA; any chromosomes")
    group.add_argument("--gtf", type=Path, metavar="FILE", help="GENCODE genes (GTF)")
    group.add_argument("--ccres", type=Path, metavar="FILE", help="ENCODE SCREEN cCREs (BED)")
    group.add_argument("--tracks", type=Path, metavar="FILE", help="track table of the oracle")
    group.add_argument("--weights", type=Path, metavar="PATH", help="file or folder of model weights")
    group.add_argument("--offline", action="store_true", help="never download")


def _add_model(group: argparse._ArgumentGroup, oracle: type[Oracle]) -> None:
    group.add_argument("--gpu", type=int, metavar="N", help="run on GPU N; short for --device cuda:N")
    group.add_argument("--device", metavar="NAME", help="cpu, cuda:0, …; default: the first GPU there is, else cpu")
    group.add_argument(
        "--precision", choices=["fp32", "tf32", "bf16"], default="fp32", help="of the forward pass (default fp32)"
    )
    group.add_argument(
        "--batch", type=_positive, default=oracle.default_batch, metavar="N",
        help=f"sequences per forward pass (default {oracle.default_batch})",
    )  # fmt: skip
    group.add_argument(
        "--random-weights", type=int, metavar="SEED", help="seeded random weights; the result is marked as a demo"
    )
    oracle.add_options(group)


def _add_plan(group: argparse._ArgumentGroup, oracle: type[Oracle]) -> None:
    defaults = PlanOptions(**oracle.plan_defaults).to_dict()
    for name, value in defaults.items():
        if isinstance(value, int):
            group.add_argument(f"--{name.replace('_', '-')}", type=_count, metavar="N", help=f"default {value:,}")
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


def _main(oracle_class: type[Oracle], argv: Sequence[str]) -> int:
    args = parser_of(oracle_class).parse_args(argv)
    _log_to_stderr(args.verbose)
    settings = _settings(oracle_class, args)
    if args.dry_run:
        report = estimate.describe(oracle_class, settings, KINDS_OF_PART[args.part], args.part in MERGING_PARTS)
        print(json.dumps(report, indent=2) if args.json else estimate.render(report))
        return 0
    summary = _build(oracle_class, args, settings)
    print(json.dumps(summary, indent=2) if args.json else _rendered(summary))
    return 0


def _build(oracle_class: type[Oracle], args: argparse.Namespace, settings: Settings) -> dict[str, Any]:
    path = settings.store_path(oracle_class.name)
    summary: dict[str, Any] = {"store": str(path)}
    kinds = KINDS_OF_PART[args.part]
    recover(path)
    if args.part in MERGING_PARTS:
        check_options(settings)
    if kinds:
        oracle, inputs = _prepare(oracle_class, args, settings)
        build = Build(oracle, inputs, settings)
        if args.part in MERGING_PARTS:
            check_memory(settings, build.store.shape)
        try:
            for kind in kinds:
                summary[kind] = build.score(kind).__dict__
        except KeyboardInterrupt:
            log.warning("interrupted; finished units are kept: the same command continues where this one stopped")
            raise
        left = sum(len(build.store.missing(kind)) for kind in ("variants", "baselines"))
        if left and args.part in MERGING_PARTS and settings.shard[1] > 1:
            log.warning("%d units belong to other shards; run --part merge once they are done", left)
            return summary
    if args.part in MERGING_PARTS:
        summary["npz"] = str(merge(path, oracle_class.name, settings))
        if args.demo:
            summary["example"] = demo.ask(path)
    return summary


def _prepare(oracle_class: type[Oracle], args: argparse.Namespace, settings: Settings) -> tuple[Oracle, Inputs]:
    """Resolve all resources, then make the oracle."""
    if args.demo:
        own = [f"--{name}" for name in _INPUTS if getattr(args, name) is not None]
        if own:
            raise InputError(f"--demo brings inputs of its own; leave out {', '.join(own)}")
        inputs = demo.write_inputs(settings.folder / "demo_inputs")
        return oracle_class.from_options(args, inputs.tracks), inputs
    wanted = {"fasta": "hg38", **oracle_class.resources(args)}
    plan = settings.plan
    if plan.n_tss or plan.n_gene_bodies:
        wanted["gtf"] = "gencode"
    if any(plan.ccre_counts.values()):
        wanted["ccres"] = "ccres"
    if args.random_weights is not None:
        wanted.pop("weights", None)
    given = {option: getattr(args, option) for option in _INPUTS}
    files = resources.resolve(wanted, given, offline=args.offline)
    inputs = Inputs(**files)
    return oracle_class.from_options(args, inputs.tracks), inputs


def _settings(oracle: type[Oracle], args: argparse.Namespace) -> Settings:
    if args.random_weights is not None and args.weights is not None:
        raise InputError("--random-weights and --weights exclude each other")
    base = demo.PLAN if args.demo else PlanOptions(**oracle.plan_defaults)
    asked = {name: getattr(args, name) for name, value in base.to_dict().items() if isinstance(value, int)}
    changed = {name: value for name, value in asked.items() if value is not None}
    counts = dict(base.ccre_counts)
    for name, n in args.ccre:
        if name != "all" and name not in counts:
            raise InputError(f"unknown cCRE class {name!r}; known classes: {', '.join(counts)}")
        counts.update(dict.fromkeys(counts, n) if name == "all" else {name: n})
    memory = args.memory or max(psutil.virtual_memory().available // 2, 2**28)
    return Settings(
        folder=backgrounds_folder(args.out),
        assembly="synthetic" if args.demo else oracle.assembly,
        demo=args.demo or args.random_weights is not None,
        device=_device(args),
        precision=args.precision,
        batch=args.batch,
        seed=args.random_weights or 0,
        block=args.block or (demo.BLOCK if args.demo else None),
        shard=args.shard,
        plan=PlanOptions.from_dict({**base.to_dict(), **changed, "ccre_counts": counts}),
        publish=PublishOptions(
            sampler=Sampler(args.sampler, args.capacity),
            codec=args.codec,
            memory_bytes=memory,
            workers=args.workers,
            discard_facts=args.discard_facts,
        ),
        dask=args.dask,
        command=[f"builders.{oracle.name}", *sys.argv[1:]],
    )


def _device(args: argparse.Namespace) -> str:
    if args.gpu is not None and args.device is not None:
        raise InputError("--gpu and --device exclude each other")
    if args.gpu is not None:
        return f"cuda:{args.gpu}"
    if args.device or args.part == "merge":
        return args.device or "cpu"
    return default_device()


def _rendered(summary: dict[str, Any]) -> str:
    lines = [f"store  {summary['store']}"]
    if "npz" in summary:
        lines.append(f"npz    {summary['npz']}")
    if "example" in summary:
        lines += ["", summary["example"]]
    return "\n".join(lines)


def _log_to_stderr(verbosity: int) -> None:
    level = [logging.WARNING, logging.INFO, logging.DEBUG][min(verbosity, 2)]
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("chorus").setLevel(level)


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
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size, such as 800M or 4G") from None
