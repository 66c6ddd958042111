"""Backgrounds of every kind as files to mutate, and how all of such a file is read."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import chorus_store
from builders import cli
from chorus_store import info, layout, manifest, npz, npz_import, seal, validation
from chorus_store.errors import ChorusStoreError, StoreMismatchError
from chorus_store.facts import FactStore
from chorus_store.normalizer import PerTrackNormalizer
from chorus_store.npz_file import open_npz_file
from chorus_store.percentile_table import rank_table
from chorus_store.units import KINDS
from tests import npz_files, stores, tiny

Files = dict[str, bytes]

TABLE = "name\ttrack\tvalue\n" + "".join(f"rs{i}\tCHIP:0000{1 + i % 2}\t{i / 7:.3f}\n" for i in range(8))


def tree(folder: Path, top: str = "") -> Files:
    """Files below a folder, by their paths."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {top + file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


def background(made: Path) -> Files:
    """A published background, without the seals that would keep mutations from getting further."""
    return _unsealed(tree(_store(made), "enformer.zarr/"))


def _store(made: Path) -> Path:
    return stores.make_store(made / "enformer.zarr", 3, n_quantiles=9, empty=(2,))


def build(made: Path) -> Files:
    """A store with plan, facts and records, in the same way."""
    inputs, sizes = tiny.write_inputs(made / "inputs"), {"n_variants": 4, "n_random": 3, "n_tss": 0, "n_gene_bodies": 0}
    arguments = tiny.arguments(inputs, made / "out", "--ccre", "all=0", "--block", "4", **sizes)
    assert cli.run(tiny.TinyOracle, arguments) == 0
    return _unsealed(tree(made / "out/tiny.zarr", "tiny.zarr/"))


def _unsealed(files: Files) -> Files:
    return {name: _without_seal(data) if name.endswith(".json") else data for name, data in files.items()}


def _without_seal(data: bytes) -> bytes:
    node = json.loads(data)
    node.get("attributes", {}).pop(seal.SEAL, None)
    return json.dumps(node).encode()


def archive(made: Path) -> Files:
    """A background as a ``.zip``."""
    _store(made)
    for name, data in background(made / "unsealed").items():
        (made / name).write_bytes(data)
    return {"enformer.zarr.zip": stores.archive(made / "enformer.zarr", made / "a.zip", "enformer.zarr/").read_bytes()}


def npz_background(made: Path) -> Files:
    """A background as an NPZ file."""
    made.mkdir()
    arrays = npz_files.with_current_keys(npz_files.background(3, 4))
    return {"enformer_pertrack.npz": npz_files.save(made / "a.npz", arrays).read_bytes()}


def imported(made: Path) -> Files:
    """A background that was imported from it."""
    ((name, data),) = npz_background(made).items()
    (made / name).write_bytes(data)
    npz_import.import_npz(made / name, made / "enformer.zarr", progress=False)
    return _unsealed(tree(made / "enformer.zarr", "enformer.zarr/"))


def table(made: Path) -> Files:
    """A table of values; the background that they are ranked in stays aside."""
    _store(made)
    return {"effects.tsv": TABLE.encode()}


def in_turn(*questions: Callable[[], object]) -> None:
    """Ask everything, whatever becomes of the questions before; raises the first refusal."""
    refused: list[ChorusStoreError] = []
    for ask in questions:
        try:
            ask()
        except ChorusStoreError as error:
            refused.append(error)
    if refused:
        raise refused[0]


def _ask(place: Path) -> None:
    with chorus_store.open(place) as store:
        track = store["track"].values.tolist()[0]
        for cdf in layout.CDFS:
            if f"{cdf}_cdf" in store:
                store.chorus.percentile([0.5, -1.0], track=track, cdf=cdf)
        store.chorus.tracks(pattern="K562")
        store.load()


def _normalize(place: Path) -> None:
    for semantics in ("seed", "current"):
        normalizer = PerTrackNormalizer(semantics=semantics, backgrounds={"enformer": place})
        with suppress(StoreMismatchError):
            for track in normalizer.track_ids("enformer")[:2]:
                normalizer.effect_percentile("enformer", track, 0.5)
                normalizer.perbin_percentile_batch("enformer", track, [0.5])


def read_values(folder: Path, name: str = "enformer.zarr") -> None:
    """Ask all rows, and those of one track alone."""
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # tracks without samples, old backgrounds
        in_turn(lambda: _ask(folder / name), lambda: _normalize(folder / name))


def read_metadata(folder: Path, name: str = "enformer.zarr") -> None:
    """The same, and describe, validate and export."""
    place = folder / name
    in_turn(
        lambda: read_values(folder, name),
        lambda: info.render(info.describe(place)),
        lambda: validation.validate(place, progress=False),
        lambda: npz.export_npz(place, folder / "out.npz", progress=False),
    )


def read_npz(folder: Path) -> None:
    """Ask, describe, validate, import, and export again."""
    place = folder / "enformer_pertrack.npz"

    def arrays() -> None:
        with open_npz_file(place) as file:
            for name in file.arrays:
                file.read(name)

    def again() -> None:
        npz_import.import_npz(place, folder / "again.zarr", oracle="enformer", progress=False)
        npz.export_npz(folder / "again.zarr", folder / "again.npz", progress=False)

    in_turn(
        arrays,
        again,
        lambda: read_values(folder, place.name),
        lambda: info.render(info.describe(place)),
        lambda: validation.validate(place, progress=False),
    )


def read_build(folder: Path) -> None:
    """Read plan, facts and records."""
    place = folder / "tiny.zarr"

    def facts() -> None:
        store = FactStore(place)
        len(store.tracks)
        for kind in KINDS:
            for unit in store.units(kind)[:5]:
                if store.record(unit):
                    store.verify(unit)
            for array in store.shape.arrays(kind):
                store.read_columns(array.name, 0, min(2, store.shape.n_tracks))

    in_turn(facts, lambda: manifest.damaged(place))


def rank(folder: Path) -> None:
    """Rank the table."""
    with (
        warnings.catch_warnings(action="ignore", category=UserWarning),
        chorus_store.open(folder.parents[1] / "made/enformer.zarr") as store,
    ):
        rank_table(store, folder / "effects.tsv", folder / "ranked.tsv", progress=False)
