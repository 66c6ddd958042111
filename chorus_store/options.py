"""The options of ``python -m chorus_store``, command by command, with examples."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import chorus_store
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
""",
    "validate": """\
  python -m chorus_store validate enformer.zarr
  python -m chorus_store validate enformer.zarr --deep --json | jq '.findings[].repair'
  python -m chorus_store validate enformer.zarr --npz /data/enformer_pertrack.npz

Exit code 0 where nothing is wrong, 3 where something is, 2 where there is nothing that could be checked.
""",
    "diff": """\
  python -m chorus_store diff old/enformer.zarr enformer.zarr
  python -m chorus_store diff enformer_pertrack.npz https://example.org/enformer.zarr --cdf effect --top 50
  python -m chorus_store diff old/enformer.zarr enformer.zarr --plot drift.png --tsv > drift.tsv
  python -m chorus_store diff old/enformer.zarr enformer.zarr --fail-above 0.05 || echo drifted

Exit code 0, whether anything differs or not; 3 where --fail-above is given and exceeded.
""",
    "export": """\
  python -m chorus_store export enformer.zarr
  python -m chorus_store export enformer.zarr --out /data/enformer_pertrack.npz
""",
    "append": """\
  python -m chorus_store append chrombpnet.zarr more/chrombpnet.zarr
  python -m chorus_store append chrombpnet.zarr https://example.org/chrombpnet.zarr --track ATAC:GM12878
  python -m chorus_store append legnet_pertrack.npz other/legnet_pertrack.npz --cell-type K562
""",
    "merge": """  python -m chorus_store merge a/chrombpnet.zarr b/chrombpnet_pertrack.npz --out chrombpnet.zarr
  python -m chorus_store merge host1/enformer.zarr host2/enformer.zarr --out all/enformer.zarr

Builds of the same plan with the same options, whose facts are there, are joined unit of work by unit of work, finished
or not; --part merge then publishes the result, and --out may be one of them, which gets the units that it lacks.
Anything else is joined track by track: published backgrounds of one oracle, each with tracks that the others lack.
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
        description="Ask the background of an oracle, look at it, check, compare, export or import it.",
        epilog="examples:\n" + "".join(text.partition("\n")[0] + "\n" for text in _EXAMPLES.values()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"chorus-store {chorus_store.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_info(commands)
    _add_tracks(commands)
    _add_percentile(commands)
    _add_validate(commands)
    _add_diff(commands)
    _add_export(commands)
    _add_import(commands)
    _add_append(commands)
    _add_merge(commands)
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
    # A number with an exponent is one too, and no option.
    parser._negative_number_matcher = re.compile(r"-(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$")
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
    table.add_argument("--out", metavar="FILE", help="default: stdout, which is also -; gzipped if it ends in .gz")
    table.add_argument("--track-column", default="track", metavar="NAME", help="default: track")
    table.add_argument("--value-column", default="value", metavar="NAME", help="default: value")


def _add_validate(commands: Any) -> None:
    parser = _command(commands, "validate", "check a store, its build and its NPZ file from end to end")
    parser.add_argument("store", metavar="STORE", help=f"{_PLACE}; finished or not")
    parser.add_argument("--deep", action="store_true", help="read every byte, and compare it with its checksum")
    parser.add_argument("--npz", metavar="FILE", type=Path, help="to compare; default: the one beside the store")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of text")


def _add_diff(commands: Any) -> None:
    parser = _command(commands, "diff", "compare two backgrounds: tracks, drift of every CDF, provenance")
    parser.add_argument("a", metavar="A", help=f"the old one: {_PLACE}")
    parser.add_argument("b", metavar="B", help="the new one, likewise")
    parser.add_argument("--cdf", action="append", choices=CDFS, help="may be repeated; default: those that both have")
    parser.add_argument("--top", type=int, default=10, metavar="N", help="most drifted tracks to list (default 10)")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the drift too: .png, .svg, .pdf")
    parser.add_argument(
        "--fail-above",
        type=float,
        metavar="KS",
        help="exit code 3 if the distance of any track is larger, or it has samples in one background alone",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one JSON document instead of text")
    form.add_argument("--tsv", action="store_true", help="print tab-separated values, every CDF of every common track")


def _add_export(commands: Any) -> None:
    parser = _command(commands, "export", "write {oracle}_pertrack.npz, which the normalizer reads")
    parser.add_argument("store", metavar="STORE", help="a published store, {oracle}.zarr")
    parser.add_argument(
        "--out",
        metavar="FILE",
        help="default: {oracle}_pertrack.npz beside the store, or {oracle}_demo_pertrack.npz",
    )
    _add_allowance(parser)


def _add_import(commands: Any) -> None:
    parser = _command(commands, "import", "make a store of a {oracle}_pertrack.npz")
    parser.add_argument("npz", metavar="FILE", help="of any age: with or without counts and provenance")
    parser.add_argument(
        "--out", metavar="STORE", type=Path, help="default: {oracle}.zarr beside the file, or {oracle}_demo.zarr"
    )
    parser.add_argument("--oracle", metavar="NAME", help="default: what the file says, or is called")
    parser.add_argument("--codec", choices=["blosc", "pcodec"], default="blosc", help="of the CDFs (default blosc)")
    parser.add_argument("--force", action="store_true", help="replace a store that was imported before")
    _add_allowance(parser)


def _add_allowance(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--allow-fewer-tracks", action="store_true", help="replace even what has samples of many more tracks"
    )


def _add_append(commands: Any) -> None:
    parser = _command(commands, "append", "add tracks of another background to a store or NPZ file")
    parser.add_argument("store", metavar="STORE", help="what grows: a local store or NPZ file")
    parser.add_argument("source", metavar="FROM", help=f"{_PLACE}; of the same oracle")
    parser.add_argument("--track", action="append", metavar="ID", help="may be repeated; default: all that fit")
    for name in ("layer", "assay", "cell-type"):
        parser.add_argument(f"--{name}", action="append", metavar="NAME", help="may be repeated: any of these")
    parser.add_argument("--pattern", metavar="PATTERN", help="as of the command tracks")


def _add_merge(commands: Any) -> None:
    parser = _command(commands, "merge", "join builds of disjoint units, or backgrounds of disjoint tracks")
    parser.add_argument(
        "stores", metavar="STORE", nargs="+", help="two or more; to join tracks: of any kind, also URLs"
    )
    parser.add_argument("--out", metavar="STORE", type=Path, required=True, help="the store to make")
    parser.add_argument("--force", action="store_true", help="replace a store that was merged or imported before")
    _add_allowance(parser)
