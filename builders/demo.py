"""The embedded demo: a synthetic genome with genes and cCREs, and a small track table, written as real files.

Everything downstream is the real pipeline. The numbers mean nothing; the files, the steps and the questions are the
ones of a real build.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from builders.oracle import Oracle
from builders.settings import Inputs
from chorus_store.annotations import CCRE_CLASSES
from chorus_store.files import writing
from chorus_store.plan import PlanOptions

#: What a store says of its genome.
ASSEMBLY = "synthetic"
CONTIGS = ("chr20", "chr21", "chr22")
#: Distance from the ends of a contig, and what lies between.
MARGIN_BP = 210_000
_INNER_BP = 780_000
#: What a margin has more than half of an input window.
_ROOM_BP = 10_000
_BLOCK = 16
#: Point of the CDF whose value, rounded, is asked about.
_ASKED = 9_400
_GENES_PER_CONTIG = 12
_CCRES_PER_CONTIG = 80

_PLAN = PlanOptions(
    n_variants=48,
    n_random=36,
    ccre_counts=dict.fromkeys(CCRE_CLASSES, 4),
    n_tss=12,
    n_gene_bodies=8,
)


def plan_of(oracle: type[Oracle]) -> PlanOptions:
    """A plan of the demo's size, without the sets that the oracle leaves out, and with its number of bins."""
    own = {name: value for name, value in oracle.plan_defaults.items() if value == 0 or name == "bin_slots"}
    margin = margin_of(oracle)
    return dataclasses.replace(_PLAN, variant_margin_bp=margin, random_margin_bp=margin, **own)


def margin_of(oracle: type[Oracle]) -> int:
    """Distance from the ends of a contig at which an input window fits."""
    return max(MARGIN_BP, oracle.input_length_bp // 2 + _ROOM_BP)


def block_of(oracle: type[Oracle]) -> int:
    """Positions per unit of work: several units, but no batch that is mostly filling."""
    return max(_BLOCK, oracle.default_batch)


def write_inputs(folder: Path, targets: str = "", margin_bp: int = MARGIN_BP) -> Inputs:
    """Write genome, annotation and track table, the same bytes every time.

    Parameters
    ----------
    folder : Path
        Created if need be; files that are there already are kept.
    targets : str
        The oracle's track table, if it has one.
    margin_bp : int
        Genes and cCREs stay away so far from the ends of the contigs.

    Returns
    -------
    Inputs
        Without weights.
    """
    rng = np.random.default_rng(20)
    inner = (margin_bp, margin_bp + _INNER_BP)
    contents = {
        "genome.fa": _fasta(rng, inner[1] + margin_bp),
        "genes.gtf": _gtf(rng, *inner),
        "ccres.bed": _bed(rng, *inner),
    }
    if targets:
        contents["targets.txt"] = targets
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in contents.items():
            file = folder / name
            if not file.exists() or file.read_text() != text:
                file.write_text(text)
    return Inputs(*(folder / name for name in contents))


def _fasta(rng: np.random.Generator, contig_bp: int) -> str:
    lines = []
    for contig in CONTIGS:
        bases = np.frombuffer(b"ACGT", np.uint8)[rng.integers(0, 4, contig_bp)]
        bases[:10_000] = ord("N")
        sequence = bases.tobytes().decode()
        lines.append(f">{contig}")
        lines += [sequence[start : start + 60] for start in range(0, contig_bp, 60)]
    return "\n".join(lines) + "\n"


def _gtf(rng: np.random.Generator, first: int, stop: int) -> str:
    rows = []
    for contig in CONTIGS:
        starts = np.sort(rng.integers(first, stop - 50_000, _GENES_PER_CONTIG))
        for i, start in enumerate(starts.tolist()):
            end = start + int(rng.integers(2_000, 50_000))
            strand = "+-"[int(rng.integers(2))]
            name = f"DEMO{contig[3:]}{i:02d}"
            notes = f'gene_id "{name}.1"; gene_type "protein_coding"; gene_name "{name}";'
            for feature, begin, last in (("gene", start, end), ("exon", start, start + 300), ("exon", end - 500, end)):
                rows.append(f"{contig}\tdemo\t{feature}\t{begin}\t{last}\t.\t{strand}\t.\t{notes}")
    return "\n".join(rows) + "\n"


def _bed(rng: np.random.Generator, first: int, stop: int) -> str:
    rows = []
    for contig in CONTIGS:
        starts = np.sort(rng.integers(first, stop, _CCRES_PER_CONTIG))
        for i, start in enumerate(starts.tolist()):
            width = int(rng.integers(150, 350))
            label = CCRE_CLASSES[int(rng.integers(len(CCRE_CLASSES)))]
            rows.append(
                f"{contig}\t{start}\t{start + width}\tDEMOD{contig[3:]}{i:04d}\tDEMOE{contig[3:]}{i:04d}\t{label}"
            )
    return "\n".join(rows) + "\n"


def ask(path: Path) -> str:
    """Ask the demo's store one question, and show how it was asked."""
    import chorus_store

    with chorus_store.open(path) as store:
        first = store.isel(track=0)
        track, assay, cell_type = (str(first[name].values) for name in ("track", "assay", "cell_type"))
        raw = float(f"{first['effect_cdf'].values[_ASKED]:.2g}")
        percentile = round(float(store.chorus.percentile(raw, track=track, cdf="effect")), 2)
        share, how = ((percentile + 1) / 2, "above") if bool(first["signed"]) else (percentile, "larger than")
    about = f"{assay} in {cell_type}" if cell_type else track
    return (
        f">>> import chorus_store, xarray as xr\n"
        f">>> round(xr.open_zarr({str(path)!r}).chorus.percentile({raw}, track={track!r}, cdf='effect'), 2)\n"
        f"{percentile}\n"
        f"an effect of {raw} on {about} is {how} {share:.0%} of the random variants (demo: random weights)"
    )
