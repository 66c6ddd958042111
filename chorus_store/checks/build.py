"""Checks of the build behind a background: its plan, the records of its units of work, its facts, its runs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from chorus_store import layout, provenance, schema
from chorus_store.checks.findings import Finding
from chorus_store.checks.subject import Subject
from chorus_store.errors import SchemaError
from chorus_store.facts import FactStore
from chorus_store.files import group_node, sha256_of
from chorus_store.opening import reading
from chorus_store.plan import Plan
from chorus_store.publish import facts_digest
from chorus_store.seal import SEAL
from chorus_store.units import KINDS, Unit

_ANEW = "build it again with another --out, or copy the store again"


def check_plan(subject: Subject) -> Iterator[Finding]:
    """The plan is the one that was recorded, in the build and in the provenance."""
    assert subject.build is not None
    build = subject.build
    with reading(f"the plan of {build.path}"):
        plan = Plan.from_datasets({kind: layout.read_table(build.path, f"{layout.PLAN}/{kind}") for kind in KINDS})
    strata = plan.strata()
    found = {
        "sha256": plan.sha256,
        "effect_sha256": plan.effect_sha256,
        "activity_sha256": plan.activity_sha256,
        "effect_strata": strata["variants"],
        "activity_strata": strata["baselines"],
    }
    for where, said in (("progress", build.build["plan"]), ("provenance", subject.provenance.get("plan"))):
        for key, value in found.items():
            if said is not None and said[key] != value:
                yield Finding("plan", layout.PLAN, [], 1, f"its {key} is not the one in the {where}", _ANEW)


def check_records(subject: Subject) -> Iterator[Finding]:
    """Every record of a unit of work is whole, and says what can be; of a published background none is missing."""
    assert subject.build is not None
    build = subject.build
    for kind in KINDS:
        units = {unit.name: unit for unit in build.units(kind)}
        for unit in units.values():
            yield from _check_record(subject, build, unit)
        for folder in sorted((build.path / layout.PROGRESS / kind).glob("*/")):
            name = f"{kind}/{folder.name}"
            if name not in units:
                message = "a record of a unit of work that the build does not have: rows are missing"
                yield Finding("records", f"{layout.PROGRESS}/{name}", [], 1, message, _ANEW)


def _check_record(subject: Subject, build: FactStore, unit: Unit) -> Iterator[Finding]:
    name = f"{layout.PROGRESS}/{unit.name}"
    file, record = build.path / name / "zarr.json", build.record(unit)
    again = f"remove {file} and run the build again: only unit {unit.name} is redone"
    if record is None:
        if file.exists():
            yield Finding("records", name, [], 1, "damaged, or not of the data that are there", again)
        elif file.parent.exists() or _is_published(subject, unit):
            yield Finding("records", name, [], 1, "missing", f"run the build again: only unit {unit.name} is redone")
        return
    if problem := _contradiction(build, unit, record):
        yield Finding("records", name, [], 1, problem, again)


def _contradiction(build: FactStore, unit: Unit, record: Mapping[str, Any]) -> str | None:
    """What cannot be in a record."""
    try:
        scored, dropped = record["scored"], record["dropped"]
        arrays = {array.name for array in build.shape.arrays(unit.kind)}
        if record["positions"] != unit.stop - unit.start:
            return f"{record['positions']} positions, and the unit has {unit.stop - unit.start}"
        if scored + sum(dropped.values()) != record["positions"] or min(scored, *dropped.values(), 0) < 0:
            return f"{scored} positions scored and {sum(dropped.values())} dropped do not make {record['positions']}"
        if set(record["data"]) != arrays:
            return f"facts {sorted(record['data'])}, not {sorted(arrays)}"
    except (KeyError, TypeError, AttributeError) as error:
        return f"not a record of a unit of work ({type(error).__name__}: {error})"
    return None


def _is_published(subject: Subject, unit: Unit) -> bool:
    """Whether the background was made of this unit, rather than of those that were there before its track was added."""
    return subject.store is not None and unit.first_track < subject.n_own


def check_facts(subject: Subject) -> Iterator[Finding]:
    """The facts are those that were written, and those that the background was made from."""
    assert subject.build is not None
    build = subject.build
    if subject.deep and not build.discarded:
        yield from _check_checksums(subject, build)
    if subject.is_built and subject.store is not None:
        published = replace(build.shape, n_tracks=subject.n_own)
        if any(build.record(unit) is None for kind in KINDS for unit in published.units(kind)):
            return  # which is a finding about records
        if facts_digest(build, published) != subject.provenance["facts"]["sha256"]:
            message = "not those that the background was made from, by their records"
            yield Finding("facts", layout.SAMPLES, [], 1, message, subject.again)
        elif published == build.shape and any(
            provenance.dropped(build, kind) != subject.provenance["dropped"][kind] for kind in KINDS
        ):
            message = "dropped positions are not those that the provenance says"
            yield Finding("facts", layout.PROGRESS, [], 1, message, subject.again)


def _check_checksums(subject: Subject, build: FactStore) -> Iterator[Finding]:
    units = [(unit, record) for kind in KINDS for unit in build.units(kind) if (record := build.record(unit))]
    with subject.bar(
        sum(data["bytes"] for _, record in units for data in record["data"].values()), "facts", "B"
    ) as bar:
        for unit, record in units:
            for array, data in record["data"].items():
                name = layout.shard_file(Path(), f"{layout.SAMPLES}/{array}", unit.shard).as_posix()
                if sha256_of(build.path / name) != data["sha256"]:
                    message = f"not what was written for unit {unit.name} (checksum differs)"
                    again = f"remove {build.path / name} and run the build again: only unit {unit.name} is redone"
                    yield Finding("facts", name, [], 1, message, again)
                bar.update(data["bytes"])


def check_fact_arrays(subject: Subject) -> Iterator[Finding]:
    """The facts' arrays have the sizes that the build says."""
    assert subject.build is not None
    build = subject.build
    for array in build.shape.arrays():
        file = build.path / layout.SAMPLES / array.name / "zarr.json"
        with reading(str(file)):
            shape = json.loads(file.read_bytes()).get("shape")
        expected = [build.shape.samples(array), build.shape.columns(array)]
        if shape != expected:
            name = f"{layout.SAMPLES}/{array.name}/zarr.json"
            yield Finding("arrays", name, [], 1, f"shape {shape}, not {expected}", _ANEW)


def check_runs(subject: Subject) -> Iterator[Finding]:
    """Records of runs are whole and follow their schema."""
    assert subject.folder is not None
    for folder in sorted((subject.folder / layout.RUNS).glob("*/")):
        name, again = f"{layout.RUNS}/{folder.name}", f"remove {folder}; nothing depends on it"
        try:
            data = (folder / "zarr.json").read_bytes()
            attributes = json.loads(data)["attributes"]
            sealed = SEAL in attributes
            run = {key: value for key, value in attributes.items() if key != SEAL}
            schema.validate(run, "run")
        except (OSError, ValueError, KeyError, TypeError, AttributeError, SchemaError) as error:
            yield Finding("runs", name, [], 1, f"missing or damaged ({error})", again)
            continue
        if sealed and data != group_node(run):
            yield Finding("runs", name, [], 1, "not what was written (its seal is broken)", again)
