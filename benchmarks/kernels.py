"""Generated kernels beside torch, inductor, onnxruntime and numpy, and beside a copy: one thread, float32.

    python -m benchmarks.kernels [--quick] [--only Softmax] [--out benchmarks/results/kernels.md]

CPU time, all ways in turns, medians of the ratios within a round, outputs allocated once where the peer can
write to them. Of every kernel all algorithms are timed, of onnxruntime all graphs; the fastest is shown.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks import kernel_threads, markdown
from benchmarks.kernel_cases import CASES, Case
from benchmarks.kernel_ways import OURS, moved, native, prepared, ways
from benchmarks.machine import describe
from benchmarks.rowwise_cases import REGIONS, Region
from benchmarks.timing import interleaved, with_allocator

LONG = 1 << 22  # columns of a row that no cache holds with its result
LIMIT, PEERS = "limit", ("torch", "inductor", "onnxruntime", "numpy")
TEXT = """# Generated kernels

Float32, one thread, CPU time. A peer's column is its time in times of ours: the median over {rounds} rounds,
or as many as fit into {seconds:g} s of processor time but three at least, and the quartiles. Below 1, in
bold, the peer is faster. Limit: the time of a loop that only reads the inputs and writes the output, with
regular stores or past the caches, whichever is faster, in parts of ours. Algorithms: the fastest of ours,
and the others in times of it; `loops` follows from the definition.

torch writes to `out=` where it has that, torch and inductor otherwise allocate, from an allocator that keeps
its memory. onnxruntime runs a model of the operation with bound inputs and outputs. The cost of a call is in
all of them; ours is through ctypes with arguments that are made once.

{times}

## Two passes against three

Softmax that reads the row twice and writes the result once (`lane`, `extended`) beside three passes
(`loops`), both ours: the time of three in times of two.

{passes}

## Two threads

{threads}

## Slower than a peer

{slower}

## Largest error

Against double precision, in parts of the largest element of the result.

{errors}

{facts} Load of the machine: {before:.1f} before, {after:.1f} after."""


@dataclass
class Row:
    """One case: medians and quartiles of the ratios to ours, and errors, by peer."""

    case: Case | Region
    seconds: float
    algorithms: str
    limit: float
    ratios: dict[str, list[float]]
    errors: dict[str, float]
    two_passes: dict[str, float]


def measured(case: Case | Region, rounds: int, compiled: bool, most: float) -> Row:
    """Checks and times one case."""
    setting = prepared(case)
    inputs, full = setting.inputs, setting.full
    found = ways(case.operation, setting, compiled)
    exact = case.operation.torch(*(value.double() for value in inputs.values())).numpy()
    scale, errors = np.abs(exact).max(), {}
    for name, (call, result) in found.items():
        call()
        errors[name] = float(np.abs(np.asarray(result()) - exact).max() / scale)
        if not errors[name] < 1e-2:
            raise RuntimeError(f"{case.operation.key} of {name} is off by {errors[name]:.0e}")
    calls = {name: call for name, (call, _) in found.items()}
    for name in ("", "stream"):
        copied = torch.empty_like(inputs["x"])
        per_row = tuple(setting.result) != tuple(inputs["x"].shape)
        calls[f"{LIMIT}/{name}"] = native(
            moved(full, per_row), name, full, [copied], setting.rows, setting.columns
        )
    seconds = interleaved(calls, rounds, most=most)
    middle = {name: statistics.median(times) for name, times in seconds.items()}
    best = {
        who: min((name for name in middle if name.startswith(f"{who}/")), key=middle.__getitem__)
        for who in dict.fromkeys(name.split("/")[0] for name in middle)
    }
    ours = seconds[best[OURS]]
    ratios = {
        who: statistics.quantiles([a / b for a, b in zip(seconds[name], ours, strict=True)], n=4)
        for who, name in best.items()
    }
    others = [
        name.split("/")[1] + (f" {middle[name] / middle[best[OURS]]:.2f}" if name != best[OURS] else "")
        for name in sorted(middle, key=middle.__getitem__)
        if name.startswith(f"{OURS}/")
    ]
    two = {
        name.split("/")[1]: statistics.median(
            a / b for a, b in zip(seconds[f"{OURS}/loops"], seconds[name], strict=True)
        )
        for name in middle
        if name in (f"{OURS}/lane", f"{OURS}/extended")
    }
    kept = {who: errors[name] for who, name in best.items() if name in errors}
    return Row(case, middle[best[OURS]], ", ".join(others), ratios[LIMIT][1], ratios, kept, two)


def report(rows: Sequence[Row], rounds: int, seconds: float, before: float, threads: bool) -> str:
    """The tables."""

    def ratio(row: Row, who: str) -> str:
        if who not in row.ratios:
            return "-"
        return markdown.ratio(row.ratios[who])

    shown = [peer for peer in PEERS if any(peer in row.ratios for row in rows)]
    times, errors, slower = [], [], []
    for row in rows:
        name = [row.case.operation.key, row.case.name]
        cells = [f"{1e6 * row.seconds:.1f}", row.algorithms, f"{100 * row.limit:.0f} %"]
        times.append([*name, *cells, *(ratio(row, peer) for peer in shown)])
        errors.append([*name, *(f"{row.errors[w]:.1e}" if w in row.errors else "-" for w in (OURS, *shown))])
        behind = [peer for peer in shown if peer in row.ratios and row.ratios[peer][1] < 1]
        slower += [
            f"- {name[0]}, {name[1]}: {peer} takes {row.ratios[peer][1]:.2f} of ours" for peer in behind
        ]
    passes = [
        [row.case.name, *(f"{row.two_passes[name]:.2f}" for name in ("lane", "extended"))]
        for row in rows
        if row.two_passes and isinstance(row.case, Case) and row.case.columns >= LONG
    ]
    return TEXT.format(
        passes=markdown.table(["size", "lane", "extended"], passes),
        threads=kernel_threads.table() if threads else "Not measured.",
        times=markdown.table(["operation", "size", "ours, us", "algorithms", "limit", *shown], times),
        errors=markdown.table(["operation", "size", OURS, *shown], errors),
        slower="\n".join(slower) or "None of these cases.",
        facts=describe(["onnxruntime", "tautomer", "torch", "numpy"]),
        rounds=rounds,
        seconds=seconds,
        before=before,
        after=os.getloadavg()[0],
    )


def main(arguments: list[str] | None = None) -> int:
    """Prints the tables, and writes them when asked to."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kernels", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="no inductor, no row of 2^24, fewer rounds")
    parser.add_argument("--only", action="append", help="only the operation of this key (repeatable)")
    parser.add_argument("--out", type=Path, help="also write the tables here")
    parser.add_argument(
        "--seconds",
        type=float,
        default=30.0,
        help="processor time of a case at most (default: 30)",
    )
    options = parser.parse_args(arguments)
    with_allocator("benchmarks.kernels", sys.argv[1:] if arguments is None else arguments)
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    before, rounds, rows = os.getloadavg()[0], 9 if options.quick else 15, []
    for case in (*CASES, *REGIONS):
        if isinstance(case, Case) and case.columns >= 1 << 24 and options.quick:
            continue
        if case.operation.key in (options.only or [case.operation.key]):
            print(f"{case.operation.key}, {case.name}", file=sys.stderr, flush=True)
            rows.append(measured(case, rounds, not options.quick, options.seconds))
    text = report(
        rows,
        rounds,
        options.seconds,
        before,
        not options.quick and "Softmax" in (options.only or ["Softmax"]),
    )
    markdown.publish(text, options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
