"""``python -m builders.resources``: the registry, what of it is here, and whether it still is what came."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from builders import fetch, ledger
from builders.fetch import Resource
from builders.resources import RESOURCES, data_dir, to_get
from chorus_store import console
from chorus_store.errors import InputError, MissingResourceError
from chorus_store.matching import near

_EXAMPLES = """\
examples:
  python -m builders.resources list             everything that a build may need, and what of it is here
  python -m builders.resources fetch hg38 gencode
                                                download some of it, for a machine without a network
  python -m builders.resources verify           hash again what is here
"""


def run(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see `chorus_store.console.run` for exit codes, 2 also where a file has changed."""
    return console.run(_main, argv)


def _main(argv: Sequence[str]) -> int:
    args = _parser().parse_args(argv)
    unknown = [name for name in args.name if name not in RESOURCES]
    if unknown:
        raise InputError(f"no resource {unknown[0]!r}; {near(unknown[0], RESOURCES)}")
    chosen = {name: RESOURCES[name] for name in args.name or RESOURCES}
    if args.command == "fetch":
        _fetch(chosen)
    rows = [_described(name, resource, thorough=args.command == "verify") for name, resource in chosen.items()]
    if args.command == "verify":
        rows = [row for row in rows if row["state"] != "absent" or row["name"] in args.name]
    print(json.dumps(rows, indent=2) if args.json else "\n".join(map(_line, rows)) or f"nothing in {data_dir()}")
    return console.EXIT_ERROR if any(row["state"] == "changed" for row in rows) else console.EXIT_OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m builders.resources",
        description=f"Weights, tables, genome and annotations that builds download once, into {data_dir()}.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command, names, text in (
        ("list", "*", "say what there is, and what of it is here"),
        ("fetch", "+", "download what is not here"),
        ("verify", "*", "compare checksums of what is here; exit code 2 where one differs"),
    ):
        one = commands.add_parser(command, help=text, description=text)
        one.add_argument("name", nargs=names, metavar="NAME", help="of a resource" + (", default all" * (names == "*")))
        one.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _fetch(chosen: dict[str, Resource]) -> None:
    folder = data_dir()
    absent = {name: resource for name, resource in chosen.items() if _here(resource)[1] is None}
    problems = []
    for name, resource in absent.items():
        try:
            if reason := fetch.unreachable({name: resource.url}).get(name):
                raise fetch.DownloadError(reason)
            fetch.download(resource, folder)
        except fetch.DownloadError as error:
            problems.append(to_get(resource, folder, str(error)))
    if problems:
        raise MissingResourceError(f"{len(problems)} of {len(chosen)} resources are missing:\n" + "\n".join(problems))


def _here(resource: Resource) -> tuple[str, Path | None]:
    """Where a resource is: in the data directory, in an installed package, or nowhere."""
    file = data_dir() / resource.file_name
    if file.exists():
        return "present", file
    file_of_package = fetch.installed(resource)
    return ("installed", file_of_package) if file_of_package else ("absent", None)


def _described(name: str, resource: Resource, *, thorough: bool) -> dict[str, Any]:
    state, file = _here(resource)
    if thorough and state == "present" and file is not None:
        expected = ledger.expected_checksum(resource, data_dir())
        state = "no checksum known" if expected is None else "ok" if ledger.matches(file, expected) else "changed"
    return {
        "name": name,
        "state": state,
        "file": None if file is None else str(file),
        "title": resource.title,
        "size": resource.size,
        "licence": resource.licence,
        "checksum": resource.checksum,
        "url": resource.url,
    }


def _line(row: dict[str, Any]) -> str:
    return (
        f"{row['name']:<20} {row['state']:<10} {row['title']} ({row['size']}; {row['licence']})\n"
        f"{'':<20} {row['file'] or row['url']}"
    )
