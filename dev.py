"""Everything from a fresh checkout, with nothing but Python ≥ 3.11: makes ``.venv``, installs, runs.

python dev.py demo            the main job on the embedded demo: store, NPZ, a percentile
python dev.py test            linter, type checker, tests
python dev.py test --slow     the long tests too
python dev.py test -k plan    further arguments go to pytest
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
EXTRAS = {"demo": "enformer", "test": "enformer,enformer-tf,pcodec,plot,test"}

#: Model packages whose requirements exclude each other, TensorFlow or this Python; the extra test has what they import.
WITHOUT_DEPENDENCIES = ("alphagenome-pytorch", "borzoi-pytorch", "cispliceai")

#: Whole files of tests, because those of one share what is expensive to make.
SIDE_BY_SIDE = ("--numprocesses", "auto", "--maxprocesses", "4", "--dist", "loadfile")


def run(*arguments: str) -> None:
    """Run Python of the environment; its failure is ours."""
    code = subprocess.run([str(PYTHON), *arguments], cwd=ROOT, check=False).returncode
    if code:
        raise SystemExit(code)


def install(extras: str) -> None:
    """Make the environment, unless it is there already for these very requirements."""
    wanted = hashlib.sha256(b"".join((ROOT / name).read_bytes() for name in ("pyproject.toml", "constraints.txt")))
    stamp = VENV / f"installed-{extras}-{wanted.hexdigest()[:16]}"
    if stamp.exists():
        return
    print(f"setting up {VENV.name} (once, some minutes)", flush=True)
    if not PYTHON.exists():
        venv.create(VENV, with_pip=True)
    pip = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--constraint", "constraints.txt")
    run(*pip, "torch")  # first and alone: what the constraint names, not what another package would pull in
    run(*pip, "--editable", f".[{extras}]")
    if "test" in extras:
        run(*pip, "--no-deps", "--ignore-requires-python", *WITHOUT_DEPENDENCIES)
    stamp.touch()


def main(arguments: list[str]) -> None:
    """Install what the command needs, then run it."""
    if sys.version_info < (3, 11):  # noqa: UP036 - said here rather than by pip, minutes later
        raise SystemExit("chorus-store needs Python 3.11 or newer")
    if not arguments or arguments[0] not in EXTRAS:
        raise SystemExit(__doc__)
    command, rest = arguments[0], arguments[1:]
    install(EXTRAS[command])
    if command == "demo":
        run("-m", "builders.enformer", "--demo", "--out", "demo", *rest)
        return
    run("-m", "ruff", "check", ".")
    run("-m", "ruff", "format", "--check", ".")
    run("-m", "mypy")
    if "--slow" in rest:
        rest.remove("--slow")
    else:
        rest = ["-m", "not slow", *rest]
    run("-m", "pytest", *SIDE_BY_SIDE, *rest)


if __name__ == "__main__":
    main(sys.argv[1:])
