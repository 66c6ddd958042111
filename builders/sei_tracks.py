"""Sei's tracks: the 40 sequence classes, and the names file of the 21,907 chromatin profiles behind them.

A line of that file is ``biosample | assay or ChIP target | source``, and one more field where the same source has
several.
"""

from __future__ import annotations

import re
from pathlib import Path

from builders.track_files import track_file
from chorus_store.errors import TrackTableError
from chorus_store.tracks import TrackTable

CLASSES, PROFILES = "classes", "profiles"
N_PROFILES = 21_907
#: Name of every class, in the order of the projection vectors; the vectors after them have none.
CLASS_NAMES = (
    "PC1 Polycomb / Heterochromatin", "L1 Low signal", "TN1 Transcription", "TN2 Transcription", "L2 Low signal",
    "E1 Stem cell", "E2 Multi-tissue", "E3 Brain / Melanocyte", "L3 Low signal", "E4 Multi-tissue",
    "TF1 NANOG / FOXA1", "HET1 Heterochromatin", "E5 B-cell-like", "E6 Weak epithelial", "TF2 CEBPB",
    "PC2 Weak Polycomb", "E7 Monocyte / Macrophage", "E8 Weak multi-tissue", "L4 Low signal",
    "TF3 FOXA1 / AR / ESR1", "PC3 Polycomb", "TN3 Transcription", "L5 Low signal", "HET2 Heterochromatin",
    "L6 Low signal", "P Promoter", "E9 Liver / Intestine", "CTCF CTCF-Cohesin", "TN4 Transcription",
    "HET3 Heterochromatin", "E10 Brain", "TF4 OTX2", "HET4 Heterochromatin", "L7 Low signal",
    "PC4 Polycomb / Bivalent stem cell Enh", "HET5 Centromere", "E11 T-cell", "TF5 AR", "E12 Erythroblast-like",
    "HET6 Centromere",
)  # fmt: skip

#: Histones and their marks among the ChIP targets. Wider than the marks of the layer table, which are looked for
#: in free text; here a field is the target, and these are the 10,064 histone profiles that the authors count.
_HISTONE = re.compile(r"H1\.|H2A|H2B|H3|H4|Histone ")
_ACCESSIBILITY = {"DNase": "DNASE", "ATAC-seq": "ATAC", "FAIRE": "FAIRE"}
_REMEDY = "take target.names of the Sei framework (it is downloaded when --tracks is left out)"

Row = tuple[str, str, int, str, str, str, str, str]


def class_rows() -> list[Row]:
    """Rows of the sequence classes."""
    layer = "regulatory_classification"
    return [(name, CLASSES, i, "SEQUENCE_CLASS", layer, "", name, ".") for i, name in enumerate(CLASS_NAMES)]


def profile_rows(names: list[str]) -> list[Row]:
    """Rows of the chromatin profiles; the whole line is the identifier, because nothing shorter is unique.

    Examples
    --------
    >>> profile_rows(["K562_Erythroblast_Bone_Marrow | GATA1 | ID:2000"])[0][3:6]
    ('CHIP', 'tf_binding', 'K562_Erythroblast_Bone_Marrow')
    """
    rows = []
    for channel, name in enumerate(names):
        cell_type, target = name.split(" | ")[:2]
        assay, layer = _assay_and_layer(target)
        rows.append((name, PROFILES, channel, assay, layer, cell_type, name, "."))
    return rows


def _assay_and_layer(target: str) -> tuple[str, str]:
    assay = _ACCESSIBILITY.get(target.partition(".")[0])  # DNase.hot and others are peak calls of DNase
    if assay:
        return assay, "chromatin_accessibility"
    return "CHIP", "histone_marks" if _HISTONE.match(target) else "tf_binding"


def read_names(path: Path) -> list[str]:
    """Names of the profiles, in the order of the model's outputs.

    Raises
    ------
    TrackTableError
        The file cannot be read, is empty, or has a line that is no name or is there twice. The message has it.
    """
    with track_file(path, _REMEDY) as text:
        names = [line.strip() for line in text]
    seen: dict[str, int] = {}
    for number, name in enumerate(names, start=1):
        if name.count(" | ") < 2:
            raise TrackTableError(f"{path}, line {number}: {name!r} is not 'biosample | target | source'; {_REMEDY}")
        if name in seen:
            raise TrackTableError(f"{path}, line {number}: {name} is already on line {seen[name]}; {_REMEDY}")
        seen[name] = number
    if not names:
        raise TrackTableError(f"{path} has no names; {_REMEDY}")
    return names


def check_number(names: list[str], source: Path) -> None:
    """Refuse, with `TrackTableError`, any number of profiles but the published one."""
    if len(names) != N_PROFILES:
        raise TrackTableError(
            f"{source} names {len(names):,} profiles where Sei predicts {N_PROFILES:,}; {_REMEDY}, or take the "
            "small model (--size small)"
        )


def histone_channels(names: list[str]) -> list[int]:
    """Channels of the histone profiles."""
    return [row[2] for row in profile_rows(names) if row[4] == "histone_marks"]


def demo_names() -> str:
    """A small names file with every layer of the profiles."""
    targets = ("DNase", "ATAC-seq", "CTCF", "GATA1", "H3K27ac", "H3K4me3", "H3K9me3", "H3K27me3")
    return "".join(f"{cell} | {target} | DEMO\n" for cell in ("K562", "HepG2", "GM12878") for target in targets)


def table(names: list[str] | None) -> TrackTable:
    """The classes, and the profiles after them where names are given."""
    return TrackTable.from_rows(class_rows() + profile_rows(names or []))
