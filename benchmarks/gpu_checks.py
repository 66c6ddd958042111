"""Are the numbers right on an accelerator? Conformance, agreement with the processor, and the same bytes however split.

    python -m benchmarks.gpu_checks --fasta chr20.fa --gtf genes.gtf --ccres ccres.bed --tracks targets.txt

Takes the options of `benchmarks.gpu_run`.
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
import warnings
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.gpu_run import on_gpu, parser, prepare, random_batch
from benchmarks.measure import MET, MISSED
from builders import conformance
from builders.enformer import Enformer
from builders.oracle import Reduced
from chorus_store import layout
from chorus_store.units import KINDS

LAYERS = {"chromatin_accessibility": 684, "tf_binding": 2101, "histone_marks": 1890, "tss_activity": 638}
#: Largest relative difference from the processor's float32, as the norm of the difference over the norm.
TOLERANCE = {"fp32": 1e-5, "tf32": 1e-3, "bf16": 1e-2}
N_VARIANTS, N_POSITIONS, BLOCK, SHARDS = 32, 64, 8, 2


def say(ok: bool, text: str) -> bool:
    print(MET if ok else MISSED, text, flush=True)
    return ok


def loaded(args: argparse.Namespace, device: str, precision: str) -> Enformer:
    oracle = Enformer(args.tracks, size=args.size)
    oracle.load(None, device=device, precision=precision)
    return oracle


def conforms(args: argparse.Namespace) -> bool:
    findings = conformance.check(loaded(args, args.device, "fp32"), LAYERS)
    return say(not findings, f"conformance in fp32: {'; '.join(findings) or 'no findings'}")


def agrees(args: argparse.Namespace) -> bool:
    """Facts of one sequence against the processor's, which computes in float32."""
    codes, bins = random_batch(1)
    expected = loaded(args, "cpu", "fp32").reduce(codes, {128: bins})
    results = []
    for precision in args.precision:
        found = loaded(args, args.device, precision).reduce(codes, {128: bins})
        errors = relative(found, expected)
        text = ", ".join(f"{what} {error:.1e}" for what, error in errors.items())
        worst, limit = max(errors.values()), TOLERANCE[precision]
        results.append(say(worst <= limit, f"{precision} differs from the processor's fp32 by {text} (≤ {limit:.0e})"))
    return all(results)


def relative(found: Reduced, expected: Reduced) -> dict[str, float]:
    def error(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> float:
        return float(np.linalg.norm(a - b) / np.linalg.norm(b))

    assert found.bins is not None and expected.bins is not None
    return {"window sums": error(found.statistics, expected.statistics), "bins": error(found.bins, expected.bins)}


def launches_ahead(args: argparse.Namespace) -> bool:
    """A forward pass that waited for the device half-way would leave it idle whenever this process is busy."""
    oracle = loaded(args, args.device, "fp32")
    codes, bins = random_batch(1)
    oracle.reduce(codes, {128: bins})
    torch.cuda.set_sync_debug_mode("warn")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        oracle.reduce(codes, {128: bins})
    torch.cuda.set_sync_debug_mode("default")
    waits = sum("synchroniz" in str(warning.message) for warning in caught)
    return say(waits <= 4, f"a batch waits for the device {waits} times (sequences and bins in, sums and bins out)")


def gpus(args: argparse.Namespace) -> int:
    """GPUs that the shards are spread over; 0 on a processor."""
    return torch.cuda.device_count() if on_gpu(args) else 0


def score_shard(args: argparse.Namespace, precision: str, folder: Path, number: int, shards: int) -> Path:
    """Score what is missing of one shard of a small build, on a GPU of its own where there are several."""
    if gpus(args) > 1:
        args = argparse.Namespace(**{**vars(args), "device": f"cuda:{(number - 1) % gpus(args)}"})
    build = prepare(args, folder, precision, N_VARIANTS, N_POSITIONS, block=BLOCK, shard=(number, shards))
    for kind in KINDS:
        build.score(kind)
    return build.path


def same_bytes(args: argparse.Namespace, precision: str, folder: Path) -> bool:
    """One process, the same again, and shards scored by processes at once, on all GPUs."""
    path = score_shard(args, precision, folder / "one", 1, 1)
    facts = facts_of(path)
    for record in sorted((path / layout.PROGRESS).glob("*/0*/zarr.json"))[::3]:
        record.unlink()
    score_shard(args, precision, folder / "one", 1, 1)
    again = facts == facts_of(path)
    if on_gpu(args):
        torch.cuda.empty_cache()  # the shards need the memory
    with ProcessPoolExecutor(SHARDS, mp_context=get_context("spawn")) as pool:
        shards = [pool.submit(score_shard, args, precision, folder / "shards", k + 1, SHARDS) for k in range(SHARDS)]
        (split,) = {shard.result() for shard in shards}
    return all(
        [
            say(again, f"{precision}: every third unit scored again, {len(facts)} files the same"),
            say(facts == facts_of(split), f"{precision}: {SHARDS} shards at once on {gpus(args)} GPUs, the same files"),
        ]
    )


def facts_of(store: Path) -> dict[str, str]:
    """SHA-256 of every file of facts."""
    folder = store / layout.SAMPLES
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def main() -> int:
    args = parser().parse_args()
    results = [conforms(args), agrees(args)]
    if on_gpu(args):
        results.append(launches_ahead(args))
    for precision in args.precision:
        with tempfile.TemporaryDirectory(dir=args.out) as folder:
            results.append(same_bytes(args, precision, Path(folder)))
    return 0 if all(results) else 1


if __name__ == "__main__":
    raise SystemExit(main())
