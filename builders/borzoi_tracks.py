"""Borzoi's track table: the targets file that borzoi-pytorch ships."""

from __future__ import annotations

from pathlib import Path

from builders import targets
from chorus_store.tracks import TrackTable

_REMEDY = "take targets.txt of borzoi-pytorch (it is found or downloaded when --tracks is left out)"
#: Description and strands of the demonstration's tracks; a strand is the end of an identifier.
_DEMO = [
    *((f"{assay}:{cell}", ("",)) for assay in ("DNASE", "ATAC") for cell in ("K562", "HepG2")),
    *((f"CHIP:{target}:{cell}", ("",)) for target in ("CTCF", "GATA1", "H3K27ac") for cell in ("K562", "HepG2")),
    *((f"CAGE:{cell}", ("+", "-")) for cell in ("K562", "liver")),
    *((f"RNA:{cell}", ("+", "-")) for cell in ("K562", "HepG2")),
    ("RNA:liver", ("",)),
]


def read_targets(path: Path) -> TrackTable:
    """Read the targets file, whose column of indices has no name; see `targets.read_targets`."""
    return targets.read_targets(path, _REMEDY, index="")


def demo_targets() -> str:
    """A targets file for the demonstration."""
    tracks = [(strand, description) for description, strands in _DEMO for strand in strands]
    rows = ["\tidentifier\tfile\tclip\tclip_soft\tscale\tsum_stat\tstrand_pair\tdescription"]
    for i, (strand, description) in enumerate(tracks):
        rows.append(f"{i}\tDEMO{i:03d}{strand}\t-\t768\t384\t1.0\tsum\t{i}\t{description}")
    return "\n".join(rows) + "\n"
