"""Says what this machine has and what is missing, and how to get it."""

from __future__ import annotations

import argparse

from tautomer.cli.options import add_json
from tautomer.cli.output import Console

HELP = "say what is installed and what is missing"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the verb's arguments."""
    add_json(parser)


def run(options: argparse.Namespace, console: Console) -> int:
    """Prints the findings; fails when something is missing that every verb needs."""
    from tautomer.runtime.doctor import examine

    findings = examine()
    if options.json:
        console.json({"findings": [finding.as_json() for finding in findings]})
    else:
        rows = [(one.name, one.status, one.detail or one.remedy) for one in findings]
        console.table(("what", "status", "detail"), rows)
    return 3 if any(one.required and one.status != "ok" for one in findings) else 0
