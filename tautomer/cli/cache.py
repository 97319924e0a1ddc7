"""Shows the native kernels that are kept on this machine, and those that were rejected; removes them."""

from __future__ import annotations

import argparse

from tautomer.cli.options import add_json
from tautomer.cli.output import Console, one_line, size

HELP = "show or clear the native kernels that are kept on this machine"
EXAMPLES = ("cache", "cache --clear")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the verb's arguments."""
    parser.add_argument("--clear", action="store_true", help="remove them all; what is needed is built again")
    add_json(parser)


def run(options: argparse.Namespace, console: Console) -> int:
    """Prints what lies in the cache, or what was removed."""
    from tautomer.runtime.cache_contents import clear, contents

    found = contents()
    if options.clear:
        removed = clear()
        if options.json:
            console.json({"folder": str(found.folder), "removed": removed, "bytes": found.size})
        else:
            noun = "entry" if removed == 1 else "entries"
            console.result(f"removed {removed} {noun}, {size(found.size)}, from {found.folder}")
        return 0
    if options.json:
        document = {
            "folder": str(found.folder),
            "bytes": found.size,
            "kernels": [{"key": one.key, "bytes": one.size} for one in found.entries if one.state == "ready"],
            "rejected": [
                {"key": one.key, "reason": one.reason} for one in found.entries if one.state == "rejected"
            ],
            "damaged": [
                {"key": one.key, "reason": one.reason} for one in found.entries if one.state == "damaged"
            ],
            "unfinished": found.unfinished,
            "problem": found.problem or None,
        }
        console.json(document)
        return 0
    states = [one.state for one in found.entries]
    rows = [("folder", str(found.folder)), ("size", size(found.size))]
    rows += [(state, str(states.count(state))) for state in ("ready", "rejected", "damaged")]
    rows += [("unfinished", str(found.unfinished))]
    console.table(("kernels", ""), rows)
    if set(states) - {"ready"}:
        console.result()
        bad = [(one.key[:12], one.state, one.reason) for one in found.entries if one.reason]
        console.table(("kernel", "state", "reason"), bad)
    if found.problem:
        console.result()
        console.result(one_line(f"this folder is not used: {found.problem}; {found.remedy}"))
    return 0
