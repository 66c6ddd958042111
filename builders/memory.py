"""How much memory this process may still take: of the machine, of its container or job, and of its GPU."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil

from builders.devices import parts_of

#: By controller, as ``/proc/self/cgroup`` names it: folder, files of limit and use, and the part of use that is cache.
_CGROUPS = {
    "": ("", "memory.max", "memory.current", "inactive_file"),
    "memory": ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}


def available(membership: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes that are free on the machine, or less where a control group limits the process.

    Parameters
    ----------
    membership : Path
        Which control groups the process is in. A limit of any of them counts, or of any that holds one of them.
    root : Path
        Where control groups are mounted, of version 1 or 2.

    Returns
    -------
    int

    Examples
    --------
    >>> available() <= psutil.virtual_memory().total
    True
    """
    return min([psutil.virtual_memory().available, *_left_by_cgroups(membership, root)])


def _left_by_cgroups(membership: Path, root: Path) -> Iterator[int]:
    try:
        lines = membership.read_text().splitlines()
    except OSError:  # no Linux
        return
    for _, controller, place in (line.split(":", 2) for line in lines):
        if controller not in _CGROUPS:
            continue
        folder, *names = _CGROUPS[controller]
        top = root / folder
        group = top / place.lstrip("/")
        # A container sees its own group as the top, under the name that it has outside.
        for level in (group, *group.parents[: len(group.parts) - len(top.parts)]):
            left = _left(level, *names)
            if left is not None:
                yield left


def _left(group: Path, limit: str, use: str, cache: str) -> int | None:
    """What a control group leaves, counting what the system would give up; None where there is no limit."""
    try:
        most, used = (group / limit).read_text().strip(), int((group / use).read_text())
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return None
    return None if most == "max" else max(0, int(most) - used + int(stat.get(cache, 0)))


def free_on_gpu(device: str) -> int | None:
    """Free bytes of a GPU, as its driver says; None where that is not known.

    Parameters
    ----------
    device : str
        ``cuda:0``, …: numbered as CUDA does, which ``CUDA_VISIBLE_DEVICES`` may change.

    Examples
    --------
    >>> free_on_gpu("cpu") is None
    True
    """
    kind, index = parts_of(device)
    if kind != "cuda":
        return None
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    try:
        gpu = visible.split(",")[index].strip() if visible else str(index)
        query = ["nvidia-smi", f"--id={gpu}", "--query-gpu=memory.free", "--format=csv,noheader,nounits"]
        said = subprocess.run(query, capture_output=True, text=True, check=True, timeout=10).stdout
        return int(said) * 2**20
    except (OSError, ValueError, IndexError, subprocess.SubprocessError):
        return None
