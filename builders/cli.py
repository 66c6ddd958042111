"""The command line that all oracles share: ``python -m builders.{oracle}``."""

from __future__ import annotations

import argparse
import json
import logging
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
from builders.options import parser_of
from builders.oracle import Oracle, RnaOracle
from builders.pipeline import Build
from builders.settings import KINDS_OF_PART, MERGING_PARTS, Inputs, Settings
from chorus_store import console
from chorus_store.background import backgrounds_folder
from chorus_store.budget import Sampler
from chorus_store.errors import InputError
from chorus_store.plan import PlanOptions
from chorus_store.publish import PublishOptions
from chorus_store.swap import recover

log = logging.getLogger("chorus")

_INPUTS = ("fasta", "gtf", "ccres", "tracks", "weights")


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


def _main(oracle_class: type[Oracle], argv: Sequence[str]) -> int:
    args = parser_of(oracle_class).parse_args(argv)
    _log_to_stderr(args.verbose)
    settings = _settings(oracle_class, args)
    if args.dry_run:
        workload, merging = oracle_class.workload(args), args.part in MERGING_PARTS
        report = estimate.describe(oracle_class, workload, settings, KINDS_OF_PART[args.part], merging)
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
            summary["example"] = demo.ask(_from_here(path))
    return summary


def _prepare(oracle_class: type[Oracle], args: argparse.Namespace, settings: Settings) -> tuple[Oracle, Inputs]:
    """Resolve all resources, then make the oracle."""
    if args.demo:
        own = [f"--{name}" for name in _INPUTS if getattr(args, name) is not None]
        if own:
            raise InputError(f"--demo brings inputs of its own; leave out {', '.join(own)}")
        folder, margin = settings.folder / "demo_inputs", demo.margin_of(oracle_class)
        inputs = demo.write_inputs(folder, oracle_class.demo_tracks(), margin)
        return oracle_class.from_options(args, inputs.tracks), inputs
    wanted = {"fasta": "hg38", **oracle_class.resources(args)}
    plan = settings.plan
    if plan.n_tss or plan.n_gene_bodies or issubclass(oracle_class, RnaOracle):
        wanted["gtf"] = "gencode"
    if any(plan.ccre_counts.values()):
        wanted["ccres"] = "ccres"
    if args.random_weights is not None:
        wanted.pop("weights", None)
    # Annotations that no set is drawn from are left out; an oracle may take tracks and weights that have no address.
    given = {option: getattr(args, option) for option in {**wanted, "tracks": "", "weights": ""}}
    files = resources.resolve(wanted, given, offline=args.offline)
    inputs = Inputs(**files)
    return oracle_class.from_options(args, inputs.tracks), inputs


def _settings(oracle: type[Oracle], args: argparse.Namespace) -> Settings:
    if args.random_weights is not None and args.weights is not None:
        raise InputError("--random-weights and --weights exclude each other")
    base = demo.plan_of(oracle) if args.demo else PlanOptions(**oracle.plan_defaults)
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
        block=args.block or (demo.block_of(oracle) if args.demo else None),
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
    lines = [f"{kind:<6} {_from_here(Path(summary[kind]))}" for kind in ("store", "npz") if kind in summary]
    if "example" in summary:
        lines += ["", summary["example"]]
    return "\n".join(lines)


def _from_here(path: Path) -> Path:
    """The path as one would type it: relative where it is below the working directory."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def _log_to_stderr(verbosity: int) -> None:
    level = [logging.WARNING, logging.INFO, logging.DEBUG][min(verbosity, 2)]
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("chorus").setLevel(level)
