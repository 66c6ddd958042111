"""Enformer's track table: the targets file of the Basenji 2 / Enformer training data."""

from __future__ import annotations

from pathlib import Path

from builders import targets
from chorus_store.tracks import TrackTable

_REMEDY = "take targets_human.txt of Basenji's cross2020 (it is downloaded when --tracks is left out)"
#: (assay, target, cell type) of the demonstration's tracks.
_DEMO = [
    *(("DNASE", "", cell) for cell in ("K562", "HepG2", "GM12878", "A549", "H1")),
    *(("ATAC", "", cell) for cell in ("K562", "HepG2", "GM12878")),
    *(("CHIP", target, cell) for target in ("CTCF", "GATA1", "H3K27ac", "H3K4me3") for cell in ("K562", "HepG2")),
    *(("CAGE", "", cell) for cell in ("K562", "HepG2", "GM12878", "liver")),
]


def read_targets(path: Path) -> TrackTable:
    """Read the targets file; see `targets.read_targets`."""
    return targets.read_targets(path, _REMEDY)


def demo_targets() -> str:
    """A targets file for the demonstration."""
    rows = ["index\tgenome\tidentifier\tfile\tclip\tscale\tsum_stat\tdescription"]
    for i, (assay, target, cell) in enumerate(_DEMO):
        description = ":".join(part for part in (assay, target, cell) if part)
        rows.append(f"{i}\t0\tDEMO{i:03d}\t-\t32\t2\tmean\t{description}")
    return "\n".join(rows) + "\n"
