"""Which files a build needs, and where they are: given by options, downloaded once, or made for the demonstration."""

from __future__ import annotations

import argparse
from pathlib import Path

from builders import demo, resources
from builders.oracle import Oracle, RnaOracle
from builders.settings import Inputs, Settings
from chorus_store.errors import InputError

_OPTIONS = ("fasta", "gtf", "ccres", "tracks", "weights")


def find(oracle: type[Oracle], args: argparse.Namespace, settings: Settings) -> Inputs:
    """Every file that a build needs; what is not there is made or downloaded.

    Raises
    ------
    InputError
        ``--demo`` with a file of the user's, or a file that the oracle has no use for.
    MissingResourceError
        Files that are neither there nor to be had, all of them.
    """
    if args.demo:
        own = [f"--{name}" for name in _OPTIONS if getattr(args, name) is not None]
        if own:
            raise InputError(f"--demo brings inputs of its own; leave out {', '.join(own)}")
        return demo.write_inputs(settings.folder / "demo_inputs", oracle.demo_tracks(), demo.margin_of(oracle))
    wanted = registered(oracle, args, settings)
    return Inputs(**resources.resolve(wanted, _given(oracle, args, wanted), offline=args.offline))


def there(oracle: type[Oracle], args: argparse.Namespace, settings: Settings) -> dict[str, Path]:
    """Those of the files that are there already, by option; nothing is made, downloaded or read."""
    if args.demo:
        return {}
    wanted = registered(oracle, args, settings)
    return resources.there(wanted, _given(oracle, args, wanted))


def registered(oracle: type[Oracle], args: argparse.Namespace, settings: Settings) -> dict[str, str]:
    """The resources that a build takes where it is not given files of the user's: option to name."""
    wanted = {"fasta": "hg38", **oracle.resources(args)}
    plan = settings.plan
    if plan.n_tss or plan.n_gene_bodies or issubclass(oracle, RnaOracle):
        wanted["gtf"] = "gencode"
    if any(plan.ccre_counts.values()):
        wanted["ccres"] = "ccres"
    if args.random_weights is not None:
        wanted.pop("weights", None)
    return wanted


def _given(oracle: type[Oracle], args: argparse.Namespace, wanted: dict[str, str]) -> dict[str, Path | None]:
    if args.tracks is not None and "tracks" not in wanted and not oracle.demo_tracks():
        raise InputError(f"{oracle.title} takes no track table; leave out --tracks {args.tracks}")
    # Annotations that no set is drawn from are left out; an oracle may take tracks and weights that have no address.
    return {option: getattr(args, option) for option in {**wanted, "tracks": "", "weights": ""}}
