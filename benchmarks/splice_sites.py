"""Where do annotated splice sites rank among the background's positions, and where do random positions?

    python -m benchmarks.splice_sites --fasta chr20.fa --gtf genes.gtf --store cispliceai.zarr

A site is ranked on its own track (acceptor or donor of its strand), random positions on all four. What is ranked is
what the background was made of: the sum of the probabilities over 501 bp, here around the site.
"""

from __future__ import annotations

import argparse
import gzip
import re
from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import xarray as xr

import chorus_store
from builders import resources
from builders.cispliceai import CISpliceAI
from builders.devices import default_device
from builders.oracle import Oracle
from chorus_store.genome import Genome

_TRANSCRIPT = re.compile(r'\btranscript_id "?([^";]+)')


class Sites(NamedTuple):
    """Positions (1-based), and the track on which each is a site."""

    chrom: npt.NDArray[np.str_]
    pos: npt.NDArray[np.int64]
    track: npt.NDArray[np.str_]


def annotated_sites(gtf: Path, chroms: set[str]) -> Sites:
    """Acceptors (first bases of exons) and donors (last bases) of all introns, each once."""
    exons = defaultdict(list)
    with gzip.open(gtf, "rt") if gtf.suffix == ".gz" else gtf.open() as file:
        for line in file:
            fields = line.rstrip("\n").split("\t")
            if len(fields) == 9 and fields[2] == "exon" and fields[0] in chroms:
                transcript = _TRANSCRIPT.search(fields[8])
                if transcript:
                    exons[fields[0], fields[6], transcript[1]].append((int(fields[3]), int(fields[4])))
    sites = set()
    for (chrom, strand, _), blocks in exons.items():
        blocks.sort()
        for (_, before), (after, _) in pairwise(blocks):
            donor, acceptor = (before, after) if strand == "+" else (after, before)
            sites |= {(chrom, donor, f"donor:{strand}"), (chrom, acceptor, f"acceptor:{strand}")}
    return Sites(*(np.array(column) for column in zip(*sorted(sites), strict=True)))


def random_sites(sites: Sites, genome: Genome, n: int, seed: int) -> Sites:
    """Positions of the same chromosomes, every one on some track in turn, whose surroundings are known."""
    rng = np.random.default_rng(seed)
    chroms = rng.choice(np.unique(sites.chrom), 3 * n)
    pos = np.array([rng.integers(10_000, genome.lengths[chrom] - 10_000) for chrom in chroms.tolist()])
    known = [genome.unknown_fraction(chrom, [at - 5_500], [at + 5_500])[0] == 0 for chrom, at in zip(chroms, pos)]  # noqa: B905
    rows = np.flatnonzero(known)[:n]
    return Sites(chroms[rows], pos[rows], np.resize(np.unique(sites.track), len(rows)))


def activities(oracle: Oracle, genome: Genome, sites: Sites, batch: int) -> Iterator[npt.NDArray[np.float32]]:
    """Window sums of all tracks around every site, batch by batch."""
    half = oracle.input_length_bp // 2
    for first in range(0, len(sites.pos), batch):
        part = range(first, min(first + batch, len(sites.pos)))
        starts = [(str(sites.chrom[i]), int(sites.pos[i]) - half) for i in part]
        codes = [genome.fetch(chrom, start, start + oracle.input_length_bp) for chrom, start in starts]
        yield oracle.reduce(np.stack(codes)).statistics


def percentiles(
    oracle: Oracle, genome: Genome, store: xr.Dataset, sites: Sites, batch: int = 4
) -> npt.NDArray[np.float64]:
    """Activity percentile of every site on its own track."""
    values = np.concatenate(list(activities(oracle, genome, sites, batch)))
    rows = {track: i for i, track in enumerate(oracle.tracks.track.tolist())}
    own = values[np.arange(len(values)), [rows[track] for track in sites.track.tolist()]]
    answers = [store.chorus.activity_percentile(x, track=t) for x, t in zip(own.tolist(), sites.track.tolist())]  # noqa: B905
    return np.array(answers, np.float64)


def _report(what: str, track: str, found: npt.NDArray[np.float64]) -> str:
    low, middle, high = np.quantile(found, [0.1, 0.5, 0.9])
    above = (found > 0.95).mean()
    return f"{what:<10} {track:<11} {len(found):>6,}  {low:6.3f} {middle:6.3f} {high:6.3f}  {above:6.1%}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option in ("--fasta", "--gtf", "--store"):
        parser.add_argument(option, type=Path, required=True)
    parser.add_argument("--weights", type=Path, help="CI-SpliceAI.pb, where the package is not installed")
    parser.add_argument("--sites", type=int, default=1000, help="annotated sites and random positions, of each")
    parser.add_argument("--device", default=default_device())
    parser.add_argument("--batch", type=int, default=4)
    args = parser.parse_args()
    oracle = CISpliceAI()
    weights = resources.resolve({"weights": "cispliceai"}, {"weights": args.weights})["weights"]
    oracle.load(weights, device=args.device)
    with Genome(args.fasta) as genome, chorus_store.open(args.store) as store:
        sites = annotated_sites(args.gtf, set(genome.lengths))
        chosen = np.random.default_rng(0).permutation(len(sites.pos))[: args.sites]
        annotated = Sites(*(column[chosen] for column in sites))
        print(f"{'positions':<10} {'track':<11} {'n':>6}  {'10 %':>6} {'median':>6} {'90 %':>6}  above 0.95")
        for what, group in (
            ("annotated", annotated),
            ("random", random_sites(sites, genome, args.sites, seed=1)),
        ):
            found = percentiles(oracle, genome, store, group, args.batch)
            for track in oracle.tracks.track.tolist():
                print(_report(what, track, found[group.track == track]))


if __name__ == "__main__":
    main()
