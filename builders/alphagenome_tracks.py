"""AlphaGenome's track table: the model's own metadata, a protocol buffer in text format.

One block of outputs after the other; every output lists its tracks in the order of its channels, real ones first,
then the padding that rounds the head's width up.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from builders.track_files import track_file
from chorus_store.errors import TrackTableError
from chorus_store.tracks import TrackTable

_REMEDY = "give OutputMetadataResponse_ORGANISM_HOMO_SAPIENS.textproto of alphagenome_research, or leave --tracks out"
_PADDING = "Padding"
_STRANDS = {"STRAND_POSITIVE": "+", "STRAND_NEGATIVE": "-", "STRAND_UNSTRANDED": "."}
#: A message begins, a message ends, or a field has a value.
_LINE = re.compile(r'(?P<begin>\w+) \{|(?P<end>\})|(?P<field>\w+): (?P<value>"(?:[^"\\]|\\.)*"|[^"\s]+)')


@dataclass(frozen=True)
class OutputType:
    """An output of the model whose tracks have a background."""

    head: str
    assay: str
    layer: str


#: By name in the metadata, without OUTPUT_TYPE_. Splice junctions and contact maps are not per bin and have none.
OUTPUT_TYPES = {
    "ATAC": OutputType("atac", "ATAC", "chromatin_accessibility"),
    "CAGE": OutputType("cage", "CAGE", "tss_activity"),
    "DNASE": OutputType("dnase", "DNASE", "chromatin_accessibility"),
    "RNA_SEQ": OutputType("rna_seq", "RNA", "gene_expression"),
    # The output says which ChIP it is; descriptions of these tracks need not name a mark.
    "CHIP_HISTONE": OutputType("chip_histone", "CHIP", "histone_marks"),
    "CHIP_TF": OutputType("chip_tf", "CHIP", "tf_binding"),
    "SPLICE_SITES": OutputType("splice_sites", "SPLICE_SITES", "splicing"),
    "SPLICE_SITE_USAGE": OutputType("splice_site_usage", "SPLICE_SITE_USAGE", "splicing"),
    "PROCAP": OutputType("procap", "PRO_CAP", "tss_activity"),
}
_DEMO_SAMPLES = {"EFO:0001187": "HepG2", "EFO:0002067": "K562", "CL:0000084": "T-cell", "UBERON:0002107": "liver"}
_WITHOUT_BINS = ("SPLICE_JUNCTIONS", "CONTACT_MAPS")


def read_metadata(path: Path) -> TrackTable:
    """Read the metadata, plain or gzipped.

    Parameters
    ----------
    path : Path

    Returns
    -------
    TrackTable
        In file order, without padding. Identifiers are ``OUTPUT_TYPE/name/strand``; ``channel`` is the track's place in
        its output; a description is assay, target and biosample, those that there are, joined by colons.

    Raises
    ------
    TrackTableError
        The file cannot be read or is not such metadata, names an unknown output type, repeats a track, or has padding
        before a real track. The message has the line.
    """
    rows = []
    channels: Counter[str] = Counter()
    padded: set[str] = set()
    seen: dict[str, int] = {}
    with track_file(path, _REMEDY) as text:
        for line, output, fields in _tracks(text, path):
            channel, where = channels[output], f"{path}, line {line}"
            channels[output] += 1
            if fields.get("name") == _PADDING:
                padded.add(output)
                continue
            if output in padded:
                raise TrackTableError(f"{where}: a track follows the padding of {output}; {_REMEDY}")
            try:
                row = _row(output, channel, fields)
            except KeyError as error:
                raise TrackTableError(f"{where}: a track of {output} has no usable {error}; {_REMEDY}") from None
            if row[0] in seen:
                raise TrackTableError(f"{where}: {row[0]} is already on line {seen[row[0]]}; {_REMEDY}")
            seen[row[0]] = line
            rows.append(row)
    if not rows:
        raise TrackTableError(f"{path} names no tracks; {_REMEDY}")
    return TrackTable.from_rows(rows)


def _row(output: str, channel: int, fields: dict[str, str]) -> tuple[str, str, int, str, str, str, str, str]:
    kind, name, strand = OUTPUT_TYPES[output], fields["name"], _STRANDS[fields["strand"]]
    target = fields.get("histone_mark_code") or fields.get("transcription_factor_code")
    cell_type = fields.get("biosample.name", "")
    description = ":".join(filter(None, (fields.get("assay", name), target, cell_type)))
    return f"{output}/{name}/{strand}", kind.head, channel, kind.assay, kind.layer, cell_type, description, strand


def _tracks(text: TextIO, path: Path) -> Iterator[tuple[int, str, dict[str, str]]]:
    """Line, output type and fields of every track, padding included; inner messages as ``message.field``."""
    messages: list[str] = []
    output, began, fields = "", 0, dict[str, str]()
    for number, line in enumerate(text, 1):
        part = _LINE.fullmatch(line.strip())
        if part is None or (part["end"] and not messages):
            raise TrackTableError(f"{path}, line {number}: {line.strip()[:40]!r} is no metadata; {_REMEDY}")
        if part["begin"]:
            messages.append(part["begin"])
            if messages[1:] == ["tracks", "metadata"]:
                began, fields = number, {}
        elif part["end"]:
            if messages[1:] == ["tracks", "metadata"] and output not in _WITHOUT_BINS:
                yield began, output, fields
            messages.pop()
        elif part["field"] == "output_type":
            output = part["value"].removeprefix("OUTPUT_TYPE_")
            if output not in OUTPUT_TYPES and output not in _WITHOUT_BINS:
                raise TrackTableError(f"{path}, line {number}: unknown output type {output}; {_REMEDY}")
        else:
            fields[".".join((*messages[3:], part["field"]))] = _text(part["value"])
    if messages:
        raise TrackTableError(f"{path} ends inside {messages[-1]}: it is not whole; {_REMEDY}")


def _text(value: str) -> str:
    """A value without its quotes, and without the backslashes before quotes inside."""
    return re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value


def demo_metadata() -> str:
    """Metadata with every output, and with padding, for the demonstration."""
    outputs = {
        "ATAC": ("{} ATAC-seq", "."),
        "CAGE": ("hCAGE {}", "+-"),
        "DNASE": ("{} DNase-seq", "."),
        "RNA_SEQ": ("{} polyA plus RNA-seq", "+-"),
        "CHIP_HISTONE": ("{} Histone ChIP-seq H3K27ac", "."),
        "CHIP_TF": ("{} TF ChIP-seq CTCF", "."),
        "SPLICE_SITE_USAGE": ("usage_{} polyA plus RNA-seq", "+-"),
        "PROCAP": ("{} PRO-cap", "+-"),
    }
    tracks = {
        output: [(name.format(term), strand, cell) for strand in strands for term, cell in _DEMO_SAMPLES.items()]
        for output, (name, strands) in outputs.items()
    }
    tracks["SPLICE_SITES"] = [(site, strand, "") for strand in "+-" for site in ("donor", "acceptor")]
    names = {strand: name for name, strand in _STRANDS.items()}
    lines = []
    for output, rows in tracks.items():
        lines += ["output_metadata {", f"  output_type: OUTPUT_TYPE_{output}", "  tracks {"]
        for name, strand, cell in (*rows, (_PADDING, ".", "")):
            sample = ["      biosample {", f'        name: "{cell}"', "      }"] if cell else []
            lines += ["    metadata {", f'      name: "{name}"', f"      strand: {names[strand]}", *sample, "    }"]
        lines += ["  }", "}"]
    return "\n".join(lines) + "\n"
