"""The real build on an accelerator: what the forward passes take, and what everything else takes beside them.

    python -m benchmarks.gpu_run --fasta chr20.fa --gtf genes.gtf --ccres ccres.bed --tracks targets.txt

Full-size Enformer with seeded random weights, whose arithmetic is that of the published ones. Every precision scores
some variants and positions through the whole pipeline; what a build does once is measured at
full size or in proportion. `benchmarks.gpu_checks` shows that the numbers are right.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

import chorus_store
from benchmarks.compaction import BLOCK, SLOTS, compact_perbin, write_facts
from benchmarks.measure import exit_code, verdict
from builders.batches import valid_positions
from builders.enformer import Enformer
from builders.enformer_torch import MODEL_LENGTH_BP, TorchEnformer
from builders.gather import CentralGather
from builders.merge import merge
from builders.options import parse_size
from builders.oracle import BinArray
from builders.pipeline import Build
from builders.score import Accounting
from builders.settings import Inputs, Settings
from builders.torch_runtime import PRECISIONS
from chorus_store.genome import Genome
from chorus_store.grid import compact_rows
from chorus_store.layout import Kind
from chorus_store.plan import PlanOptions
from chorus_store.publish import PublishOptions
from chorus_store.sequence import Codes, one_hot
from chorus_store.units import KINDS

#: A whole background: forward passes of the variants (two alleles each) and of the baseline positions.
FULL = {"variants": 20_000, "baselines": 31_500}
#: hg38 with its alternative contigs.
FULL_GENOME_BP = 3_209_286_105
TARGET_PERCENT = 5
N_TRACKS = Enformer.expected_tracks


@dataclass
class Once:
    """Seconds of what a whole build does once, however many sequences it scores."""

    starting: float
    preparing: float
    publishing: float
    compacting: float

    def __str__(self) -> str:
        return ", ".join(f"{name} {seconds:.1f} s" for name, seconds in vars(self).items())

    @property
    def total(self) -> float:
        return sum(vars(self).values())


def on_gpu(args: argparse.Namespace) -> bool:
    """Whether the device is a GPU; a processor serves to try the benchmark out."""
    return bool(args.device.startswith("cuda"))


def timed(action: Callable[[], object]) -> float:
    """Seconds of an action, the device's part included."""
    began = time.perf_counter()
    action()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began


def plan_options(args: argparse.Namespace, n_variants: int, n_positions: int) -> PlanOptions:
    """So many positions; most are random, because these annotations are of one chromosome."""
    classes = PlanOptions().ccre_counts
    counts = dict.fromkeys(classes, n_positions // 64 if args.ccres else 0)
    genes = n_positions // 16 if args.gtf else 0
    return PlanOptions(n_variants, n_positions - sum(counts.values()) - 2 * genes, counts, genes, genes)


def prepare(
    args: argparse.Namespace, folder: Path, precision: str, n_variants: int, n_positions: int, **settings: Any
) -> Build:
    """A build of so many variants and positions; more of its `Settings` by name."""
    asked = Settings(
        folder,
        demo=True,
        device=args.device,
        precision=precision,
        batch=args.batch,
        plan=plan_options(args, n_variants, n_positions),
        publish=PublishOptions(memory_bytes=args.memory, workers=args.workers),
        command=["benchmarks.gpu_run"],
        **settings,
    )
    oracle = Enformer(args.tracks, size=args.size)
    return Build(oracle, Inputs(args.fasta, args.gtf, args.ccres, args.tracks), asked)


def random_batch(size: int) -> tuple[Codes, BinArray]:
    """Random sequences, and the bins wanted of each."""
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 4, (size, Enformer.input_length_bp), dtype=np.uint8)
    return codes, np.stack([rng.choice(896, SLOTS, replace=False) for _ in range(size)]).astype(np.int32)


def model_alone(args: argparse.Namespace, backend: TorchEnformer, codes: Codes) -> float:
    """Median seconds of a forward pass whose input and output stay on the device."""
    flank = (codes.shape[1] - MODEL_LENGTH_BP) // 2
    with torch.inference_mode():
        sequence = torch.from_numpy(one_hot(codes[:, flank:-flank])).to(args.device)
        wanted = torch.arange(15 + SLOTS, device=args.device).repeat(len(codes), 1)  # the widest window and the slots
        return median_seconds(lambda: backend.predict(sequence, wanted), args.repeats)


def median_seconds(action: Callable[[], object], repeats: int) -> float:
    """Median of some runs, after two that do not count."""
    return statistics.median([timed(action) for _ in range(repeats + 2)][2:])


def batch_table(args: argparse.Namespace, precision: str) -> None:
    """Print the time of a sequence and the peak memory by batch size."""
    oracle = Enformer(args.tracks, size=args.size)
    backend = TorchEnformer(CentralGather.of(oracle, N_TRACKS), oracle.input_length_bp, args.size)
    backend.load(None, device=args.device, precision=precision, seed=0)
    for size in sorted({1, 4, 8, args.batch}):
        codes, bins = random_batch(size)
        if on_gpu(args):
            torch.cuda.reset_peak_memory_stats()
        alone = model_alone(args, backend, codes) / size
        facts = median_seconds(lambda c=codes, b=bins: backend.facts(c, b), args.repeats) / size
        peak = torch.cuda.max_memory_allocated() / 2**30 if on_gpu(args) else 0
        print(f"{precision:9}  {size:5}  {1e3 * alone:12.2f}  {1e3 * facts:12.2f}  {peak:8.1f}", flush=True)


@contextmanager
def forward_passes() -> Iterator[list[tuple[torch.cuda.Event, torch.cuda.Event]]]:
    """Beginning and end of every forward pass inside, marked on the device."""
    predict, passes = TorchEnformer.predict, []

    def marked(self: TorchEnformer, sequence: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        began.record()
        values = predict(self, sequence, wanted)
        ended.record()
        passes.append((began, ended))
        return values

    TorchEnformer.predict = marked  # type: ignore[method-assign]
    try:
        yield passes
    finally:
        TorchEnformer.predict = predict  # type: ignore[method-assign]


def scored(args: argparse.Namespace, build: Build, kind: Kind) -> tuple[Accounting, float]:
    """Score a kind; the second number is the seconds of its forward passes by the device's own clock."""
    if not on_gpu(args):
        spent = build.score(kind)
        return spent, spent.forward_s
    with forward_passes() as passes:
        spent = build.score(kind)
        return spent, sum(began.elapsed_time(ended) for began, ended in passes) / 1e3


def passed(build: Build, kind: Kind) -> int:
    """Sequences that go through the model: those of the plan, and the filling of the last batch of every unit."""
    alleles, batch = 2 if kind == "variants" else 1, build.settings.batch
    counts = (alleles * len(valid_positions(build.plan, unit)) for unit in build.store.units(kind))
    return sum(batch * math.ceil(count / batch) for count in counts)


def run_precision(args: argparse.Namespace, precision: str, folder: Path, once: Once) -> None:
    """Score, and set the time of a whole background against that of its forward passes."""
    n = args.n_variants, args.n_random
    if precision == "fp32":  # several times slower, and the easy case
        n = n[0] // 4, n[1] // 4
    build = prepare(args, folder / precision, precision, *n)
    print(f"{precision}, batches of {args.batch}; ms per sequence")
    everything = forward = 0.0
    for kind in KINDS:
        spent, on_device = scored(args, build, kind)
        ms = 1e3 / passed(build, kind)
        steady = ms * (spent.wall_s - spent.flushing_s)
        print(f"  {kind:9} {passed(build, kind):5} sequences, {spent.units} units: {steady:.2f} each (forward pass "
              f"{ms * on_device:.2f}, oracle {ms * spent.forward_s:.2f}, reading {ms * spent.reading_s:.2f}, placing "
              f"{ms * spent.reducing_s:.2f}, writing {ms * spent.writing_s:.2f}), last units {spent.flushing_s:.2f} s; "
              f"Accounting.overhead {100 * spent.overhead:.2f} %", flush=True)  # fmt: skip
        everything += FULL[kind] * steady / 1e3 + spent.flushing_s
        forward += FULL[kind] * ms * on_device / 1e3
    print(f"  a whole background: forward passes {forward / 60:.1f} min, scoring {everything / 60:.1f} min; {once}")
    for what, seconds in (("scoring", everything), ("everything", everything + once.total)):
        verdict(f"{precision}, {what} beside the forward passes", 100 * (seconds / forward - 1), TARGET_PERCENT, "%",
                at_least=False)  # fmt: skip


def measure_preparing(args: argparse.Namespace, folder: Path) -> float:
    """Seconds to plan a whole background and to load the model: reading and hashing grow with the genome."""
    preparing = timed(lambda: prepare(args, folder / "plan", "fp32", 10_000, 31_500))
    genome = Genome(args.fasta)
    reading = timed(lambda: [genome.sha256(), *map(genome.unknown_runs, genome.lengths)])
    return preparing + reading * (FULL_GENOME_BP / sum(genome.lengths.values()) - 1)


def measure_compaction(args: argparse.Namespace, folder: Path) -> float:
    """Seconds that a whole background's values add to compaction; writing the CDFs is part of publishing."""

    def seconds(positions: int) -> float:
        here = folder / f"compaction-{positions}"
        here.mkdir()
        return compact_perbin(write_facts(here / "facts.zarr", N_TRACKS, positions).path, args.memory, args.workers)

    few, many = seconds(BLOCK), seconds(args.positions)
    print(f"compacting {(args.positions - BLOCK) * SLOTS * N_TRACKS:,} values more takes {many - few:.1f} s more than "
          f"{few:.1f} s")  # fmt: skip
    return (many - few) * (FULL["baselines"] * SLOTS + sum(FULL.values())) / ((args.positions - BLOCK) * SLOTS)


def measure_publishing(args: argparse.Namespace, folder: Path) -> float:
    """Seconds to merge a small build of all tracks, whose CDFs and NPZ are of full size; asks it for a percentile."""
    build = prepare(args, folder / "merge", "tf32", 64, 64)
    for kind in KINDS:
        build.score(kind)
    seconds = timed(lambda: merge(build.path, build.oracle.name, build.settings))
    npz = build.settings.npz_path(build.oracle.name)
    track = str(build.oracle.tracks.track[0])
    with chorus_store.open(build.path) as store:
        percentile = float(store.chorus.percentile(0.01, track=track, cdf="effect"))
    print(f"merged {N_TRACKS:,} tracks; {npz.name}: {npz.stat().st_size / 2**20:.0f} MiB; an effect of "
          f"0.01 on {track} is at percentile {percentile:.4f} of 64 variants (random weights)")  # fmt: skip
    return seconds


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("fasta", "gtf", "ccres", "tracks"):
        options.add_argument(f"--{name}", type=Path, required=name in ("fasta", "tracks"))
    options.add_argument("--device", default="cuda:0")
    options.add_argument("--precision", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    options.add_argument("--size", choices=("full", "small"), default="full")
    options.add_argument("--batch", type=int, default=8)
    options.add_argument("--repeats", type=int, default=7, help="of every timed forward pass")
    options.add_argument("--n-variants", type=int, default=512, help="per precision; fp32 a quarter")
    options.add_argument("--n-random", type=int, default=1024, help="baseline positions, likewise")
    options.add_argument(
        "--positions", type=int, default=31_500, help="of the facts that are compacted (21 GB of disk)"
    )
    options.add_argument("--memory", type=parse_size, default=2**33)
    options.add_argument("--workers", type=int, default=os.cpu_count())
    options.add_argument("--out", type=Path, help="folder on the disk to measure")
    return options


def main() -> int:
    starting = time.time() - psutil.Process().create_time()
    args = parser().parse_args()
    name = torch.cuda.get_device_name(args.device) if on_gpu(args) else "processor"
    print(f"{name}; Python {platform.python_version()}, PyTorch {torch.__version__}; Enformer, {args.size} size")
    with tempfile.TemporaryDirectory(dir=args.out) as text:
        folder = Path(text)
        print("precision  batch  model ms/seq  facts ms/seq  peak GiB")
        for precision in args.precision:
            batch_table(args, precision)
        compact_rows(np.zeros((1, 2), np.float32))  # compiled once per installation, not once per run
        once = Once(
            starting=starting,
            preparing=measure_preparing(args, folder),
            publishing=measure_publishing(args, folder),
            compacting=measure_compaction(args, folder),
        )
        for precision in args.precision:
            run_precision(args, precision, folder, once)
    return exit_code()


if __name__ == "__main__":
    raise SystemExit(main())
