"""The options of ``python -m chorus_store``, command by command, with examples."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from chorus_store.layout import CDFS
from chorus_store.lookup import Method

_PLACE = "a store (folder, .zip) or an NPZ file; path or URL"

_EXAMPLES = {
    "info": """\
  python -m chorus_store info enformer.zarr
  python -m chorus_store info https://example.org/enformer.zarr
  python -m chorus_store info enformer.zarr --json | jq .sampling
""",
    "tracks": """\
  python -m chorus_store tracks enformer.zarr ctcf
  python -m chorus_store tracks enformer.zarr 'H3K(4|27)' --cell-type K562 --cell-type HepG2
  python -m chorus_store tracks enformer.zarr --layer tss_activity --tsv > cage.tsv
  python -m chorus_store tracks enformer.zarr --assay DNASE --json | jq -r '.[].track'
""",
    "percentile": """\
  python -m chorus_store percentile enformer.zarr --track ENCFF833POA --value 0.31
  python -m chorus_store percentile enformer.zarr --track ENCFF833POA --cdf summary --value 12.5 --json
  python -m chorus_store percentile enformer.zarr effects.tsv.gz --out ranked.tsv.gz
  zcat effects.csv.gz | python -m chorus_store percentile enformer.zarr - --value-column log2fc > ranked.csv

A table has a header and, in any columns, a track and a value in each row; tabs or commas separate them. It is answered
row by row with two more columns, {cdf}_percentile and {cdf}_standard_error, empty where there is no answer.
A small negative number is written --value=-1e-3.
""",
    "validate": """\
  python -m chorus_store validate enformer.zarr
""",
    "export": """\
  python -m chorus_store export enformer.zarr
  python -m chorus_store export enformer.zarr --out /data/enformer_pertrack.npz
""",
    "import": """\
  python -m chorus_store import enformer_pertrack.npz
  python -m chorus_store import old/sei_pertrack.npz --out sei.zarr
""",
}


def parsers() -> tuple[argparse.ArgumentParser, Mapping[str, argparse.ArgumentParser]]:
    """The whole command line, and the parser of each command."""
    parser = argparse.ArgumentParser(
        prog="python -m chorus_store",
        description="Ask the background of an oracle, look at it, check, export or import it.",
        epilog="examples:\n" + "".join(text.partition("\n")[0] + "\n" for text in _EXAMPLES.values()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_info(commands)
    _add_tracks(commands)
    _add_percentile(commands)
    _add_validate(commands)
    _add_export(commands)
    _add_import(commands)
    return parser, commands.choices


def _command(commands: Any, name: str, summary: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=f"examples:\n{_EXAMPLES[name]}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    return parser


def _add_info(commands: Any) -> None:
    parser = _command(commands, "info", "print what a store holds, finished or not")
    parser.add_argument("store", metavar="STORE", help=_PLACE)
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of text")


def _add_tracks(commands: Any) -> None:
    parser = _command(commands, "tracks", "list the tracks of a store, all or those that fit")
    parser.add_argument("store", metavar="STORE", help=_PLACE)
    parser.add_argument(
        "pattern",
        metavar="PATTERN",
        nargs="?",
        help="regular expression, found anywhere in identifier, description, cell type or assay, in any case",
    )
    for name in ("layer", "assay", "cell-type"):
        parser.add_argument(f"--{name}", action="append", metavar="NAME", help="may be repeated: any of these")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print a JSON list of one object per track")
    form.add_argument("--tsv", action="store_true", help="print tab-separated values, every label and count")


def _add_percentile(commands: Any) -> None:
    parser = _command(commands, "percentile", "rank values against the background of their tracks")
    parser.add_argument("store", metavar="STORE", help=_PLACE)
    parser.add_argument("table", metavar="TABLE", nargs="?", help="TSV or CSV of tracks and values; - is stdin")
    parser.add_argument("--track", action="append", metavar="ID", help="may be repeated")
    parser.add_argument(
        "--value", action="append", type=float, metavar="X", help="asked of each track; may be repeated"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document (with --track and --value)")
    question = parser.add_argument_group("question")
    question.add_argument(
        "--cdf",
        choices=CDFS,
        default="effect",
        help="background of variant effects (default), of window statistics, or of single bins",
    )
    question.add_argument(
        "--method",
        choices=get_args(Method),
        default="weak",
        help="whether background values equal to the value count: all (default), none, half, or drawn by a hash",
    )
    sign = question.add_mutually_exclusive_group()
    sign.add_argument("--signed", action="store_true", default=None, help="from -1 to 1, whatever the store says")
    sign.add_argument("--unsigned", action="store_false", dest="signed", help="from 0 to 1, likewise")
    table = parser.add_argument_group("table")
    table.add_argument("--out", metavar="FILE", help="default: stdout; gzipped if it ends in .gz")
    table.add_argument("--track-column", default="track", metavar="NAME", help="default: track")
    table.add_argument("--value-column", default="value", metavar="NAME", help="default: value")


def _add_validate(commands: Any) -> None:
    parser = _command(commands, "validate", "read all of a background and check it")
    parser.add_argument("store", metavar="STORE", help=_PLACE)


def _add_export(commands: Any) -> None:
    parser = _command(commands, "export", "write {oracle}_pertrack.npz, which the normalizer reads")
    parser.add_argument("store", metavar="STORE", help="a published store, {oracle}.zarr")
    parser.add_argument(
        "--out",
        metavar="FILE",
        type=Path,
        help="default: {oracle}_pertrack.npz beside the store, or {oracle}_demo_pertrack.npz",
    )


def _add_import(commands: Any) -> None:
    parser = _command(commands, "import", "make a store of a {oracle}_pertrack.npz")
    parser.add_argument("npz", metavar="FILE", help="of any age: with or without counts and provenance")
    parser.add_argument("--out", metavar="STORE", type=Path, help="default: {oracle}.zarr beside the file")
    parser.add_argument("--oracle", metavar="NAME", help="default: what the file says, or is called")
    parser.add_argument("--codec", choices=["blosc", "pcodec"], default="blosc", help="of the CDFs (default blosc)")
    parser.add_argument("--force", action="store_true", help="replace a store that was imported before")
