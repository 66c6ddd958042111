"""``python -m builders`` lists the oracles."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

import chorus_store
from builders import ORACLES, load_oracle
from chorus_store import console


def _main(argv: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m builders",
        description="List the oracles whose backgrounds can be built.",
        epilog="example:\n  python -m builders.enformer --help",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"chorus-store {chorus_store.__version__}")
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args(argv)
    rows = []
    for name in ORACLES:
        oracle = load_oracle(name)
        rows.append({"name": name, "title": oracle.title, "tracks": oracle.expected_tracks, "licence": oracle.licence})
    if args.json:
        print(json.dumps(rows, indent=2))
        return
    for row in rows:
        print(f"{row['name']:<12} {row['tracks']:>7,} tracks  {row['title']}  ({row['licence']})")
        print(f"{'':<12} python -m builders.{row['name']} --help")


if __name__ == "__main__":
    raise SystemExit(console.run(_main))
