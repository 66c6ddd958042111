"""``python -m builders.check MODULE``: does an oracle do what the pipeline needs? What is wrong, in plain words.

The oracle is made as ``--demo`` makes it, loaded with random weights and asked for predictions of random sequences:
first whether it answers in the form that is expected, then the checks of `builders.conformance`. With a track table or
weights of its own it is the oracle of a real build.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import importlib.util
import inspect
import json
import re
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import numpy as np

from builders import conformance
from builders.devices import asked_device
from builders.options import parser_of
from builders.oracle import FloatArray, Head, Oracle, Reduced
from chorus_store import console
from chorus_store.errors import ChorusStoreError
from chorus_store.layers import LAYERS
from chorus_store.plan import PlanOptions
from chorus_store.sequence import UNKNOWN
from chorus_store.tracks import TrackTable

T = TypeVar("T")

_EXAMPLES = """\
examples:
  python -m builders.check builders.template         a module as Python imports it
  python -m builders.check my_oracle.py              a file
  python -m builders.check builders.enformer --backend torch
                                                     with options of the oracle's own command line
  python -m builders.check builders.borzoi --tracks targets_human.txt.gz --gpu 0
                                                     the published size on a GPU
  python -m builders.check builders.cispliceai --weights CI-SpliceAI.pb
                                                     published weights
"""
#: What the pipeline reads of the class, before there is an instance, and of the instance.
_OF_CLASS = {
    "name": (str, 'lower-case identifier, such as name = "my_oracle"'),
    "title": (str, "name for people"),
    "expected_tracks": (int, "tracks of the published model"),
}
_OF_INSTANCE = {
    "input_length_bp": (int, "bases of one input window"),
    "heads": (tuple, "outputs of the model, a tuple of builders.oracle.Head"),
    "tracks": (TrackTable, "what is predicted, a chorus_store.tracks.TrackTable"),
}
#: Options for what a demonstration makes up: track table, weights, and models of oracles with one for each track.
_MADE_UP = ("tracks", "weights", "add")
#: Repeats of the search for the centre of an effect: random weights spread effects widely.
_REPEATS = 8


class _BrokenError(Exception):
    """Something without which nothing further can be checked; the message is the finding."""


def run(argv: Sequence[str] | None = None) -> int:
    """Run the command line: 0 if every oracle of the module conforms, 2 if not; see `chorus_store.console.run`."""
    return console.run(_main, argv)


def _main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m builders.check",
        description="Check the oracles that a module defines; all other options go to the oracle.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("module", metavar="MODULE", help="file, or dotted name")
    parser.add_argument("--json", action="store_true", help="print JSON")
    args, options = parser.parse_known_args(argv)
    reports = check_module(args.module, options)
    if args.json:
        print(json.dumps({"module": args.module, "oracles": reports}, indent=2))
    else:
        print("\n".join(f"{name}: {_rendered(findings)}" for name, findings in reports.items()))
    return console.EXIT_ERROR if any(reports.values()) else console.EXIT_OK


def _rendered(findings: list[str]) -> str:
    return "conforms" if not findings else "\n".join(["does not conform", *(f"  - {finding}" for finding in findings)])


def check_module(place: str, options: Sequence[str] = ()) -> dict[str, list[str]]:
    """Check every oracle that a module defines.

    Parameters
    ----------
    place : str
        Path of a Python file, or dotted name of a module.
    options : sequence of str
        For the command line of the oracle.

    Returns
    -------
    dict of str to list of str
        Class name to findings, none where it conforms. The key is ``place`` where there is no class to check.
    """
    try:
        classes = _oracles_of(_import(place))
    except _BrokenError as broken:
        return {place: [str(broken)]}
    return {cls.__name__: check_oracle(cls, options) for cls in classes}


def check_oracle(cls: type[Oracle], options: Sequence[str] = ()) -> list[str]:
    """Findings about one oracle; see `check_module`."""
    try:
        _check_class(cls)
        args = _asked(cls, options)
        oracle = _made(cls, args)
        _check_instance(oracle)
        trained = _is_trained(oracle, args)
        _check_load(oracle, args, trained=trained)
        return _attempt("reduce", lambda: conformance.check(oracle, repeats=_REPEATS, trained=trained))
    except _BrokenError as broken:
        return str(broken).splitlines()


def _import(place: str) -> ModuleType:
    path = Path(place)
    if path.suffix != ".py":
        return _attempt(f"import of {place}", lambda: importlib.import_module(place))
    if not path.is_file():
        raise _BrokenError(f"there is no file {place}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None  # of a name that ends in .py
    module = importlib.util.module_from_spec(spec)
    # As if the file were run: modules beside it can be imported, and dataclasses find their module.
    sys.path.insert(0, str(path.parent.resolve()))
    sys.modules[path.stem] = module
    loader = spec.loader
    _attempt(f"import of {place}", lambda: loader.exec_module(module))
    return module


def _oracles_of(module: ModuleType) -> list[type[Oracle]]:
    found = [
        cls
        for cls in vars(module).values()
        if inspect.isclass(cls) and issubclass(cls, Oracle) and cls.__module__ == module.__name__
    ]
    if not found:
        raise _BrokenError(f"no class of {module.__name__} derives from builders.oracle.Oracle")
    return found


def _check_class(cls: type[Oracle]) -> None:
    missing = sorted(cls.__abstractmethods__)
    if missing:
        raise _BrokenError(f"not implemented: {', '.join(missing)}")
    _check_attributes(cls, _OF_CLASS)
    if not re.fullmatch(r"[a-z][a-z0-9_]*", cls.name):
        raise _BrokenError(f"name is {cls.name!r}: it names files and commands, so only a-z, 0-9 and _ will do")


def _check_attributes(thing: Any, wanted: dict[str, tuple[type, str]]) -> None:
    findings = []
    for name, (kind, meaning) in wanted.items():
        if not hasattr(thing, name):
            findings.append(f"attribute {name} is missing: {meaning}")
        elif not isinstance(getattr(thing, name), kind):
            findings.append(f"attribute {name} is a {type(getattr(thing, name)).__name__}: it must be the {meaning}")
    if findings:
        raise _BrokenError("\n".join(findings))


def _asked(cls: type[Oracle], options: Sequence[str]) -> argparse.Namespace:
    """The options, with ``--demo`` unless they name what a demonstration makes up."""
    parser = _attempt("its command line", lambda: parser_of(cls))
    args = parser.parse_args(options)
    if any(getattr(args, name, None) for name in _MADE_UP):
        return args
    return parser.parse_args(["--demo", *options])


def _made(cls: type[Oracle], args: argparse.Namespace) -> Oracle:
    """The oracle, of the track table that is given or that of a demonstration."""
    if not args.demo:
        return _attempt("from_options", lambda: cls.from_options(args, args.tracks))
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "targets.txt"
        table.write_text(_attempt("demo_tracks", cls.demo_tracks))
        return _attempt("from_options", lambda: cls.from_options(args, table if table.stat().st_size else None))


def _check_load(oracle: Oracle, args: argparse.Namespace, *, trained: bool) -> None:
    """Load it as the command line says; what it predicts is decided by the weights, or by their seed."""
    device, seed = asked_device(args), args.random_weights or 0

    def answers(seed: int) -> list[FloatArray]:
        load = functools.partial(oracle.load, args.weights, device=device, precision=args.precision, seed=seed)
        _attempt("load", load)
        return _answers(oracle)

    others = [] if trained else answers(seed + 1)
    if not all(map(np.array_equal, first := answers(seed), answers(seed))):
        raise _BrokenError("predictions differ from load to load although the weights, or their seed, are the same")
    if others and all(map(np.array_equal, first, others)):
        raise _BrokenError("load(None, seed=…) makes the same weights of every seed")


def _is_trained(oracle: Oracle, args: argparse.Namespace) -> bool:
    """Whether the weights come from files."""
    own_models = oracle.tracks_per_unit is not None and not args.demo and args.random_weights is None
    return args.weights is not None or own_models


def _check_instance(oracle: Oracle) -> None:
    _check_attributes(oracle, _OF_INSTANCE)
    findings = []
    if oracle.input_length_bp < 2 or oracle.input_length_bp % 2:
        findings.append(f"input_length_bp is {oracle.input_length_bp}: windows are halved, so it must be even")
    if not oracle.heads or not all(isinstance(head, Head) for head in oracle.heads):
        findings.append("heads must be a tuple of builders.oracle.Head, at least one")
    else:
        slots = PlanOptions(**oracle.plan_defaults).bin_slots
        for resolution, n_bins in oracle.bins_by_resolution().items():
            if n_bins < slots:
                findings.append(
                    f"the head of {resolution} bp has {n_bins} bins, fewer than the {slots} that are drawn at every "
                    "position; set bin_slots in plan_defaults"
                )
    findings += [] if findings else conformance.check_declaration(oracle)
    if findings:
        raise _BrokenError("\n".join(findings))


def _answers(oracle: Oracle) -> list[FloatArray]:
    """Statistics of every model of the oracle, once their form is checked."""
    return [_checked_answer(model) for model in _attempt("for_tracks", lambda: list(conformance.models(oracle)))]


def _checked_answer(oracle: Oracle) -> FloatArray:
    """Statistics of sequences with and without unknown bases."""
    codes = np.random.default_rng(0).integers(0, 4, (2, oracle.input_length_bp), dtype=np.uint8)
    codes[1, ::7] = UNKNOWN
    bins = {r: np.zeros((2, 3), np.int32) for r in oracle.bins_by_resolution()}
    given = codes.copy()
    answer, again = (_attempt("reduce", lambda: conformance.reduced(oracle, codes, bins)) for _ in range(2))
    if not np.array_equal(codes, given):
        raise _BrokenError("reduce changes the sequences that it is given; let it work on a copy")
    if not isinstance(answer, Reduced):
        raise _BrokenError(f"reduce returns a {type(answer).__name__}, not a builders.oracle.Reduced")
    n = len(oracle.tracks)
    expected = {"statistics": (2, n), **({"bins": (2, 3, n)} if bins else {})}
    for what, shape in expected.items():
        values = getattr(answer, what)
        if not isinstance(values, np.ndarray) or values.shape != shape or values.dtype != np.float32:
            found = f"{values.dtype} {values.shape}" if isinstance(values, np.ndarray) else type(values).__name__
            raise _BrokenError(f"{what} of reduce must be a float32 array of shape {shape}, not {found}")
        if not np.isfinite(values).all():
            where = "sequences with unknown bases" if np.isfinite(values[0]).all() else "random sequences"
            raise _BrokenError(f"{what} of reduce are not finite for {where}")
        if not np.array_equal(values, getattr(again, what)):
            raise _BrokenError(
                f"{what} of reduce differ when the same sequences come again; is the model in evaluation?"
            )
    _check_fold_changes(oracle, answer.statistics)
    return answer.statistics


def _check_fold_changes(oracle: Oracle, statistics: FloatArray) -> None:
    """A logarithm needs statistics above minus the pseudocount."""
    for name in np.unique(oracle.tracks.layer).tolist():
        layer, values = LAYERS[name], statistics[:, oracle.tracks.layer == name]
        if layer.pseudocount > 0 and (values <= -layer.pseudocount).any():
            raise _BrokenError(
                f"statistics of {name} go down to {values.min():.3g}: effects of this layer are {layer.formula} with "
                f"pseudocount {layer.pseudocount:g}, so they must be above {-layer.pseudocount:g}"
            )


def _attempt(what: str, action: Callable[[], T]) -> T:
    """Result of a part of the oracle; what it raises becomes a finding with the line where it was raised."""
    try:
        return action()
    except ChorusStoreError as error:
        raise _BrokenError(f"{what} fails: {error}") from error
    except ModuleNotFoundError as error:
        raise _BrokenError(f"{what} fails: there is no module {error.name}; is its package installed?") from error
    except SyntaxError as error:
        raise _BrokenError(f"{what} fails: {error.filename}, line {error.lineno}: {error.msg}") from error
    except (Exception, SystemExit) as error:
        frames = [f for f in traceback.extract_tb(error.__traceback__) if "site-packages" not in f.filename]
        reason = f"{type(error).__name__}: {error}"
        raise _BrokenError(f"{what} fails in {frames[-1].filename}, line {frames[-1].lineno}: {reason}") from error


if __name__ == "__main__":
    raise SystemExit(run())
