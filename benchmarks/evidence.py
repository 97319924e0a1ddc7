"""What the evidence is worth: planted mistakes, other optimizers' output, pairs of exports, large models.

    python -m benchmarks.evidence [--only mutants|peers|pairs|large] [--exports DIR] [--write]

Writes docs/evidence.md; a part that is measured alone takes the place of that part only.
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
_HEAD = """\
# What the evidence is worth

Written by `python -m benchmarks.evidence --write`.

## Constants that another tool folded

Who folds a batch norm into a convolution, or a gain into the weights behind it, stores rounded numbers: in
exact arithmetic that is another function, by about 1e-8 of its size. A model of Tautomer's own brings the
expressions in its certificate. For any other, a difference is put down to rounding when

    delta <= 4 kappa        in every row of every output, on made inputs and on rows of every class

where delta is the difference of the two models in float64, and kappa the largest change of either when the
constants that it does not share with the other are moved by half an ulp of their type, up or down at random.
Correct folds stay below 1 rounded once and below 2 in float32 step by step. The verdict is then EQUAL "up to
the rounding of N constants", with the worst ratio, and random weights are not done. Where kappa is below the
noise of float64, ball arithmetic decides; where it is above 1/16 of the outputs, the verdict is NOT VERIFIED;
and a model that holds no number that the original lacks has rounded nothing, so any difference is DIFFERENT.

Of the 130 mutants below with their constants folded, it takes for rounding none of the random regime, three
of the massive (epsilons, which move the outputs by 1e-13 beside channels of 3000) and none of the plain one,
apart from those that compute the same numbers with the stored weights. What it cannot see:

- what moves the outputs less than rounding does: in these models a gain off by 3e-7 passes and one off by
  1e-6 does not; of one element among thousands, an error of 100 ulps passes and one of 1000 does not;
- what shows for other weights only, such as a dropped bias of 0;
- the rounding of numbers in attributes (a scale folded into alpha): these are not moved, so that a difference
  which comes from them alone is still DIFFERENT.
"""


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
    """The page with the parts that were measured; the others stay."""
    marked = {part: f"<!-- {part} -->\n" for part in PARTS}
    for part, mark in marked.items():
        if mark in page and part not in found:
            text = page.split(mark, 1)[1]
            found[part] = text.split("<!-- ", 1)[0].rstrip() + "\n"
    return "\n".join([_HEAD, *(marked[part] + found[part] for part in PARTS if part in found)])


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
