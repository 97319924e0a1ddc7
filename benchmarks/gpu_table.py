"""benchmarks/results/gpu.md: the tables of what `benchmarks.gpu` wrote as JSON on a machine with a GPU.

python -m benchmarks.gpu_table gpu.json [--out benchmarks/results/gpu.md]
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.gpu_bars import bars
from benchmarks.gpu_case import OURS
from benchmarks.markdown import table

TITLES = {
    "norms": "Norms and activations",
    "softmax": "Softmax",
    "softmax-long": "Softmax of long rows, by every way to do them",
    "attention": "Attention",
    "sparse": "Sparse linear maps",
    "models": "Models",
}
TEXT = """# Triton kernels on a GPU

{device}, torch {torch}, triton {triton}, Python {python}. A copy from device to device moves {copy:.2f} TB/s,
read and written; a product of 8192 x 8192 bfloat16 matrices runs at {matrix:.0f} TFLOP/s: the two ceilings,
of the same run. The columns of the others are their time in times of ours, above 1 where ours is faster; bold
where ours is slower. {checks} checks against float64 or float32 came first; {failed}.

"""


def main(arguments: list[str] | None = None) -> int:
    """Writes the page."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu_table", description=__doc__.splitlines()[0]
    )
    parser.add_argument("results", type=Path)
    parser.add_argument("--out", type=Path, help="a file (default: to the terminal)")
    options = parser.parse_args(arguments)
    text = page(json.loads(options.results.read_text()))
    if options.out:
        options.out.write_text(text)
    else:
        print(text, end="")
    return 0


def page(results: dict[str, Any]) -> str:
    """The text of the page, from what the benchmark wrote."""
    failed = [one["name"] for one in results["checks"] if one.get("failed")]
    ceilings = results["ceilings"]
    parts = [
        TEXT.format(
            **results["facts"],
            copy=ceilings["copy"] / 1e12,
            matrix=ceilings["matrix"] / 1e12,
            checks=len(results["checks"]),
            failed=f"{len(failed)} failed: {', '.join(failed)}" if failed else "none failed",
        )
    ]
    parts.append(f"## What was to be reached\n\n{bars(results)}\n")
    for section, title in TITLES.items():
        cases = [one for one in results["cases"] if one.get("section") == section]
        rows = [one for one in cases if OURS in one.get("times", {})]
        if rows:
            parts.append(f"## {title}\n\n{_section(rows, ceilings)}\n")
        ways = [one for one in cases if one.get("times") and OURS not in one["times"]]
        if ways:
            parts.append(f"## {title}\n\n{_ways(ways, ceilings)}\n")
        left = sum(one.get("left out", 0) for one in cases)
        if left:
            parts.append(f"There was no time for {left} more.\n")
    return "\n".join(parts)


def _ways(rows: list[dict[str, Any]], ceilings: dict[str, float]) -> str:
    """Each way of each size, the fastest first."""
    cells = []
    for row in rows:
        measured = [time for time in row["times"].values() if isinstance(time, float)]
        fastest = row.get("copy", 0.0) * min(measured, default=0.0)
        for way, time in sorted(row["times"].items(), key=lambda one: (isinstance(one[1], str), one[1])):
            known = isinstance(time, float)
            share = f"{100 * fastest / time:.0f} % of the copy" if known and fastest else ""
            cells.append([row["size"], way, f"{1e6 * time:.1f} us" if known else time, share])
    return table(["size", "way", "took", "of the ceiling"], cells)


def _section(rows: list[dict[str, Any]], ceilings: dict[str, float]) -> str:
    peers = list(dict.fromkeys(name for row in rows for name in row["times"] if name != OURS))
    head = ["", "size", "ours", "of the ceiling", *peers]
    return table(head, [[row["name"], row["size"], *_cells(row, ceilings, peers)] for row in rows])


def _cells(row: dict[str, Any], ceilings: dict[str, float], peers: list[str]) -> list[str]:
    time = row["times"][OURS]
    if not isinstance(time, float):
        return [str(time), "", *("" for _ in peers)]
    took = f"{1e6 * time:.1f} us" if time < 1e-2 else f"{1e3 * time:.1f} ms"
    ceiling = ""
    if "copy" in row:
        ceiling = f"{100 * row['copy']:.0f} % of the copy"
    if "matrix" in row:
        rate = row["matrix"] * ceilings["matrix"] / 1e12
        ceiling = f"{100 * row['matrix']:.0f} %, {rate:.0f} TFLOP/s"
    return [took, ceiling, *(_ratio(row, name) for name in peers)]


def _ratio(row: dict[str, Any], name: str) -> str:
    if name in row.get("ratios", {}):
        ratio = row["ratios"][name]
        return f"{ratio:.2f}" if ratio >= 0.995 else f"**{ratio:.2f}**"
    return "failed" if name in row["times"] else ""


if __name__ == "__main__":
    sys.exit(main())
