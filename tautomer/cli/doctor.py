"""Says what this machine has and what is missing, and how to get it."""

from __future__ import annotations

import argparse

from tautomer.cli.options import add_json
from tautomer.cli.output import Console

HELP = "say what is installed, what is missing and what the machine is"
EXAMPLES = ("doctor", "doctor --measure")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the verb's arguments."""
    parser.add_argument(
        "--measure",
        action="store_true",
        help="measure memory and arithmetic, which takes two seconds; the result is kept",
    )
    add_json(parser)


def run(options: argparse.Namespace, console: Console) -> int:
    """Prints the findings; fails when something is missing that every verb needs."""
    from tautomer.runtime.doctor import examine
    from tautomer.runtime.machine import this_machine
    from tautomer.runtime.machine_speed import measured, recalled

    machine = this_machine()
    if options.measure:
        console.progress("measuring")
    machine = measured(machine, again=True) if options.measure else recalled(machine)
    findings = examine(machine)
    if options.json:
        document = {"findings": [finding.as_json() for finding in findings], "machine": machine.as_json()}
        console.json(document)
    else:
        rows = [(one.name, one.status, one.detail or one.remedy) for one in findings]
        console.table(("what", "status", "detail"), rows)
    return 3 if any(one.required and one.status != "ok" for one in findings) else 0
