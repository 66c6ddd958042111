"""``python -m builders.rebuild``: the command that makes a store again, from what its provenance says."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from builders import recipe, resources
from builders.input_search import InputSearch
from builders.rebuild_commands import Commands, commands_of
from builders.software import software_versions
from chorus_store import console
from chorus_store.errors import InputError, MissingResourceError
from chorus_store.files import sha256_of, writing
from chorus_store.layout import RUNS

_EXAMPLES = """\
examples:
  python -m builders.rebuild enformer.zarr              print the command
  python -m builders.rebuild enformer.zarr --inputs /data
                                                        with the files below /data that have the recorded checksums
  python -m builders.rebuild enformer.zarr --inputs /data --run -- --device cuda:1
                                                        run it, on another device, and compare
"""


def run(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see `chorus_store.console.run` for exit codes, 2 also where the rebuilt store differs."""
    return console.run(_main, argv)


def _main(argv: Sequence[str]) -> int:
    mine = argv.index("--") if "--" in argv else len(argv)
    args, more = parser().parse_args(argv[:mine]), argv[mine + 1 :]
    made, out = recipe.read(args.store), Path(args.out)
    for note in _notes(made.software):
        print(f"note: {note}", file=sys.stderr)
    commands = commands_of(made, out, InputSearch(*_folders(args.inputs), resources.data_dir()), more)
    _prepare(commands)
    if not args.json:
        print(commands.rendered(), flush=True)
    differing = _rebuilt(commands, args, out) if args.run else []
    if args.json:
        shown = [["python", "-m", *arguments] for arguments in commands.arguments]
        print(json.dumps({"commands": shown, "missing": commands.missing, "differing": differing}, indent=2))
    elif args.run:
        print(_verdict(args.store, out, differing))
    return console.EXIT_ERROR if differing else console.EXIT_OK


def parser() -> argparse.ArgumentParser:
    """The parser of the command line, up to ``--``."""
    parser = argparse.ArgumentParser(
        prog="python -m builders.rebuild",
        usage="%(prog)s [-h] [--inputs DIR] [--out DIR] [--run] [--json] STORE [-- OPTION ...]",
        description="Print the command that makes a store again, from what its provenance says. Options after -- go "
        "to the build, such as --device.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("store", metavar="STORE", help="published or still being built; also a URL or .zip of one")
    parser.add_argument(
        "--inputs", action="append", default=[], metavar="DIR", help="look for the inputs below it; to be repeated"
    )
    parser.add_argument("--out", default="rebuilt", metavar="DIR", help="where the build goes (default rebuilt)")
    parser.add_argument("--run", action="store_true", help="run the command, and compare what it makes with STORE")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _folders(names: Sequence[str]) -> list[Path]:
    for name in names:
        if not Path(name).is_dir():
            raise InputError(f"--inputs {name}: there is no such folder")
    return [Path(name) for name in names]


def _notes(recorded: Mapping[str, str | None]) -> list[str]:
    """What may make another result of the same command: other versions."""
    here = software_versions()
    return [
        f"the store was built with {name} {version or 'absent'}, and here is {here.get(name) or 'none'}"
        for name, version in recorded.items()
        if here.get(name) != version
    ]


def _prepare(commands: Commands) -> None:
    """Write lists of models, and give inputs the names that they had."""
    for path, text in commands.lists.items():
        if path.exists() and path.read_text() != text:
            raise InputError(f"{path} is there already, and is another list of models; give another --out")
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        print(f"note: {path} lists the models", file=sys.stderr)
    for link, file in commands.links.items():
        with writing(link):
            link.parent.mkdir(parents=True, exist_ok=True)
            link.unlink(missing_ok=True)
            link.symlink_to(file)
        print(f"note: {link} is {file}", file=sys.stderr)


def _rebuilt(commands: Commands, args: argparse.Namespace, out: Path) -> list[str]:
    """Run the commands; the files of the store that differ, without the records of runs, which always do."""
    store = Path(args.store)
    if not store.is_dir():
        raise InputError(f"{store} is no folder, so it cannot be compared; rebuild it without --run")
    if commands.missing:
        names = ", ".join(f"{wanted['name']} ({what})" for what, wanted in commands.missing.items())
        raise MissingResourceError(f"these inputs are not found; give the folders that have them (--inputs): {names}")
    for arguments in commands.arguments:
        command = [sys.executable, "-m", *arguments]
        code = subprocess.run(command, check=False, stdout=subprocess.DEVNULL if args.json else None).returncode
        if code:
            raise SystemExit(code)
    before, after = _contents(store), _contents(out / store.name)
    return sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))


def _verdict(store: str, out: Path, differing: Sequence[str]) -> str:
    rebuilt = out / Path(store).name
    if not differing:
        return f"{rebuilt} is {store}, byte for byte"
    return f"{rebuilt} differs from {store} in {len(differing)} files: {', '.join(differing[:5])}"


def _contents(store: Path) -> dict[str, str]:
    files = {file.relative_to(store): file for file in store.rglob("*") if file.is_file()}
    return {name.as_posix(): sha256_of(file) for name, file in files.items() if name.parts[0] != RUNS}


if __name__ == "__main__":
    raise SystemExit(run())
