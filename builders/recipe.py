"""What a store was made from and how, read out of its provenance: all that a command to make it again needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import chorus_store
from builders import ORACLES, demo, load_oracle
from builders.oracle import Oracle
from builders.settings import INPUTS
from chorus_store import opening, provenance
from chorus_store.errors import InputError, StoreMismatchError
from chorus_store.facts import FactStore

#: A file or a folder as the provenance describes it: ``name``, ``sha256`` and ``bytes``.
Wanted = Mapping[str, Any]


@dataclass(frozen=True)
class Model:
    """A track, and the file of its model; None where that is not recorded, or was not to be had."""

    track: str
    description: str
    file: Wanted | None


@dataclass(frozen=True)
class Recipe:
    """What a store was made from and how.

    Attributes
    ----------
    oracle : type of Oracle
    values : dict
        Options by destination, all that the bytes of the store depend on; without those that name files.
    files : dict of str to Wanted
        Option to the file that it named.
    lots : list of list of Model
        Of an oracle with one model per track: the tracks that the store was begun with, and those that came later, in
        rows. Empty for others.
    table : str or None
        Name of the list that the first of them were in; None where there was no list.
    software : dict
        Recorded versions.
    """

    oracle: type[Oracle]
    values: dict[str, Any]
    files: dict[str, Wanted]
    software: Mapping[str, str | None]
    lots: list[list[Model]] = field(default_factory=list)
    table: str | None = None


def read(place: str) -> Recipe:
    """Read the recipe of a store, published or still being built.

    Parameters
    ----------
    place : str
        A local store at any stage, or whatever else `chorus_store.open` opens that was built.

    Raises
    ------
    StoreNotFoundError, SchemaError, CorruptStoreError
        As `chorus_store.open`.
    StoreMismatchError
        A background that no build made; says what did.
    """
    folder = Path(place)
    if folder.is_dir() and not opening.is_published(root := opening.root_attributes(folder)):
        return _of_build(place, root, FactStore(folder))
    with chorus_store.open(place) as store:
        _require_built(place, store.attrs)
        labels = [store[name].values.tolist() for name in ("track", "description")]
        return _recipe(place, store.attrs, store.attrs["provenance"], dict(zip(*labels, strict=True)))


def _of_build(place: str, root: Mapping[str, Any], store: FactStore) -> Recipe:
    described = dict(zip(store.tracks.track.tolist(), store.tracks.description.tolist(), strict=True))
    return _recipe(place, root, {**store.build, "inputs": provenance.inputs(store)}, described)


def _require_built(place: str, attributes: Mapping[str, Any]) -> None:
    made = attributes.get("provenance")
    if made is None:
        raise StoreMismatchError(f"{place} is an NPZ file, which does not say all that it is made from; give its store")
    if "imported" in made:
        source = made["imported"]
        raise StoreMismatchError(
            f"{place} was not built but imported from {source['name']} (SHA-256 {source['sha256']}); import that file "
            "again: python -m chorus_store import"
        )
    if "rows" in made or "appended" in attributes:
        raise StoreMismatchError(
            f"{place} has tracks that were appended from elsewhere, so no build makes it; build the others, or publish "
            "again from the facts (--part merge), and append those again"
        )


def _recipe(place: str, root: Mapping[str, Any], made: Mapping[str, Any], descriptions: Mapping[str, str]) -> Recipe:
    parameters, inputs, is_demo = made["parameters"], made["inputs"], root["genome"] == demo.ASSEMBLY
    if missing := sorted({"options", "block"} - parameters.keys()):
        raise StoreMismatchError(
            f"{place} was built by a release that did not record everything yet (its provenance lacks "
            f"{', '.join(missing)}); python -m chorus_store info shows what is known"
        )
    oracle, is_random = _oracle_of(place, root["oracle"]["name"]), parameters["seed"] is not None
    values = values_of(parameters, is_demo=is_demo, discarded=not made.get("facts", {}).get("kept", True))
    files = {option: inputs[name] for option, name in INPUTS.items() if inputs[name] and not is_demo}
    named = {option: file for option, file in files.items() if file["sha256"]}
    if is_random or oracle.tracks_per_unit:  # no weights, or those of the models, each by itself
        named.pop("weights", None)
    if oracle.tracks_per_unit is None:
        return Recipe(oracle, values, named, made["software"])
    table = inputs["tracks"]["name"]
    lots = _lots(inputs, descriptions, is_random=is_random)
    return Recipe(oracle, values, named, made["software"], lots, None if table == oracle.name else table)


def values_of(parameters: Mapping[str, Any], *, is_demo: bool, discarded: bool) -> dict[str, Any]:
    """Values of options by destination, from the ``parameters`` of a provenance, most of which are called alike."""
    plan = dict(parameters["plan"])
    ccres = list(plan.pop("ccre_counts").items())
    numbers = {n for _, n in ccres}
    return {
        **{name: value for name, value in parameters.items() if name not in ("plan", "oracle", "options", "seed")},
        **plan,
        **parameters["options"],
        "ccre": [("all", *numbers)] if len(numbers) == 1 else ccres,
        "random_weights": parameters["seed"],
        "demo": is_demo,
        "discard_facts": discarded,
    }


def _lots(inputs: Mapping[str, Any], descriptions: Mapping[str, str], *, is_random: bool) -> list[list[Model]]:
    known = {model["track"]: model for model in inputs["weights"].get("models", ())}
    rows = iter(descriptions.items())
    return [
        [Model(track, text, None if is_random else known.get(track)) for track, text in islice(rows, n)]
        for n in inputs["tracks"].get("lots", [len(descriptions)])
    ]


def _oracle_of(place: str, name: str) -> type[Oracle]:
    if name not in ORACLES:
        raise InputError(
            f"{place} is of the oracle {name!r}, which is none of {', '.join(ORACLES)}; build it with its own command"
        )
    return load_oracle(name)
