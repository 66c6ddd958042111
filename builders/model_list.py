"""Which models an oracle with one model per track has: a list, additions to it, and a choice from it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from builders.ledger import LEDGER
from builders.track_files import read_header, read_records
from chorus_store.errors import InputError, TrackTableError
from chorus_store.layers import layer_of
from chorus_store.matching import near
from chorus_store.tracks import TrackTable

Family = Literal["accessibility", "chip"]

HEAD = "profile"
#: Assays, and the family of the models that predict them.
ASSAYS: Mapping[str, Family] = {"DNASE": "accessibility", "ATAC": "accessibility", "CHIP": "chip"}
COLUMNS = ("track", "model")
#: One more that a list may have.
DESCRIPTION = "description"
#: Columns of JASPAR's table of BPNet models, in part.
JASPAR_COLUMNS = ("BASE_ID", "VERSION", "TF_NAME", "CELL_LINE", "MODEL_URL")
#: Bytes of a name in any usual file system.
_LONGEST_NAME = 255
#: Names of what is downloaded: not hidden, of no other folder, and not the record of downloads.
_FILE_NAME = re.compile(rf"(?!{re.escape(LEDGER)})[A-Za-z0-9_][^/\\:\0]{{0,199}}")
_REMEDY = (
    f"give a table with the columns {' and '.join(COLUMNS)} (ASSAY:cell or CHIP:cell:factor, and a file or an https "
    "address), or JASPAR's table of BPNet models (--tracks)"
)


@dataclass(frozen=True)
class TrackModel:
    """A track and where its model is.

    Attributes
    ----------
    track : str
        ``ASSAY:cell``, or ``CHIP:cell:factor``.
    source : str
        File, folder with one, or address; empty for random weights.
    description : str
        Free text.

    Raises
    ------
    TrackTableError
        The identifier is of another form, a part of it has blanks around it or holds what cannot be printed, or its
        assay is unknown.
    """

    track: str
    source: str = ""
    description: str = ""

    def __post_init__(self) -> None:
        parts = self.track.split(":")
        if len(parts) < 2 or not all(part.strip() for part in parts):
            raise TrackTableError(f"{self.track!r} is not of the form ASSAY:cell or CHIP:cell:factor")
        odd = [part for part in parts if part != part.strip() or not part.isprintable()]
        if odd:
            raise TrackTableError(
                f"{odd[0]!r} in {self.track!r} has blanks around it or characters that cannot be printed; take them out"
            )
        if self.assay not in ASSAYS:
            raise TrackTableError(
                f"unknown assay {self.assay!r} in {self.track!r}; known are {', '.join(ASSAYS)} "
                f"({near(self.assay, ASSAYS)})"
            )
        if self.assay == "CHIP" and len(parts) < 3:
            raise TrackTableError(f"{self.track!r} names no factor; ChIP tracks are CHIP:cell:factor")
        if is_address(self.source) and not _FILE_NAME.fullmatch(self.file_name):
            raise TrackTableError(f"{self.source!r} is no address of a file")
        if any(len(part.encode()) > _LONGEST_NAME for part in Path(self.source).parts):
            raise TrackTableError(f"{self.source!r} is too long for the name of a file")

    @property
    def assay(self) -> str:
        """First part of the identifier."""
        return self.track.partition(":")[0]

    @property
    def file_name(self) -> str:
        """Name of the file or folder, the last part of its path or address; empty where that has none."""
        try:
            return Path(urlsplit(self.source).path if is_address(self.source) else self.source).name
        except ValueError:  # of an address
            return ""

    @property
    def cell_type(self) -> str:
        """What is between assay and factor."""
        rest = self.track.partition(":")[2]
        return rest.rpartition(":")[0] if self.assay == "CHIP" else rest


def track_table(models: Sequence[TrackModel]) -> TrackTable:
    """The track table of some models, in their order."""
    rows = [(m.track, HEAD, 0, m.assay, layer_of(m.assay, m.track), m.cell_type, m.description, ".") for m in models]
    return TrackTable.from_rows(rows)


def read_list(path: Path) -> list[TrackModel]:
    """Read a list of models, in file order.

    Parameters
    ----------
    path : Path
        Tab-separated, plain or gzipped, with a header: ``track`` and ``model``, perhaps ``description``, which a row
        may lack where it comes last. Blank lines are skipped. A relative file is looked for beside the list. JASPAR's
        own table of BPNet models will do: of several models of the same factor in the same cell type, the first is
        taken.

    Raises
    ------
    TrackTableError
        The file cannot be read, or a line names no model, a track twice, or something unknown; says which line.
    """
    models: dict[str, TrackModel] = {}
    lines: dict[str, int] = {}
    jaspar = set(JASPAR_COLUMNS) <= set(read_header(path, _REMEDY))
    for line, record in read_records(path, JASPAR_COLUMNS if jaspar else COLUMNS, _REMEDY, optional=DESCRIPTION):
        try:
            source = _source(record["MODEL_URL" if jaspar else "model"].strip(), path.parent)
            model = _jaspar_model(record, source) if jaspar else _listed_model(record, source)
        except TrackTableError as error:
            raise TrackTableError(f"{path}, line {line}: {error}; {_REMEDY}") from None
        if model.track in models and jaspar:
            continue
        if model.track in models:
            raise TrackTableError(
                f"{path}, line {line}: {model.track} is already on line {lines[model.track]}; {_REMEDY}"
            )
        models[model.track], lines[model.track] = model, line
    if not models:
        raise TrackTableError(f"{path} has a header and no models; {_REMEDY}")
    return list(models.values())


def _source(text: str, folder: Path) -> str:
    """Address, or path of a file that lies beside the list unless it says otherwise."""
    if not text:
        raise TrackTableError("no model")
    return text if is_address(text) else str(folder / local_path(text))


def _jaspar_model(record: Mapping[str, str], source: str) -> TrackModel:
    name = f"{record['BASE_ID']}.{record['VERSION']}"
    return TrackModel(f"CHIP:{record['CELL_LINE']}:{record['TF_NAME']}", source, f"JASPAR {name}")


def _listed_model(record: Mapping[str, str], source: str) -> TrackModel:
    return TrackModel(record["track"], source, record.get(DESCRIPTION, ""))


def parse_addition(text: str) -> TrackModel:
    """A model from ``ASSAY:CELL=FILE``.

    Examples
    --------
    >>> parse_addition("ATAC:K562=models/k562.h5").source
    'models/k562.h5'
    """
    track, equals, source = text.partition("=")
    if not equals or not source:
        raise TrackTableError(f"{text!r} is not of the form ASSAY:CELL=FILE, such as ATAC:K562=k562_nobias.h5 (--add)")
    return TrackModel(track, source)


def combined(listed: Sequence[TrackModel], additions: Sequence[TrackModel]) -> list[TrackModel]:
    """A list and its additions.

    Raises
    ------
    InputError
        A track is there twice.
    """
    seen: set[str] = set()
    for model in (*listed, *additions):
        if model.track in seen:
            raise InputError(f"{model.track} is there twice; leave out one of its models (--add, --tracks)")
        seen.add(model.track)
    return [*listed, *additions]


def chosen(models: Sequence[TrackModel], labels: Sequence[str]) -> list[TrackModel]:
    """The models of some tracks, assays, cell types, or both, such as ``CHIP:K562``; all where none are named.

    Raises
    ------
    InputError
        A label fits no track; names near matches.

    Examples
    --------
    >>> models = [TrackModel("ATAC:K562"), TrackModel("CHIP:K562:CTCF"), TrackModel("CHIP:A549:CTCF")]
    >>> [m.track for m in chosen(models, ["CHIP:K562", "ATAC"])]
    ['ATAC:K562', 'CHIP:K562:CTCF']
    """
    labels_of = {m.track: {m.track, m.assay, m.cell_type, f"{m.assay}:{m.cell_type}"} for m in models}
    known = set().union(*labels_of.values())
    for label in labels:
        if label not in known:
            raise InputError(
                f"no model for {label!r} ({near(label, known)}); give a track, an assay, a cell type or ASSAY:CELL"
            )
    return [m for m in models if not labels or labels_of[m.track] & set(labels)]


def local_path(source: str) -> Path:
    """Path of a source that is no address; TrackTableError where it begins with the home of nobody."""
    try:
        return Path(source).expanduser()
    except RuntimeError as error:
        raise TrackTableError(f"{source!r} cannot be found: {error}") from None


def is_address(source: str) -> bool:
    """Whether a source is to be downloaded, rather than a file."""
    return source.lower().startswith(("http://", "https://"))
