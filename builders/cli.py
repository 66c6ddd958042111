"""The command line that all oracles share: ``python -m builders.{oracle}``."""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from builders import demo, estimate, input_files, memory, preflight
from builders.devices import asked_device
from builders.interruption import interruptible
from builders.merge import merge
from builders.options import parser_of, program_of
from builders.oracle import Oracle
from builders.pipeline import Build
from builders.settings import KINDS_OF_PART, MERGING_PARTS, Settings
from chorus_store import claims, console
from chorus_store.background import backgrounds_folder
from chorus_store.budget import Sampler
from chorus_store.errors import InputError
from chorus_store.plan import PlanOptions
from chorus_store.publish import PublishOptions
from chorus_store.swap import recover
from chorus_store.units import KINDS

log = logging.getLogger("chorus")


def run(oracle: type[Oracle], argv: Sequence[str] | None = None) -> int:
    """Run the command line of an oracle.

    Returns
    -------
    int
        Exit code, see `chorus_store.console.run`.
    """
    with interruptible():
        return console.run(lambda arguments: _main(oracle, arguments), argv)


def _main(oracle_class: type[Oracle], argv: Sequence[str]) -> int:
    args = parser_of(oracle_class).parse_args(argv)
    _log_to_stderr(args.verbose)
    settings = settings_of(oracle_class, args, argv)
    if args.dry_run:
        report = preflight.foresee(oracle_class, args, settings)
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
    if not kinds:
        preflight.before_merge(oracle_class, settings)
    else:
        inputs = input_files.find(oracle_class, args, settings)
        oracle, materials = preflight.prepare(oracle_class, args, inputs, settings)
        build = Build(oracle, inputs, settings, materials)
        try:
            for kind in kinds:
                summary[kind] = build.score(kind).__dict__
        except KeyboardInterrupt:
            log.warning("interrupted; finished units are kept: the same command continues where this one stopped")
            raise
        left = [unit.name for kind in KINDS for unit in build.store.missing(kind)]
        if left and args.part in MERGING_PARTS:
            if settings.shard[1] > 1:
                log.warning("%d units belong to other shards; run --part merge once they are done", len(left))
                return summary
            claims.require_free(path, left)
    if args.part in MERGING_PARTS:
        summary["npz"] = str(merge(path, oracle_class.name, settings))
        if args.demo:
            summary["example"] = demo.ask(_from_here(path))
    return summary


def settings_of(oracle: type[Oracle], args: argparse.Namespace, argv: Sequence[str] = ()) -> Settings:
    """What a command line asks for; ``argv`` is the text of it, for the record."""
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
    budget = args.memory or max(memory.available() // 2, 2**28)
    return Settings(
        folder=backgrounds_folder(args.out),
        assembly=demo.ASSEMBLY if args.demo else oracle.assembly,
        demo=args.demo or args.random_weights is not None,
        device="cpu" if args.part == "merge" else asked_device(args),
        precision=args.precision,
        batch=args.batch,
        seed=args.random_weights or 0,
        block=args.block or (demo.block_of(oracle) if args.demo else None),
        shard=args.shard,
        plan=PlanOptions.from_dict({**base.to_dict(), **changed, "ccre_counts": counts}),
        publish=PublishOptions(
            sampler=Sampler(args.sampler, args.capacity),
            codec=args.codec,
            memory_bytes=budget,
            workers=args.workers,
            discard_facts=args.discard_facts,
            allow_fewer_tracks=args.allow_fewer_tracks,
        ),
        dask=args.dask,
        command=[program_of(oracle), *argv],
    )


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
