"""Recipe → commands: where the inputs are now, lists of models written again, options as arguments."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from builders import input_files, ledger, resources
from builders.cli import settings_of
from builders.input_search import InputSearch
from builders.options import arguments_of, parser_of
from builders.recipe import Model, Recipe, Wanted

#: In the place of a model for which no file is needed.
_NO_FILE = "-"


@dataclass
class Commands:
    """Commands that make a store again, one after the other.

    Attributes
    ----------
    arguments : list of list of str
        Of ``python -m``, for each.
    missing : dict of str to Wanted
        What was not found, by the option or the track that it is for; the commands have its name in its stead.
    lists : dict of Path to str
        Files that the commands read, to be written first.
    links : dict of Path to Path
        Links to be made first: names that inputs had, which the provenance has too, to where they are.
    """

    arguments: list[list[str]] = field(default_factory=list)
    missing: dict[str, Wanted] = field(default_factory=dict)
    lists: dict[Path, str] = field(default_factory=dict)
    links: dict[Path, Path] = field(default_factory=dict)

    def rendered(self) -> str:
        """The commands for a shell, after comments on what is missing."""
        lines = [
            f"# not found: {what}, {wanted['name']}, SHA-256 {wanted['sha256']}, {wanted['bytes']:,} bytes"
            for what, wanted in self.missing.items()
        ]
        for arguments in self.arguments:
            words = [("\\\n    " if word.startswith("--") else "") + shlex.quote(word) for word in arguments]
            lines.append(" ".join(["python", "-m", *words]))
        return "\n".join(lines)


def commands_of(made: Recipe, out: Path, search: InputSearch, more: Sequence[str] = ()) -> Commands:
    """The commands for a recipe.

    Parameters
    ----------
    made : Recipe
    out : Path
        Folder of the results.
    search : InputSearch
        Where inputs may be.
    more : sequence of str
        Further options, which do not change the result.

    Returns
    -------
    Commands
        One; and one more for every lot of tracks that was added later.
    """
    commands, parser = Commands(), parser_of(made.oracle)
    places = _Places(search, out, commands)
    files = _located(made, places)
    lots = _lots(made, out, places) if made.lots else [{}]
    for number, lot in enumerate(lots, 1):
        # Only the last one may discard the facts, or the store would take no more tracks.
        discarding = made.values["discard_facts"] and number == len(lots)
        values = {**made.values, **files, **lot, "discard_facts": discarding, "part": "all", "out": out}
        commands.arguments.append([f"builders.{made.oracle.name}", *arguments_of(parser, values), *more])
    return commands


class _Places:
    """Where inputs are now; what is found, and what is not, is kept with the commands."""

    def __init__(self, search: InputSearch, out: Path, commands: Commands) -> None:
        self._search, self._out, self.commands = search, out, commands

    def of(self, wanted: Wanted, what: str) -> str:
        """Path of a file or folder, under the name that it had; that name alone where it is not found."""
        name = str(wanted["name"])
        found = self._search.find(wanted)
        if found is None:
            self.commands.missing[what] = wanted
            return name
        if found.name == name:
            return str(found.absolute())
        link = self._out / "inputs" / wanted["sha256"][:12] / name
        self.commands.links[link] = found.absolute()
        return str(link)


def _located(made: Recipe, places: _Places) -> dict[str, str]:
    """Where the files of the options are; without those that a build finds by itself."""
    by_itself = _found_by_itself(made) if made.files else {}
    return {
        option: places.of(wanted, f"--{option}")
        for option, wanted in made.files.items()
        if by_itself.get(option) != (wanted["name"], wanted["sha256"])
    }


def _found_by_itself(made: Recipe) -> dict[str, tuple[str, str]]:
    """Option to name and checksum of what a build takes where it is given no file."""
    parser = parser_of(made.oracle)
    args = parser.parse_args(["--device", "cpu", *arguments_of(parser, made.values)])
    args.weights = made.files.get("weights")
    known = {}
    for option, name in input_files.registered(made.oracle, args, settings_of(made.oracle, args)).items():
        resource = resources.RESOURCES[name]
        checksum = ledger.checksum_now(resource, resources.data_dir()) or ""
        known[option] = (resource.file_name, checksum.removeprefix("sha256:"))
    return known


def _lots(made: Recipe, out: Path, places: _Places) -> list[dict[str, Any]]:
    """Options that name the models of each lot: in a list where there was one, else one by one."""
    lots: list[dict[str, Any]] = []
    for number, models in enumerate(made.lots, 1):
        if made.values["demo"] and number == 1:  # which brings a list of its own
            lots.append({})
            continue
        sources = {model.track: _source(model, places) for model in models}
        if made.values["demo"] or made.table is None:
            lots.append({"add": [f"{track}={source}" for track, source in sources.items()]})
            continue
        table = out / (made.table if number == 1 else f"added-{number}.tsv")
        rows = [("track", "model", "description"), *((m.track, sources[m.track], m.description) for m in models)]
        places.commands.lists[table] = "".join("\t".join(row) + "\n" for row in rows)
        lots.append({"tracks": table})
    return lots


def _source(model: Model, places: _Places) -> str:
    """Where the file of a model is; where there was none at the time, a place where there is none."""
    if model.file is None:
        return _NO_FILE
    return places.of(model.file, model.track) if model.file["sha256"] else str(model.file["name"])
