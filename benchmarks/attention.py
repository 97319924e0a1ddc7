"""Attention kernels beside torch: sigmoid and softmax scores, one query, gradients.

    python -m benchmarks.attention [--quick] [--seconds 5] [--out benchmarks/results/attention.md]

CPU time on one thread, all ways in turns, medians of the ratios within a round; a loop of multiply-adds alone
takes its turn too, and says what the processor has to give at that time. The file is written after every row.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from benchmarks import markdown
from benchmarks.machine import describe
from benchmarks.multiply_add import multiply_adds
from benchmarks.timing import interleaved, with_allocator
from tautomer.torch import score_attention

TEXT = """# Attention kernels

One thread, CPU time. A column is the time of that way in times of ours: the median over {rounds} rounds, or
as many as fit into {seconds:g} s but three at least, and the quartiles. Below 1, in bold, it is faster than
ours. Peak: 4 N^2 d H operations in our time, in parts of what a loop of float32 multiply-adds alone does in
its turns. SDPA is torch's scaled_dot_product_attention, of softmax; `eager` and `inductor` are the formula in
torch, which stores the scores; in bfloat16 they are left out where they take seconds.

## Sigmoid scores, bias -log n

{sigmoid}

## Softmax scores

{softmax}

## Sigmoid against softmax

The same kernel with the other score function: time of softmax in times of sigmoid.

{scores}

## One query

12 heads of 64 channels; read: what K and V hold in our time, in parts of the speed of a copy (both ways).

{decode}

## Gradients

Forward and backward; of eager, what autograd makes of the formula.

{gradients}

{facts} Load of the machine: {before:.1f} before, {after:.1f} after."""
Calls = Mapping[str, Callable[[], Any]]
OURS, PEAK = "ours", "peak"
# (queries, head dimension, heads of q, heads of k and v)
SIZES = tuple((n, 64, 12, 12) for n in (512, 1024, 2048, 4096, 8192))
SIZES = (*SIZES, (1024, 128, 12, 12), (2048, 128, 12, 12), (1024, 64, 12, 4), (2048, 64, 12, 4))
QUICK = ((512, 64, 12, 12), (1024, 64, 12, 4))
CACHES = (4096, 16384)
SHOWN = ("SDPA", "eager", "inductor")
HEADS = {
    "sigmoid": ["size", "type", "ours, ms", "of peak", *SHOWN],
    "softmax": ["size", "type", "ours, ms", "of peak", *SHOWN],
    "scores": ["size", "softmax"],
    "decode": ["size", "score", "ours, ms", "GB/s", "of copy", "SDPA", "eager"],
    "gradients": ["size", "score", "ours, ms", "of peak", "SDPA", "eager"],
}
"""Table -> its columns."""


def sigmoid(q: Any, k: Any, v: Any, bias: float) -> Any:
    """The formula."""
    return torch.sigmoid(q @ k.mT * q.shape[-1] ** -0.5 + bias) @ v


def softmax(q: Any, k: Any, v: Any, bias: float) -> Any:
    """The formula; the bias changes nothing."""
    return torch.softmax(q @ k.mT * q.shape[-1] ** -0.5, -1) @ v


def ways(score: str, size: tuple[int, int, int, int], dtype: torch.dtype, shown: tuple[str, ...]) -> Calls:
    """Ours, and what it is compared with."""
    n, d, heads, kv_heads = size
    q, k, v = (torch.randn(1, h, n, d).to(dtype) for h in (heads, kv_heads, kv_heads))
    many = [x.repeat_interleave(heads // kv_heads, 1) for x in (k, v)]  # not timed
    bias, formula = -math.log(n), sigmoid if score == "sigmoid" else softmax
    grouped = heads != kv_heads
    found: dict[str, Callable[[], Any]] = {
        OURS: lambda: score_attention(q, k, v, score, bias=bias),
        "SDPA": lambda: torch.nn.functional.scaled_dot_product_attention(q, k, v, enable_gqa=grouped),
        "eager": lambda: formula(q, *many, bias),
    }
    if "inductor" in shown:
        torch.compiler.reset()
        program = torch.compile(formula, dynamic=False)
        program(q, *many, bias)
        found["inductor"] = lambda: program(q, *many, bias)
    return {way: call for way, call in found.items() if way in (OURS, *shown)}


def measured(calls: Calls, rounds: int, seconds: float) -> dict[str, list[float]]:
    """Seconds of each way and of the loop of multiply-adds, by round."""
    return interleaved({**calls, PEAK: multiply_adds()[0]}, rounds, most=seconds)


def cells(found: dict[str, list[float]], operations: float, shown: tuple[str, ...]) -> list[str]:
    """Milliseconds, part of the peak, and ratios."""
    ours, work = found[OURS], multiply_adds()[1]
    parts = [operations / a / (work / b) for a, b in zip(ours, found[PEAK], strict=True)]
    own = [f"{statistics.median(ours) * 1e3:.2f}", f"{100.0 * statistics.median(parts):.0f} %"]
    return [*own, *(ratio(found, way) for way in shown)]


def ratio(found: dict[str, list[float]], way: str) -> str:
    """The time of a way in times of ours."""
    if way not in found:
        return "-"
    return markdown.ratio(quartiles([b / a for a, b in zip(found[OURS], found[way], strict=True)]))


def quartiles(numbers: list[float]) -> list[float]:
    """Three of them."""
    return statistics.quantiles(numbers, n=4, method="inclusive")


def named(size: tuple[int, int, int, int]) -> str:
    """A size in a table."""
    n, d, heads, kv_heads = size
    return f"N {n}, d {d}, {heads} heads" + (f" on {kv_heads}" if heads != kv_heads else "")


Rows = Iterator[list[str]]


def forward(score: str, options: argparse.Namespace) -> Rows:
    """The rows of a score function."""
    sizes, shown = (QUICK, SHOWN[:2]) if options.quick else (SIZES, SHOWN)
    for dtype in (torch.float32, torch.bfloat16):
        for size in sizes:
            n, d, heads, _ = size
            # where the processor has no bfloat16, torch takes a minute for the formula
            wide = dtype == torch.bfloat16 and n > 512
            if wide and n > 2048:
                continue
            found = measured(
                ways(score, size, dtype, SHOWN[:1] if wide else shown), options.rounds, options.seconds
            )
            name = str(dtype).removeprefix("torch.")
            yield [named(size), name, *cells(found, 4.0 * n * n * d * heads, SHOWN)]


def scores(options: argparse.Namespace) -> Rows:
    """Sigmoid against softmax."""
    for size in SIZES[:3]:
        calls = {score: ways(score, size, torch.float32, ())[OURS] for score in ("sigmoid", "softmax")}
        found = interleaved(calls, options.rounds, most=options.seconds)
        pairs = zip(found["sigmoid"], found["softmax"], strict=True)
        yield [named(size), markdown.ratio(quartiles([b / a for a, b in pairs]))]


def one_query(score: str, keys: int) -> Calls:
    """One query against a long cache, and a copy of half of what it reads to as much elsewhere."""
    q, k, v = torch.randn(1, 12, 1, 64), *(torch.randn(1, 12, keys, 64) for _ in range(2))
    formula, bias, to = sigmoid if score == "sigmoid" else softmax, -math.log(keys), torch.empty_like(k)
    return {
        OURS: lambda: score_attention(q, k, v, score, bias=bias),
        "SDPA": lambda: torch.nn.functional.scaled_dot_product_attention(q, k, v),
        "eager": lambda: formula(q, k, v, bias),
        "copy": lambda: to.copy_(k),
    }


def decode(options: argparse.Namespace) -> Rows:
    """One query."""
    for keys in CACHES:
        for score in ("softmax", "sigmoid"):
            found = interleaved(one_query(score, keys), options.rounds, most=options.seconds)
            ours, size = statistics.median(found[OURS]), 2 * 12 * keys * 64 * 4
            parts = [b / a for a, b in zip(found[OURS], found["copy"], strict=True)]
            speed = [f"{ours * 1e3:.2f}", f"{size / ours / 1e9:.1f}", f"{statistics.median(parts):.2f}"]
            yield [f"{keys} keys", score, *speed, ratio(found, "SDPA"), ratio(found, "eager")]


def trained(score: str, size: tuple[int, int, int, int]) -> Calls:
    """Forward and backward."""
    n, d, heads, _ = size
    tensors = [torch.randn(1, heads, n, d, requires_grad=True) for _ in range(3)]
    formula, bias = sigmoid if score == "sigmoid" else softmax, -math.log(n)
    gradient = torch.randn(1, heads, n, d)

    def gradients_of(attention: Callable[..., Any]) -> None:
        torch.autograd.grad(attention(*tensors), tensors, gradient)

    sdpa = torch.nn.functional.scaled_dot_product_attention
    found: dict[str, Callable[[], Any]] = {
        OURS: lambda: gradients_of(lambda q, k, v: score_attention(q, k, v, score, bias=bias)),
        "eager": lambda: gradients_of(lambda q, k, v: formula(q, k, v, bias)),
    }
    return found | ({"SDPA": lambda: gradients_of(sdpa)} if score == "softmax" else {})


def gradients(options: argparse.Namespace) -> Rows:
    """Training."""
    with torch.enable_grad():
        for score in ("softmax", "sigmoid"):
            for size in SIZES[:2]:
                n, d, heads, _ = size
                found = measured(trained(score, size), options.rounds, options.seconds)
                yield [named(size), score, *cells(found, 14.0 * n * n * d * heads, SHOWN[:2])]


def main(arguments: list[str] | None = None) -> int:
    """Prints the tables, and writes them when asked to."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.attention", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--quick", action="store_true", help="no inductor, small sizes, fewer rounds")
    parser.add_argument("--seconds", type=float, default=5.0, help="processor time of a row at most")
    parser.add_argument("--out", type=Path, help="also write the tables here")
    options = parser.parse_args(arguments)
    with_allocator("benchmarks.attention", sys.argv[1:] if arguments is None else arguments)
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    before, options.rounds = os.getloadavg()[0], 5 if options.quick else 15
    parts = {
        "sigmoid": forward("sigmoid", options),
        "softmax": forward("softmax", options),
        "scores": scores(options),
        "decode": decode(options),
        "gradients": gradients(options),
    }
    rows: dict[str, list[list[str]]] = {name: [] for name in parts}
    text = ""
    for name, found in parts.items():
        for row in found:
            rows[name].append(row)
            print(name, *row, sep="  ", file=sys.stderr, flush=True)
            text = TEXT.format(
                **{table: markdown.table(HEADS[table], cells) for table, cells in rows.items()},
                facts=describe(["tautomer", "torch"]),
                rounds=options.rounds,
                seconds=options.seconds,
                before=before,
                after=os.getloadavg()[0],
            )
            if options.out is not None:
                options.out.write_text(text + "\n")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
