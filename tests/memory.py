"""Peak memory of a piece of code in a process of its own (Linux)."""

from __future__ import annotations

import os
import subprocess
import sys

_MEASURE = """
import sys
from pathlib import Path

def peak():  # unlike ru_maxrss, not inherited from the parent process
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024

code, *arguments = sys.argv[1:]
imports, _, body = code.partition(";")
exec(imports)
before = peak()
exec(body.strip())
print(peak() - before)
"""


def peak_growth(code: str, *arguments: object) -> int:
    """Bytes by which ``code`` raises the peak memory that its imports (up to the first ``;``) have reached.

    ``code`` finds the other arguments, as text, in the list ``arguments``. What is freed goes back to the system, as
    in a worker of Dask: the tens of MB that the C library would keep for later belong to no budget.
    """
    command = [sys.executable, "-c", _MEASURE, code, *map(str, arguments)]
    environment = {**os.environ, "MALLOC_TRIM_THRESHOLD_": "65536"}
    return int(subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout)
