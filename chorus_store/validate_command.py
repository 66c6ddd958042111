"""``python -m chorus_store validate``: the report of `chorus_store.validation` for people and for programs."""

from __future__ import annotations

import argparse
import sys

from chorus_store import console, validation
from chorus_store.checks.findings import Finding, Report


def command(arguments: argparse.Namespace) -> int:
    """Print the report; `console.EXIT_FINDINGS` where something is wrong."""
    report = validation.validate(arguments.store, deep=arguments.deep, npz=arguments.npz)
    if arguments.json:
        console.print_json(report.to_json())
    else:
        print(render(report))
    return console.EXIT_OK if report.ok else console.EXIT_FINDINGS


def render(report: Report) -> str:
    """The report as text: a line for every check that was made, then every finding with its repair."""
    marks = _marks()
    width = max(len(check.name) for check in report.checks)
    lines = [report.path]
    lines += [
        f"{marks[check.state]} {check.name:<{width}}  {check.title}"
        for check in report.checks
        if check.state != "skipped"
    ]
    for finding in report.findings:
        lines += ["", *_lines(finding)]
    errors = sum(finding.severity == "error" for finding in report.findings)
    warnings = len(report.findings) - errors
    counted = f"{errors} {'error' if errors == 1 else 'errors'}" + (f", {warnings} warnings" if warnings else "")
    return "\n".join([*lines, "", "valid" + (f", {warnings} warnings" if warnings else "") if report.ok else counted])


def _lines(finding: Finding) -> list[str]:
    return [f"{finding.severity} ({finding.check}): {finding}", f"  repair: {finding.repair}"]


def _marks() -> dict[str, str]:
    """Signs of a check's outcome, as far as the console has them."""
    try:
        "✓✗".encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return {"passed": "ok  ", "failed": "FAIL"}
    return {"passed": "✓", "failed": "✗"}
