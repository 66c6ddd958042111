"""What a background holds, as a document for programs and as text for people; of a store at any stage of its build."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chorus_store import claims, console, layout, opening, origins, schema
from chorus_store.facts import progress
from chorus_store.lock import Holder
from chorus_store.places import is_url

if TYPE_CHECKING:
    import xarray as xr

Document = dict[str, Any]


def describe(place: str | PathLike[str]) -> Document:
    """Describe a local store, published or not, or whatever else `chorus_store.open` opens.

    Parameters
    ----------
    place : path-like or str
        Of a store or an NPZ file; path or URL.

    Returns
    -------
    dict
        JSON values. Always ``path``, ``published``, ``oracle``, ``genome`` and ``demo``; once there is a background,
        ``n_tracks``, ``cdf_points`` and the sections of its provenance, or what the arrays say in their stead; of an
        NPZ its ``build_config``; of a local folder ``bytes``, ``runs``, ``progress`` while it has its facts, and
        ``claims`` while processes are at work on it; ``rows`` where some came from elsewhere.

    Raises
    ------
    StoreNotFoundError
        Nothing there, or something else.
    StoreUnreachableError
        The server of a URL does not answer, or refuses.
    SchemaError
        Not a background, or another version of the layout.
    CorruptStoreError
        Metadata that cannot be read.
    """
    with schema.expected(fspath(place)):
        return _described(place)


def _described(place: str | PathLike[str]) -> Document:
    document: Document = {"path": fspath(place), "published": True}
    folder = Path(place)
    if is_url(place) or not folder.is_dir():
        return document | _background(place)
    attributes = opening.root_attributes(folder)
    if opening.is_published(attributes):
        document |= _background(folder)
    else:
        document |= {"published": False, **_identity(attributes)}
    if (folder / layout.SAMPLES).is_dir():
        document["progress"] = progress(folder)
    if working := claims.holders(folder):
        document["claims"] = {name: asdict(holder) for name, holder in working.items()}
    return document | {"bytes": _bytes(folder), "runs": _runs(folder)}


def _background(place: str | PathLike[str]) -> Document:
    """What a background says of itself."""
    with opening.open(place) as store:
        document = _identity(store.attrs) | {"n_tracks": store.sizes["track"], "cdf_points": store.sizes["quantile"]}
        document |= store.attrs.get("provenance", {})
        if "build_config" in store.attrs:
            document["build_config"] = store.attrs["build_config"]
        if blocks := origins.of(store.attrs, store.sizes["track"]):
            document[origins.ROWS] = blocks
        return document if "layers" in document else document | _sections(store)


def _identity(attributes: Mapping[str, Any]) -> Document:
    """Oracle, genome and whether it is a demonstration; an NPZ may leave them out, or have them in its own document."""
    oracle, config = attributes.get("oracle", {"name": "unknown oracle"}), attributes.get("build_config", {})
    return {
        "oracle": {"title": oracle["name"], "version": "", **oracle},
        "genome": attributes.get("genome"),
        "demo": attributes.get("demo", config.get("demo", False)),
    }


def _sections(store: xr.Dataset) -> Document:
    """What the provenance of a build would say of layers and counts, as far as the arrays alone tell."""
    layers = Counter(store["layer"].values.tolist()) if "layer" in store else {}
    return {
        "layers": {layer: {"n_tracks": n} for layer, n in layers.items()},
        "sampling": {
            cdf: {
                key: [int(store[name].min()), int(store[name].max())]
                for key, name in (("offered", f"{cdf}_count"), ("retained", f"{cdf}_retained"))
                if name in store
            }
            for cdf in layout.CDFS
            if f"{cdf}_cdf" in store
        },
    }


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
    """A description from `describe` as lines of text; SchemaError where a store says other things than its schema."""
    with schema.expected(document["path"]):
        return console.printable("\n".join(_lines(document)))


def _lines(document: Document) -> Iterator[str]:
    oracle = document["oracle"]
    state = "published" if document["published"] else "build in progress"
    demo = ", DEMO: not for science" if document["demo"] else ""
    name = f"{oracle['title']} {oracle['version']}".strip()
    yield f"{name} on {document['genome'] or 'an assembly not stated'}: {state}{demo}"
    yield _row("path", document["path"])
    if "bytes" in document:
        yield _row("size", ", ".join(f"{name} {_size(n)}" for name, n in document["bytes"].items()))
    for kind, units in document.get("progress", {}).items():
        missing = units["units"] - units["done"]
        yield _row(kind, f"{units['done']:,} of {units['units']:,} units done, {missing:,} missing")
    for name, holder in document.get("claims", {}).items():
        yield _row(f"{name} is held by", str(Holder(**holder)))
    if document["published"]:
        yield from _published_lines(document)
    if "runs" in document:
        yield f"runs ({len(document['runs'])})"
        yield from (_run(run) for run in document["runs"])


def _run(run: Document) -> str:
    facts = [run.get("part"), run.get("device"), f"{run.get('wall_s', 0):.0f} s", " ".join(run.get("command", []))]
    return _row(str(run.get("started", run["id"])), ", ".join(filter(None, facts)), 2)


def _published_lines(document: Document) -> Iterator[str]:
    yield f"tracks ({document['n_tracks']:,})"
    for layer, facts in document["layers"].items():
        yield _row(layer, _layer(facts), 2)
    yield f"CDFs ({document['cdf_points']:,} points)"
    for cdf, counts in document["sampling"].items():
        yield _row(cdf, _sampling(counts), 2)
    if origins.ROWS in document:
        yield f"rows from elsewhere ({sum(block['stop'] - block['first'] for block in document[origins.ROWS]):,})"
        yield from (_block(block) for block in document[origins.ROWS])
    if "imported" in document:
        yield from _imported_lines(document["imported"])
    if "plan" in document:
        yield from _built_lines(document)


def _layer(facts: Document) -> str:
    """Tracks of a layer and, where that is known, how their statistics are made."""
    if "window_bp" not in facts:
        return f"{facts['n_tracks']:,}"
    window = f"{facts['window_bp']} bp" if facts["window_bp"] else "no window"
    sign = "signed" if facts["signed"] else "unsigned"
    return f"{facts['n_tracks']:,}; {window}, {facts['aggregation']}, {facts['formula']}, {sign}"


def _sampling(counts: Document) -> str:
    """Values behind a CDF, as far as they are known."""
    spans = [f"{_span(counts[key])} {key}" for key in ("offered", "retained") if key in counts]
    known = f"{', '.join(spans)} per track" if spans else "number of values unknown"
    return ", ".join(filter(None, [known, counts.get("mode")]))


def _block(block: origins.Block) -> str:
    source = block["source"]
    return _row(f"{block['first']}:{block['stop']}", f"{source['name']}  sha256 {source['sha256'] or 'unknown'}", 2)


def _imported_lines(imported: Document) -> Iterator[str]:
    yield "imported"
    yield _row("file", imported["name"], 2)
    yield _row("sha256", imported["sha256"], 2)
    yield _row("arrays", ", ".join(array["name"] for array in imported["arrays"]), 2)


def _built_lines(document: Document) -> Iterator[str]:
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
