"""Genes, exons and candidate cis-regulatory elements (cCREs) from GTF and BED files, gzipped or plain."""

from __future__ import annotations

import gzip
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from isal import igzip
from isal.igzip_lib import IsalError

from chorus_store.errors import AnnotationError
from chorus_store.gene_bins import GeneExons
from chorus_store.intervals import merge_intervals

log = logging.getLogger(__name__)

IntArray = npt.NDArray[np.int64]
StringArray = npt.NDArray[np.str_]

#: Classes of the ENCODE SCREEN registry, version 4, in the order in which they are drawn.
CCRE_CLASSES = ("PLS", "dELS", "pELS", "CA-CTCF", "CA-TF", "TF", "CA-H3K4me3", "CA")

_Row = TypeVar("_Row")

#: More than any chromosome has.
_LONGEST_BP = 1 << 40

_GENE_TYPE = re.compile(r'\bgene_(?:type|biotype) "?([^";]+)')
_GENE_NAME = re.compile(r'\bgene_name "?([^";]+)')
_GENE_ID = re.compile(r'\bgene_id "?([^";]+)')


@dataclass(frozen=True, eq=False)
class Genes:
    """Gene records in file order.

    Attributes
    ----------
    chrom, strand, gene_name, gene_type : ndarray of str, shape (n,)
        ``gene_name`` is the gene's identifier where it has no name.
    start, end : ndarray of int64, shape (n,)
        The GTF's own numbers: 1-based, inclusive.
    """

    chrom: StringArray
    start: IntArray
    end: IntArray
    strand: StringArray
    gene_name: StringArray
    gene_type: StringArray

    def __len__(self) -> int:
        return len(self.chrom)


@dataclass(frozen=True, eq=False)
class CCres:
    """cCREs in file order.

    Attributes
    ----------
    chrom, category : ndarray of str, shape (n,)
        ``category`` is the class alone: the suffix of version 3 (``PLS,CTCF-bound``) is left out.
    start, end : ndarray of int64, shape (n,)
        0-based, half-open.
    """

    chrom: StringArray
    start: IntArray
    end: IntArray
    category: StringArray

    def __len__(self) -> int:
        return len(self.chrom)


def read_genes(path: str | Path) -> Genes:
    """Read the gene records of a GTF.

    Parameters
    ----------
    path : str or Path
        GENCODE or Ensembl GTF, gzipped or plain. The type is ``gene_type`` or ``gene_biotype``.

    Returns
    -------
    Genes

    Raises
    ------
    AnnotationError
        The file is missing, truncated or not text, a line is malformed, or there are no genes, no gene types
        or no gene names.
    """
    rows = list(_rows(Path(path), _gene))
    if not rows:
        raise AnnotationError(f"{path} has no gene records; give a GTF whose third column holds 'gene', as GENCODE's")
    chrom, start, end, strand, name, identifier, gene_type = zip(*rows, strict=True)
    if not any(name):
        raise AnnotationError(
            f"{path}: no gene record has the attribute gene_name; give a GTF with names, as GENCODE's"
        )
    # Ensembl leaves genes without a symbol unnamed.
    gene_name = [own or other for own, other in zip(name, identifier, strict=True)]
    return Genes(
        np.array(chrom, np.str_),
        np.array(start, np.int64),
        np.array(end, np.int64),
        np.array(strand, np.str_),
        np.array(gene_name, np.str_),
        np.array(gene_type, np.str_),
    )


def merged_exons(path: str | Path) -> dict[str, IntArray]:
    """Exons of protein-coding genes, merged where they overlap or touch.

    Parameters
    ----------
    path : str or Path
        As for `read_genes`.

    Returns
    -------
    dict of str to ndarray of int64, shape (n, 2)
        Per chromosome 0-based half-open intervals, ascending and disjoint.

    Raises
    ------
    AnnotationError
        The file is missing, truncated or not text, a line is malformed, or no exon is of a protein-coding
        gene.
    """
    found: dict[str, list[tuple[int, int]]] = {}
    for chrom, start, end in _rows(Path(path), _coding_exon):
        found.setdefault(chrom, []).append((start - 1, end))
    _require_exons(path, len(found))
    return {chrom: merge_intervals(np.array(intervals, np.int64)) for chrom, intervals in found.items()}


def gene_exons(path: str | Path) -> GeneExons:
    """Exons of protein-coding genes, those of each gene merged where they overlap or touch.

    Parameters
    ----------
    path : str or Path
        As for `read_genes`; exons of one ``gene_id`` on one chromosome are a gene.

    Returns
    -------
    GeneExons

    Raises
    ------
    AnnotationError
        As `merged_exons`, or an exon has no ``gene_id``.
    """
    found: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for chrom, gene_id, start, end in _rows(Path(path), _coding_exon_of_gene):
        found.setdefault((chrom, gene_id), []).append((start - 1, end))
    _require_exons(path, len(found))
    return GeneExons.of(found)


def _require_exons(path: str | Path, found: int) -> None:
    if not found:
        raise AnnotationError(f"{path} has no exon records of protein-coding genes; give a GTF that holds exons")


def read_ccres(path: str | Path) -> CCres:
    """Read cCREs with their class, which is the last column.

    The draws depend on the order of rows. A file that is not sorted is used as it stands, with a warning: it
    gives other positions than the sorted file.

    Parameters
    ----------
    path : str or Path
        BED of the SCREEN registry (six columns) or any other with the class last, gzipped or plain.

    Returns
    -------
    CCres

    Raises
    ------
    AnnotationError
        The file is missing, truncated or not text, a line is malformed, or no row has one of `CCRE_CLASSES`.
    """
    rows = list(_rows(Path(path), _ccre))
    if not rows:
        raise AnnotationError(f"{path} has no cCREs; give the cCRE BED of the SCREEN registry")
    chrom, start, end, category = zip(*rows, strict=True)
    ccres = CCres(
        np.array(chrom, np.str_),
        np.array(start, np.int64),
        np.array(end, np.int64),
        np.array(category, np.str_),
    )
    _check_classes(path, Counter(category))
    if not _is_sorted(ccres):
        log.warning(
            "%s is not sorted; its rows are used as they stand, which gives other positions than the sorted "
            "file (sort -k1,1 -k2,2n)",
            path,
        )
    return ccres


def _check_classes(path: str | Path, counts: Counter[str]) -> None:
    others = {name: n for name, n in counts.items() if name not in CCRE_CLASSES}
    if len(others) == len(counts):
        raise AnnotationError(
            f"{path}: no row has a known class in its last column (there: {', '.join(list(others)[:5])}); "
            f"expected {', '.join(CCRE_CLASSES)}"
        )
    if others:
        log.warning("%s: rows of other classes are never drawn: %s", path, others)


def _is_sorted(ccres: CCres) -> bool:
    """Whether every chromosome is one run of rows with ascending starts, chromosomes in any order."""
    same = ccres.chrom[1:] == ccres.chrom[:-1]
    one_run_each = int((~same).sum()) + 1 == len(np.unique(ccres.chrom))
    return one_run_each and bool((ccres.start[1:] >= ccres.start[:-1])[same].all())


def _gene(line: str) -> tuple[str, int, int, str, str, str, str] | None:
    fields = _gtf_fields(line, "gene")
    if fields is None:
        return None
    start, end = _interval(fields[3], fields[4])
    if start < 1:
        raise ValueError("start is 0, but GTF positions start at 1")
    name, identifier = _GENE_NAME.search(fields[8]), _GENE_ID.search(fields[8])
    if identifier is None:
        raise ValueError("a gene record without the attribute gene_id")
    return fields[0], start, end, fields[6], name[1] if name else "", identifier[1], _gene_type(fields[8])


def _coding_exon(line: str) -> tuple[str, int, int] | None:
    fields = _gtf_fields(line, "exon")
    if fields is None or _gene_type(fields[8]) != "protein_coding":
        return None
    return fields[0], *_interval(fields[3], fields[4])


def _coding_exon_of_gene(line: str) -> tuple[str, str, int, int] | None:
    exon = _coding_exon(line)
    if exon is None:
        return None
    if (identifier := _GENE_ID.search(line)) is None:
        raise ValueError("an exon record without the attribute gene_id")
    return exon[0], identifier[1], *exon[1:]


def _ccre(line: str) -> tuple[str, int, int, str] | None:
    if line.startswith(("track", "browser")):
        return None
    fields = line.split("\t")
    if len(fields) < 4:
        raise ValueError(f"{len(fields)} tab-separated columns; expected 4 or more (chromosome, start, end, …, class)")
    return fields[0], *_interval(fields[1], fields[2]), fields[-1].partition(",")[0]


def _gtf_fields(line: str, feature: str) -> list[str] | None:
    """The nine columns of a line of that feature; None for other features."""
    # By any white space, because files that went through an editor may have lost their tabs; in two steps,
    # because most lines are of other features.
    head = line.split(None, 3)
    if len(head) == 4 and head[2] != feature:
        return None
    fields = line.split(None, 8)
    if len(fields) < 9:
        raise ValueError(f"{len(fields)} columns where a GTF has 9")
    return fields


def _gene_type(attributes: str) -> str:
    match = _GENE_TYPE.search(attributes)
    if match is None:
        raise ValueError("no attribute gene_type or gene_biotype; give a GENCODE or Ensembl GTF")
    return match[1]


def _interval(start: str, end: str) -> tuple[int, int]:
    try:
        first, last = int(start), int(end)
    except ValueError:
        raise ValueError(f"start {start!r} and end {end!r} are not both whole numbers") from None
    if not 0 <= first <= last <= _LONGEST_BP:
        raise ValueError(f"start {start} and end {end} are negative or reversed, or beyond any chromosome")
    return first, last


def _rows(path: Path, parse: Callable[[str], _Row | None]) -> Iterator[_Row]:
    """Parsed lines but those for which ``parse`` gives None; its ValueError gets file and line number."""
    number = 0
    try:
        with path.open("rb") as raw:
            compressed = raw.read(2) == b"\x1f\x8b"
        with igzip.open(path, "rt", encoding="utf-8") if compressed else path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):  # noqa: B007 (the last handler reads it)
                text = line.rstrip("\r\n")
                if text and not text.startswith("#") and (row := parse(text)) is not None:
                    yield row
    except FileNotFoundError:
        raise AnnotationError(f"there is no file at {path}") from None
    except (EOFError, IsalError, gzip.BadGzipFile) as error:  # type: ignore[misc]  # isal's stub is wrong
        raise AnnotationError(f"{path} is truncated or damaged ({error}); download or compress it again") from error
    except OSError as error:
        raise AnnotationError(f"{path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise AnnotationError(f"{path} is not text; give a GTF or BED, plain or gzipped") from error
    except ValueError as error:
        raise AnnotationError(f"{path}, line {number}: {error}") from error
