"""Checks of the numbers of values behind every CDF."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from chorus_store.checks.findings import Finding, about_tracks
from chorus_store.checks.subject import Subject
from chorus_store.facts import FactStore

#: Of all tracks, the part that must have samples of a CDF: a background in which most tracks are silent went wrong.
LEAST_YIELD = 0.5
#: Layers whose tracks take no value where there is no exon, and so may have none at all of a CDF.
_SPARSE_LAYERS = ("gene_expression",)

Counts = npt.NDArray[np.int64]


def check_counts(subject: Subject) -> Iterator[Finding]:
    """No count is negative, no more was kept than offered, and as much as the sampler keeps."""
    for cdf in subject.cdfs:
        offered, retained = (subject.column(f"{cdf}_{what}") for what in ("count", "retained"))
        if offered is not None:
            yield from _about(subject, f"{cdf}_count", offered < 0, "negative")
        if offered is None or retained is None:
            continue
        name = f"{cdf}_retained"
        impossible = (retained < 0) | (retained > offered)
        yield from _about(subject, name, impossible, f"more values kept than {cdf}_count offered, or fewer than none")
        if subject.is_built:
            expected = _kept(subject, offered)
            differing = ~impossible & (retained != expected) & _own(subject)
            sampler = subject.provenance["parameters"]["sampler"]
            yield from _about(subject, name, differing, f"not what the sampler {sampler} keeps of what was offered")


def _kept(subject: Subject, offered: Counts) -> Counts:
    capacity = subject.provenance["parameters"]["capacity"]
    return offered if capacity is None else np.minimum(offered, capacity)


def _own(subject: Subject) -> npt.NDArray[np.bool_]:
    return np.arange(subject.n_tracks) < subject.n_own


def _about(subject: Subject, name: str, bad: npt.NDArray[np.bool_], message: str) -> Iterator[Finding]:
    return about_tracks("counts", name, subject.ids, bad, message, subject.afresh(name))


def check_sampling(subject: Subject) -> Iterator[Finding]:
    """Counts are as the provenance says, and no track was offered more than its positions allow."""
    if not subject.is_built:
        return
    own = _own(subject)
    for cdf in subject.cdfs:
        said = subject.provenance["sampling"].get(cdf)
        for key, name in (("offered", f"{cdf}_count"), ("retained", f"{cdf}_retained")):
            values = subject.background[name].values[own]
            if said is None or [int(values.min()), int(values.max())] != said[key]:
                message = f"between {values.min():,} and {values.max():,}, which is not what the provenance says"
                yield Finding("sampling", name, [], 1, message, subject.afresh(name))
        offered = subject.background[f"{cdf}_count"].values
        most = np.full(subject.n_tracks, np.iinfo(np.int64).max)
        limit = _most_offered(subject, cdf)
        most[: subject.n_own] = limit[: subject.n_own] if isinstance(limit, np.ndarray) else limit
        message = "more values offered than the positions allow that were scored"
        bad = offered > most
        yield from about_tracks("sampling", f"{cdf}_count", subject.ids, bad, message, subject.afresh(f"{cdf}_count"))


def _most_offered(subject: Subject, cdf: str) -> Any:
    """Most values of a CDF that a track can have been offered: one number, or one per track."""
    if subject.build is not None:
        return _by_records(subject.build, cdf)
    plan, parameters = subject.provenance["plan"], subject.provenance["parameters"]["plan"]
    by_gene = any(layer["aggregation"] == "gene_exon_mean" for layer in subject.provenance["layers"].values())
    if by_gene or (cdf == "perbin" and "bin_slots" not in parameters):
        return np.iinfo(np.int64).max
    drawn = plan["effect_strata" if cdf == "effect" else "activity_strata"].values()
    return sum(drawn) * (parameters["bin_slots"] if cdf == "perbin" else 1)


def _by_records(build: FactStore, cdf: str) -> Counts:
    """The same, from the positions that the records of the units say were scored, or the genes of the plan."""
    shape = build.shape
    array = next(array for array in shape.arrays_of(cdf) if not array.genes)
    scored = np.zeros(shape.n_tracks, np.int64)
    for unit in shape.units(array.kind):
        record = build.record(unit)
        scored[unit.first_track : unit.stop_track] += record["scored"] if record else unit.stop - unit.start
    most: Counts = scored * shape.slots(array)
    gene_rows = build.gene_rows(cdf)
    if len(gene_rows):
        most[gene_rows] = build.gene_offset(array.kind)[-1]
    return most


def check_yield(subject: Subject) -> Iterator[Finding]:
    """Most tracks have samples."""
    layers = subject.column("layer")
    sparse = np.zeros(subject.n_tracks, np.bool_) if layers is None else np.isin(layers.astype(str), _SPARSE_LAYERS)
    counted = ~sparse if not sparse.all() else sparse
    for cdf in subject.cdfs:
        offered = subject.column(f"{cdf}_count")
        if offered is None:
            continue
        silent = counted & (offered == 0)
        share = 1 - silent.sum() / counted.sum()
        message = f"no samples; only {share:.0%} of the tracks have some, and at least {LEAST_YIELD:.0%} should"
        if share < LEAST_YIELD:
            again = "find out why (python -m chorus_store info shows what was dropped), and score them again"
            yield from about_tracks("yield", f"{cdf}_count", subject.ids, silent, message, again)
