"""Records of who ran what, when, and how long it took."""

from __future__ import annotations

import datetime
import os
from pathlib import Path

from builders.devices import hardware_of
from builders.settings import Settings
from builders.software import software_versions
from chorus_store import durable, files, layout, schema


def record_run(path: Path, settings: Settings, part: str, wall_s: float, **counts: float) -> None:
    """Keep a record of what this process did, below ``/runs``: apart from the data, because no two runs are alike."""
    started = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=wall_s)
    record = {
        "part": part,
        "started": started.isoformat(timespec="milliseconds"),
        "wall_s": round(wall_s, 3),
        "command": settings.command,
        "device": settings.device,
        "hardware": hardware_of(settings.device),
        "software": software_versions(),
        **counts,
    }
    schema.validate(record, "run")
    if not (path / "zarr.json").is_file():
        return  # the store was removed meanwhile; a folder without it would only stand in the way
    with files.writing(path):
        folder = path / layout.RUNS / f"{started:%Y%m%dT%H%M%S.%f}-{os.getpid()}"
        durable.make_folder(folder)
        files.write_atomically(folder / "zarr.json", files.group_node(record))
