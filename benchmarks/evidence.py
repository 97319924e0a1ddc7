"""What the evidence is worth: planted mistakes, other optimizers' output, pairs of exports, large models.

    python -m benchmarks.evidence [--only mutants|peers|pairs|large] [--exports DIR] [--write]

Writes the tables of docs/evidence.md; a part that is measured alone takes the place of that part only. What
stands before them is written by hand.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks import evidence_mutants, evidence_pairs, evidence_peers
from benchmarks.machine import describe

PARTS = ("mutants", "peers", "pairs", "large")
RESULTS = Path(__file__).parent.parent / "docs" / "evidence.md"
_PACKAGES = (
    *("tautomer", "numpy", "python-flint", "onnx", "onnxruntime", "onnxscript", "onnxslim", "onnxsim"),
    *("torch", "transformers"),
)


def measured(part: str, folder: Path, exported: Path) -> str:
    """One part of the page."""
    lines = {
        "mutants": lambda: evidence_mutants.section(),
        "peers": lambda: evidence_peers.section(folder, exported),
        "pairs": lambda: evidence_pairs.pairs(exported),
        "large": lambda: evidence_pairs.large(folder),
    }[part]()
    return "\n".join([*lines, describe(_PACKAGES)]) + "\n"


def merged(page: str, found: dict[str, str]) -> str:
    """The page with the parts that were measured; the others stay, and what is before them."""
    marked = {part: f"<!-- {part} -->\n" for part in PARTS}
    for part, mark in marked.items():
        if mark in page and part not in found:
            text = page.split(mark, 1)[1]
            found[part] = text.split("<!-- ", 1)[0].rstrip() + "\n"
    head = page.split("<!-- ", 1)[0].rstrip() + "\n"
    return "\n".join([head, *(marked[part] + found[part] for part in PARTS if part in found)])


def main(arguments: list[str] | None = None) -> int:
    """Measures and prints; with --write also writes the page."""
    parser = argparse.ArgumentParser(prog="benchmarks.evidence", description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=PARTS, help="one part")
    parser.add_argument("--exports", type=Path, default=Path(tempfile.gettempdir()) / "exports")
    parser.add_argument("--write", action="store_true", help=f"also write docs/{RESULTS.name}")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="tautomer-evidence-") as folder:
        parts = [options.only] if options.only else PARTS
        found = {part: measured(part, Path(folder), options.exports) for part in parts}
    page = merged(RESULTS.read_text() if RESULTS.exists() else "", found)
    print(page)
    if options.write:
        RESULTS.write_text(page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
