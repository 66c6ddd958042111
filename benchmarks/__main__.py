"""All benchmarks that need no accelerator, one after the other, and their verdicts together at the end.

    python -m benchmarks            full size: 22 GB of disk
    python -m benchmarks --quick    small sizes, in about two minutes; what a run does once weighs more in them
    python -m benchmarks --list     what each one shows

The exit code is 1 if a target was missed or a benchmark failed. Some need their inputs named: the build on an
accelerator, ``benchmarks.gpu_run`` and ``benchmarks.gpu_checks``, and real splice sites, ``benchmarks.splice_sites``.
"""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys

from benchmarks.measure import MET, MISSED

#: Arguments of a quick run.
QUICK = {
    "scoring": "--units 4",
    "compaction": "--tracks 128 --memory 256M",
    "npz_export": "--tracks 1500 --repeats 1",
    "store_size": "--tracks 24",
    "asking": "--tracks 1024 --repeats 3",
    "lookups": "--tracks 1500",
    "enformer_backends": "--size small",
}


def shows(name: str) -> str:
    """What a benchmark is for: the first line of its docstring."""
    return str(importlib.import_module(f"benchmarks.{name}").__doc__).splitlines()[0]


def run(name: str, arguments: str = "") -> list[str]:
    """Run a benchmark in a process of its own, showing what it prints.

    Returns
    -------
    list of str
        Its verdicts, and one more if it failed.
    """
    print(f"\n{name} {arguments}".rstrip(), flush=True)
    command = [sys.executable, "-u", "-m", f"benchmarks.{name}", *arguments.split()]
    verdicts = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            if line.startswith((MET, MISSED)):
                verdicts.append(line.rstrip())
    if process.returncode != any(line.startswith(MISSED) for line in verdicts):
        verdicts.append(f"FAIL exit code {process.returncode}")
    return verdicts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes")
    parser.add_argument("--list", action="store_true", help="say what each one shows, and run none")
    args = parser.parse_args()
    if args.list:
        print("\n".join(f"{name:18} {shows(name)}" for name in QUICK))
        return 0
    verdicts = {name: run(name, QUICK[name] if args.quick else "") for name in QUICK}
    print("\nsummary")
    for name, lines in verdicts.items():
        for line in lines:
            print(f"{line[:4]} {name}: {line[5:]}")
    return int(not all(line.startswith(MET) for lines in verdicts.values() for line in lines))


if __name__ == "__main__":
    raise SystemExit(main())
