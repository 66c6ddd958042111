"""The embedded demo: a synthetic genome with genes and cCREs, and a small track table, written as real files.

Everything downstream is the real pipeline. The numbers mean nothing; the files, the steps and the questions are the
ones of a real build.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from builders.settings import Inputs
from chorus_store.annotations import CCRE_CLASSES
from chorus_store.facts import writing
from chorus_store.plan import PlanOptions

CONTIG_BP = 1_200_000
CONTIGS = ("chr20", "chr21", "chr22")
#: Half of the longest input window, with room for it.
MARGIN_BP = 210_000
BLOCK = 16
_GENES_PER_CONTIG = 12
_CCRES_PER_CONTIG = 80

PLAN = PlanOptions(
    n_variants=48,
    n_random=36,
    ccre_counts=dict.fromkeys(CCRE_CLASSES, 4),
    n_tss=12,
    n_gene_bodies=8,
    variant_margin_bp=MARGIN_BP,
    random_margin_bp=MARGIN_BP,
)

#: (assay, target, cell type) of the demo's tracks.
_TRACKS = [
    *(("DNASE", "", cell) for cell in ("K562", "HepG2", "GM12878", "A549", "H1")),
    *(("ATAC", "", cell) for cell in ("K562", "HepG2", "GM12878")),
    *(("CHIP", target, cell) for target in ("CTCF", "GATA1", "H3K27ac", "H3K4me3") for cell in ("K562", "HepG2")),
    *(("CAGE", "", cell) for cell in ("K562", "HepG2", "GM12878", "liver")),
]


def write_inputs(folder: Path) -> Inputs:
    """Write genome, annotation and track table, the same bytes every time.

    Parameters
    ----------
    folder : Path
        Created if need be; files that are there already are kept.

    Returns
    -------
    Inputs
        Without weights.
    """
    rng = np.random.default_rng(20)
    contents = {
        "genome.fa": _fasta(rng),
        "genes.gtf": _gtf(rng),
        "ccres.bed": _bed(rng),
        "targets.txt": _targets(),
    }
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in contents.items():
            file = folder / name
            if not file.exists() or file.read_text() != text:
                file.write_text(text)
    return Inputs(folder / "genome.fa", folder / "genes.gtf", folder / "ccres.bed", folder / "targets.txt")


def _fasta(rng: np.random.Generator) -> str:
    lines = []
    for contig in CONTIGS:
        bases = np.frombuffer(b"ACGT", np.uint8)[rng.integers(0, 4, CONTIG_BP)]
        bases[:10_000] = ord("N")
        sequence = bases.tobytes().decode()
        lines.append(f">{contig}")
        lines += [sequence[start : start + 60] for start in range(0, CONTIG_BP, 60)]
    return "\n".join(lines) + "\n"


def _gtf(rng: np.random.Generator) -> str:
    rows = []
    for contig in CONTIGS:
        starts = np.sort(rng.integers(MARGIN_BP, CONTIG_BP - MARGIN_BP - 50_000, _GENES_PER_CONTIG))
        for i, start in enumerate(starts.tolist()):
            end = start + int(rng.integers(2_000, 50_000))
            strand = "+-"[int(rng.integers(2))]
            name = f"DEMO{contig[3:]}{i:02d}"
            notes = f'gene_id "{name}.1"; gene_type "protein_coding"; gene_name "{name}";'
            for feature, first, last in (("gene", start, end), ("exon", start, start + 300), ("exon", end - 500, end)):
                rows.append(f"{contig}\tdemo\t{feature}\t{first}\t{last}\t.\t{strand}\t.\t{notes}")
    return "\n".join(rows) + "\n"


def _bed(rng: np.random.Generator) -> str:
    rows = []
    for contig in CONTIGS:
        starts = np.sort(rng.integers(MARGIN_BP, CONTIG_BP - MARGIN_BP, _CCRES_PER_CONTIG))
        for i, start in enumerate(starts.tolist()):
            width = int(rng.integers(150, 350))
            label = CCRE_CLASSES[int(rng.integers(len(CCRE_CLASSES)))]
            rows.append(
                f"{contig}\t{start}\t{start + width}\tDEMOD{contig[3:]}{i:04d}\tDEMOE{contig[3:]}{i:04d}\t{label}"
            )
    return "\n".join(rows) + "\n"


def _targets() -> str:
    rows = ["index\tgenome\tidentifier\tfile\tclip\tscale\tsum_stat\tdescription"]
    for i, (assay, target, cell) in enumerate(_TRACKS):
        description = ":".join(part for part in (assay, target, cell) if part)
        rows.append(f"{i}\t0\tDEMO{i:03d}\t-\t32\t2\tmean\t{description}")
    return "\n".join(rows) + "\n"


def ask(path: Path, raw: float = 0.06) -> str:
    """Ask the demo's store one question, and show how it was asked."""
    import chorus_store

    with chorus_store.open(path) as store:
        track = str(store["track"].values[0])
        about = f"{store['assay'].values[0]} in {store['cell_type'].values[0]}"
        percentile = round(store.chorus.percentile(raw, track=track, cdf="effect"), 2)
    return (
        f">>> import chorus_store, xarray as xr\n"
        f">>> round(xr.open_zarr({str(path)!r}).chorus.percentile({raw}, track={track!r}, cdf='effect'), 2)\n"
        f"{percentile}\n"
        f"an effect of {raw} on {about} is larger than {percentile:.0%} of the random variants (demo: random weights)"
    )
