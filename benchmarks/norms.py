"""What the form of a norm is worth in onnxruntime: pre-norm transformers, one thread.

    python -m benchmarks.norms [--quick] [--only narrow|gpt2] [--tokens N] [--width N] [--out FILE]

Every way to run a model is checked against the original without the runtime's optimizations, then timed:
CPU time, all ways in turns, medians of ratios within a round, outputs allocated once.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from benchmarks import markdown
from benchmarks.machine import describe
from benchmarks.norm_kernels import SHAPES, table
from benchmarks.norm_models import AS_IS, AUTO, LAYERS, ORIGINAL, SKIP_FUSION, VARIANTS, exported
from benchmarks.norm_rows import NORMS, Row, made, measure
from benchmarks.timing import with_allocator

WIDTHS, SEQUENCES, OPSETS = (256, 768, 1024), (128, 1024), (18, 23)
TEXT = """# What the form of a norm is worth

Models of {layers} layers, batch 1, onnxruntime at ORT_ENABLE_ALL on one thread. `narrow` is a residual stream
with LayerNorm, d to d/8, ReLU, d/8 to d in each half layer; `gpt2` is transformers' GPT-2 with a vocabulary
of 100. Original: the export. No skip fusion: the export without the runtime's {fusion}.
ort-transformers: the runtime's own Python optimizer. ln, auto, rms: `optimize(norm=...)`.

## Time in times of auto

Above 1: slower than auto. In parentheses: the quartiles of the ratio over the rounds. Where rms runs the same
operators as auto, its ratio shows what the measurement is good for.

{whole}

## What of it is the norms

Gains in percent of the original's time: auto against it; of that, auto against ln, and ln against the
original. Then the time in norms and in every Add, Sum, Sub and ReduceMean, which is where a converted norm
leaves its bias and its mean (wall time, the shortest of each node, added up).

{part}

## What runs

Distance: the largest difference from the original run without optimizations, in parts of the largest output.

{ops}

## One operation

{kernels}

{facts}"""


def measured(kind: str, width: int, opset: int, tokens: Sequence[int], rounds: int, cache: Path) -> list[Row]:
    """The rows of one model, one for each sequence length."""
    source, family = exported(kind, width, opset, cache)
    rows = []
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        ways = made(source, Path(scratch))
        for sequence in tokens:
            print(f"{source.stem}, {sequence} tokens", file=sys.stderr, flush=True)
            row = Row(f"{kind}, opset {opset}", width, sequence, ways)
            measure(row, family.sample({"batch": 1, "sequence": sequence}, seed=3), rounds, Path(scratch))
            if row.ratios:
                rows.append(row)
            else:
                print(*(f"{way.variant.name}: {way.text}" for way in ways if way.failed), sep="\n")
            print(whole(rows)[-1], file=sys.stderr, flush=True)
    return rows


def _name(row: Row) -> list[str]:
    return [row.model, str(row.width), str(row.sequence)]


def whole(rows: list[Row]) -> list[str]:
    """The time of every way, in times of ours; beside it the quartiles over the rounds."""

    def cell(row: Row, name: str) -> str:
        if name in row.ratios:
            middle, low, high = row.ratios[name]
            return f"{middle:.3f} ({low:.2f}-{high:.2f})"
        return f"off by {row.distance[name]:.0e}" if name in row.distance else "failed"

    names = [variant.name for variant in VARIANTS if variant.name != AUTO]
    head = ["model", "d", "tokens", "auto, ms", *names]
    cells = [
        [*_name(row), f"{1e3 * row.seconds[AUTO]:.2f}", *(cell(row, name) for name in names)] for row in rows
    ]
    return markdown.table(head, cells).splitlines()


def norm_part(rows: list[Row]) -> list[str]:
    """How much of the gain is the norms': by leaving them as they are, and by their own time."""
    head = ["model", "d", "tokens", "whole gain", "of it norms", "of it other rewrites"]
    names = [variant.name for variant in VARIANTS]
    cells = []
    for row in rows:
        first, as_is = row.ratios[ORIGINAL][0], row.ratios[AS_IS][0]
        gains = [f"{100 * gain / first:+.1f} %" for gain in (first - 1, as_is - 1, first - as_is)]
        parts = [f"{row.norm_part[name]:.3f}" if name in row.norm_part else "-" for name in names]
        cells.append([*_name(row), *gains, *parts])
    return markdown.table([*head, *(f"{name}, ms" for name in names)], cells).splitlines()


def operations(rows: list[Row]) -> list[str]:
    """The norms that the sessions run, what the makers said, and how far the outputs are apart."""
    cells = []
    for (model, width), group in groupby(rows, key=lambda row: (row.model, row.width)):
        same = list(group)
        for way in same[0].ways:
            ops = ", ".join(f"{way.ops[op]} {op}" for op in (*NORMS, "Add", "Sum") if way.ops[op])
            off = max(row.distance.get(way.variant.name, float("nan")) for row in same)
            cells.append([model, str(width), way.variant.name, ops, f"{off:.0e}", way.text])
    head = ["model", "d", "variant", "norms and additions that run", "distance", "its maker says"]
    return markdown.table(head, cells).splitlines()


def report(rows: list[Row], kernels: list[str]) -> str:
    """All tables."""
    tables = {"whole": whole(rows), "part": norm_part(rows), "ops": operations(rows), "kernels": kernels}
    facts = describe(["onnxruntime", "tautomer", "torch", "transformers", "onnx"])
    filled = {name: "\n".join(lines) for name, lines in tables.items()}
    return TEXT.format(layers=LAYERS, fusion=SKIP_FUSION, facts=facts, **filled)


def main(arguments: list[str] | None = None) -> int:
    """Prints the tables, and writes them when asked to."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.norms", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the smallest width and few rounds")
    parser.add_argument("--only", choices=("narrow", "gpt2"))
    parser.add_argument("--tokens", type=int, action="append", help="only this length (repeatable)")
    parser.add_argument("--width", type=int, action="append", help="only this width (repeatable)")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "tautomer-norms")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path, help="also write the tables here")
    options = parser.parse_args(arguments)
    with_allocator("benchmarks.norms", sys.argv[1:] if arguments is None else arguments)
    options.cache.mkdir(parents=True, exist_ok=True)
    rounds = min(options.rounds, 5) if options.quick else options.rounds
    rows = [
        row
        for kind in ([options.only] if options.only else ["narrow", "gpt2"])
        for opset in OPSETS
        for width in options.width or WIDTHS[: 1 if options.quick else None]
        for row in measured(kind, width, opset, options.tokens or SEQUENCES, rounds, options.cache)
    ]
    text = report(rows, table(SHAPES[:2] if options.quick else SHAPES, rounds))
    markdown.publish(text, options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
