"""What a store holds, as a document for programs and as text for people; works at any stage of a build."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from os import PathLike
from pathlib import Path
from typing import Any

from chorus_store import layout, opening
from chorus_store.facts import progress

Document = dict[str, Any]


def describe(path: str | PathLike[str]) -> Document:
    """Describe a store, published or not.

    Parameters
    ----------
    path : path-like
        Of a local ``{oracle}.zarr``.

    Returns
    -------
    dict
        JSON values. Always ``path``, ``published``, ``oracle``, ``genome``, ``demo``, ``bytes`` and ``runs``;
        ``progress`` while the store has its facts; ``n_tracks``, ``cdf_points`` and the sections of the
        provenance once it is published.

    Raises
    ------
    StoreNotFoundError
        No Zarr group there.
    SchemaError
        Not a store of this project, or another version of the layout.
    CorruptStoreError
        Metadata that cannot be read.
    """
    place = Path(path)
    attributes = opening.root_attributes(place)
    document: Document = {
        "path": str(place),
        "published": opening.is_published(attributes),
        **{key: attributes[key] for key in ("oracle", "genome", "demo")},
    }
    if document["published"]:
        with opening.open(place) as store:
            document |= {"n_tracks": store.sizes["track"], "cdf_points": store.sizes["quantile"]}
        document |= attributes["provenance"]
    if (place / layout.SAMPLES).is_dir():
        document["progress"] = progress(place)
    return document | {"bytes": _bytes(place), "runs": _runs(place)}


def _bytes(place: Path) -> dict[str, int]:
    """Bytes on disk of the facts and of everything else."""
    facts = _folder_bytes(place / layout.SAMPLES)
    return {"background": _folder_bytes(place) - facts, "facts": facts}


def _folder_bytes(folder: Path) -> int:
    total = 0
    for file in folder.rglob("*"):
        with suppress(FileNotFoundError):  # a builder may be renaming its files
            total += file.stat().st_size if file.is_file() else 0
    return total


def _runs(place: Path) -> list[Document]:
    """Run records, oldest first."""
    folders = sorted((place / layout.RUNS).glob("*/"))
    records = [{"id": folder.name, **opening.read_attributes(folder)} for folder in folders]
    return sorted(records, key=lambda record: str(record.get("started", "")))


def render(document: Document) -> str:
    """A description from `describe` as lines of text."""
    return "\n".join(_lines(document))


def _lines(document: Document) -> Iterator[str]:
    oracle = document["oracle"]
    state = "published" if document["published"] else "build in progress"
    demo = ", DEMO: not for science" if document["demo"] else ""
    yield f"{oracle['title']} {oracle['version']} on {document['genome']}: {state}{demo}"
    yield _row("path", document["path"])
    yield _row("size", ", ".join(f"{name} {_size(n)}" for name, n in document["bytes"].items()))
    for kind, units in document.get("progress", {}).items():
        missing = units["units"] - units["done"]
        yield _row(kind, f"{units['done']:,} of {units['units']:,} units done, {missing:,} missing")
    if document["published"]:
        yield from _published_lines(document)
    yield f"runs ({len(document['runs'])})"
    for run in document["runs"]:
        facts = [
            run.get("part"),
            run.get("device"),
            f"{run.get('wall_s', 0):.0f} s",
            " ".join(run.get("command", [])),
        ]
        yield _row(run.get("started", run["id"]), ", ".join(filter(None, facts)), 2)


def _published_lines(document: Document) -> Iterator[str]:
    yield f"tracks ({document['n_tracks']:,})"
    for layer, facts in document["layers"].items():
        window = f"{facts['window_bp']} bp" if facts["window_bp"] else "no window"
        sign = "signed" if facts["signed"] else "unsigned"
        yield _row(layer, f"{facts['n_tracks']:,}; {window}, {facts['aggregation']}, {facts['formula']}, {sign}", 2)
    yield f"CDFs ({document['cdf_points']:,} points)"
    for cdf, counts in document["sampling"].items():
        spans = ", ".join(f"{_span(counts[key])} {key}" for key in ("offered", "retained"))
        yield _row(cdf, f"{spans} per track, {counts['mode']}", 2)
    yield f"plan {document['plan']['sha256']}"
    for key in ("effect", "activity"):
        yield _row(key, _counts(document["plan"][f"{key}_strata"]), 2)
    yield "dropped"
    for kind, reasons in document["dropped"].items():
        yield _row(kind, _counts(reasons) or "none", 2)
    yield "inputs"
    for name, source in document["inputs"].items():
        yield _row(name, f"{source['name']}  sha256 {source['sha256'] or 'unknown'}" if source else "not used", 2)
    yield "software"
    for package, version in document["software"].items():
        if version is not None:
            yield _row(package, version, 2)


def _row(label: str, text: str, indent: int = 0) -> str:
    return f"{' ' * indent}{label:<{26 - indent}} {text}"


def _span(limits: list[int]) -> str:
    low, high = limits
    return f"{low:,}" if low == high else f"{low:,}–{high:,}"


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {n:,}" for name, n in counts.items())


def _size(n_bytes: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if n_bytes < 1000:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.3g} TB"
