"""``python -m chorus_store``: ask a store, look at it, check, export and import it."""

from __future__ import annotations

import argparse
import csv
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from chorus_store import console, options
from chorus_store.errors import InputError
from chorus_store.naming import STANDARD

if TYPE_CHECKING:
    import xarray as xr


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code of `chorus_store.console.run`."""
    return console.run(_main, argv)


def _main(argv: Sequence[str]) -> int | None:
    parser, commands = options.parsers()
    if not argv or argv[0] not in commands:
        parser.parse_args(argv)  # help, or an error
        return None
    # Options may stand between STORE and TABLE, which parsers of subcommands do not allow by themselves.
    arguments = commands[argv[0]].parse_intermixed_args(argv[1:])
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        return _COMMANDS[argv[0]](arguments)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """A warning as one line, without the place in the code."""
    print(f"warning: {message}", file=sys.stderr)


def _info(arguments: argparse.Namespace) -> None:
    from chorus_store import info

    document = info.describe(arguments.store)
    if arguments.json:
        console.print_json(document)
    else:
        print(info.render(document))


def _tracks(arguments: argparse.Namespace) -> None:
    import chorus_store

    with chorus_store.open(arguments.store) as store:
        wanted = {name: getattr(arguments, name) for name in ("layer", "assay", "cell_type", "pattern")}
        labels = _labels(store.chorus.tracks(**wanted))
        n_tracks = store.sizes["track"]
    rows = [dict(zip(labels, values, strict=True)) for values in zip(*labels.values(), strict=True)]
    if arguments.json:
        console.print_json(rows)
    elif arguments.tsv:
        writer = csv.writer(sys.stdout, delimiter="\t", lineterminator="\n")
        writer.writerows([list(labels), *(row.values() for row in rows)])
    else:
        shown = [name for name in ("track", "layer", "assay", "cell_type", "description") if name in labels]
        print(console.table(shown, [[row[name] for name in shown] for row in rows]))
        print(f"{len(rows):,} of {n_tracks:,} tracks", file=sys.stderr)


def _labels(store: xr.Dataset) -> dict[str, list[Any]]:
    """Everything that a store says of its tracks, apart from their CDFs; identifiers first."""
    names = [str(name) for name, variable in store.variables.items() if variable.dims == ("track",)]
    return {name: store[name].values.tolist() for name in sorted(names, key=lambda name: name != "track")}


def _percentile(arguments: argparse.Namespace) -> None:
    import chorus_store

    asked = bool(arguments.track and arguments.value)
    if arguments.table is None and (not asked or arguments.out):
        raise InputError(
            "give --track and --value, each as often as you like; or a TABLE, and --out FILE for its result"
        )
    if arguments.table is not None and (arguments.track or arguments.value or arguments.json):
        raise InputError(
            "a TABLE brings its tracks and values, and is answered as a table: leave out --track, --value, --json; "
            f"if {arguments.table} is no table, repeat --track and --value for more than one"
        )
    question = {name: getattr(arguments, name) for name in ("cdf", "method", "signed")}
    with chorus_store.open(arguments.store) as store:
        if asked:
            _print_answers(store, arguments, question)
        else:
            _answer_table(store, arguments, question)


def _print_answers(store: xr.Dataset, arguments: argparse.Namespace, question: dict[str, Any]) -> None:
    import xarray as xr

    values = xr.DataArray(arguments.value, dims="value")
    percentiles = store.chorus.percentile(values, arguments.track, **question)
    errors = store.chorus.standard_error(percentiles, cdf=arguments.cdf, signed=arguments.signed)
    rows = [
        (track, value, float(percentiles[j, i]), float(errors[j, i]))
        for i, track in enumerate(arguments.track)
        for j, value in enumerate(arguments.value)
    ]
    header = ("track", "value", "percentile", "standard_error")
    if not arguments.json:
        print(console.table(header, [(*asked, round(p, 6), float(f"{error:.2g}")) for *asked, p, error in rows]))
        return
    answers = [dict(zip(header, row, strict=True)) for row in rows]
    console.print_json({"store": arguments.store, "cdf": arguments.cdf, "method": arguments.method, "answers": answers})


def _answer_table(store: xr.Dataset, arguments: argparse.Namespace, question: dict[str, Any]) -> None:
    from chorus_store.percentile_table import rank_table
    from chorus_store.swap import is_stream

    columns = {name: getattr(arguments, name) for name in ("track_column", "value_column")}
    rank_table(store, arguments.table, arguments.out, **question, **columns)
    if arguments.out not in (None, STANDARD) and not is_stream(Path(arguments.out)):
        print(arguments.out)


def _validate(arguments: argparse.Namespace) -> int:
    from chorus_store import validate_command

    return validate_command.command(arguments)


def _diff(arguments: argparse.Namespace) -> int:
    from chorus_store import diff_command

    return diff_command.command(arguments)


def _export(arguments: argparse.Namespace) -> None:
    from chorus_store import npz

    out = arguments.out or npz.default_path(arguments.store)
    print(npz.export_npz(arguments.store, out, allow_fewer_tracks=arguments.allow_fewer_tracks))


def _import(arguments: argparse.Namespace) -> None:
    from chorus_store import npz_import

    out = arguments.out or npz_import.default_path(arguments.npz, arguments.oracle)
    choices = {name: getattr(arguments, name) for name in ("oracle", "codec", "allow_fewer_tracks")}
    print(npz_import.import_npz(arguments.npz, out, overwrite=arguments.force, **choices))


def _append(arguments: argparse.Namespace) -> None:
    from chorus_store import append

    append.command(arguments)


def _merge(arguments: argparse.Namespace) -> None:
    from chorus_store import merging

    merging.command(arguments)


_COMMANDS: Mapping[str, Callable[[argparse.Namespace], int | None]] = {
    "info": _info,
    "tracks": _tracks,
    "percentile": _percentile,
    "validate": _validate,
    "diff": _diff,
    "export": _export,
    "import": _import,
    "append": _append,
    "merge": _merge,
}
