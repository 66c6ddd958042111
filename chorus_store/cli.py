"""``python -m chorus_store``: look at a store, export it."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from chorus_store import console

_EXAMPLES = """\
examples:
  python -m chorus_store info enformer.zarr
  python -m chorus_store info enformer.zarr --json | jq .sampling
  python -m chorus_store export enformer.zarr
  python -m chorus_store export enformer.zarr --out /data/enformer_pertrack.npz
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code of `chorus_store.console.run`."""
    return console.run(_main, argv)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m chorus_store",
        description="Look at the background of an oracle, or export it.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    info = commands.add_parser("info", help="print what a store holds, finished or not")
    info.add_argument("store", metavar="PATH", type=Path, help="a store, {oracle}.zarr")
    info.add_argument("--json", action="store_true", help="print one JSON document instead of text")
    info.set_defaults(run=_info)
    export = commands.add_parser("export", help="write {oracle}_pertrack.npz, which the normalizer reads")
    export.add_argument("store", metavar="STORE", type=Path, help="a published store, {oracle}.zarr")
    export.add_argument(
        "--out",
        metavar="FILE",
        type=Path,
        help="default: {oracle}_pertrack.npz beside the store, or {oracle}_demo_pertrack.npz",
    )
    export.set_defaults(run=_export)
    return parser


def _main(argv: Sequence[str]) -> None:
    arguments = _parser().parse_args(argv)
    arguments.run(arguments)


def _info(arguments: argparse.Namespace) -> None:
    from chorus_store import info

    document = info.describe(arguments.store)
    print(json.dumps(document, indent=2) if arguments.json else info.render(document))


def _export(arguments: argparse.Namespace) -> None:
    from chorus_store import npz

    print(npz.export_npz(arguments.store, arguments.out or npz.default_path(arguments.store)))
