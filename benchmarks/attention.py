"""Attention kernels beside torch: sigmoid and softmax scores, one query, gradients.

    python -m benchmarks.attention [--quick] [--seconds 20] [--out benchmarks/results/attention.md]

CPU time on one thread, all ways in turns, medians of the ratios within a round; a loop of multiply-adds alone
takes its turn too, and says what the processor has to give at that time.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import sys
from collections.abc import Callable, Mapping
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
torch, which stores the scores.

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
SIZES = ((512, 64, 12, 12), (1024, 64, 12, 12), (2048, 64, 12, 12), (4096, 64, 12, 12))
SIZES = (*SIZES, (1024, 128, 12, 12), (1024, 64, 12, 4))
CACHES = (4096, 16384)


def sigmoid(q: Any, k: Any, v: Any, bias: float) -> Any:
    """The formula."""
    return torch.sigmoid(q @ k.mT * q.shape[-1] ** -0.5 + bias) @ v


def softmax(q: Any, k: Any, v: Any, bias: float) -> Any:
    """The formula; the bias changes nothing."""
    return torch.softmax(q @ k.mT * q.shape[-1] ** -0.5, -1) @ v


def ways(score: str, size: tuple[int, int, int, int], dtype: torch.dtype, compiled: bool) -> Calls:
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
    if compiled:
        torch.compiler.reset()
        program = torch.compile(formula, dynamic=False)
        found["inductor"] = lambda: program(q, *many, bias)
    return found


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


def forward(
    score: str, sizes: tuple[tuple[int, int, int, int], ...], rounds: int, seconds: float, compiled: bool
) -> str:
    """The table of a score function."""
    shown, rows = ("SDPA", "eager", "inductor"), []
    for dtype in (torch.float32, torch.bfloat16):
        for size in sizes:
            n, d, heads, _ = size
            if dtype == torch.bfloat16 and n > 2048:
                continue  # torch takes minutes where the processor has no bfloat16
            name = str(dtype).removeprefix("torch.")
            print(f"{score}, {name}, {named(size)}", file=sys.stderr, flush=True)
            found = measured(ways(score, size, dtype, compiled), rounds, seconds)
            rows.append([named(size), name, *cells(found, 4.0 * n * n * d * heads, shown)])
    return markdown.table(["size", "type", "ours, ms", "of peak", *shown], rows)


def scores(rounds: int, seconds: float) -> str:
    """Sigmoid against softmax."""
    rows = []
    for size in SIZES[:3]:
        calls = {score: ways(score, size, torch.float32, False)[OURS] for score in ("sigmoid", "softmax")}
        found = interleaved(calls, rounds, most=seconds)
        pairs = zip(found["sigmoid"], found["softmax"], strict=True)
        rows.append([named(size), markdown.ratio(quartiles([b / a for a, b in pairs]))])
    return markdown.table(["size", "softmax"], rows)


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


def decode(rounds: int, seconds: float) -> str:
    """One query."""
    rows = []
    for keys in CACHES:
        for score in ("softmax", "sigmoid"):
            found = interleaved(one_query(score, keys), rounds, most=seconds)
            ours, size = statistics.median(found[OURS]), 2 * 12 * keys * 64 * 4
            parts = [b / a for a, b in zip(found[OURS], found["copy"], strict=True)]
            speed = [f"{ours * 1e3:.2f}", f"{size / ours / 1e9:.1f}", f"{statistics.median(parts):.2f}"]
            rows.append([f"{keys} keys", score, *speed, ratio(found, "SDPA"), ratio(found, "eager")])
    return markdown.table(["size", "score", "ours, ms", "GB/s", "of copy", "SDPA", "eager"], rows)


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


def gradients(rounds: int, seconds: float) -> str:
    """Training."""
    rows, shown = [], ("SDPA", "eager")
    with torch.enable_grad():
        for score in ("softmax", "sigmoid"):
            for size in SIZES[:2]:
                n, d, heads, _ = size
                found = measured(trained(score, size), rounds, seconds)
                rows.append([named(size), score, *cells(found, 14.0 * n * n * d * heads, shown)])
    return markdown.table(["size", "score", "ours, ms", "of peak", *shown], rows)


def main(arguments: list[str] | None = None) -> int:
    """Prints the tables, and writes them when asked to."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.attention", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--quick", action="store_true", help="no inductor, small sizes, fewer rounds")
    parser.add_argument("--seconds", type=float, default=20.0, help="processor time of a case at most")
    parser.add_argument("--out", type=Path, help="also write the tables here")
    options = parser.parse_args(arguments)
    with_allocator("benchmarks.attention", sys.argv[1:] if arguments is None else arguments)
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    before, rounds = os.getloadavg()[0], 5 if options.quick else 15
    sizes = SIZES[:1] + SIZES[5:] if options.quick else SIZES
    tables = {
        score: forward(score, sizes, rounds, options.seconds, not options.quick)
        for score in ("sigmoid", "softmax")
    }
    text = TEXT.format(
        **tables,
        scores=scores(rounds, options.seconds),
        decode=decode(rounds, options.seconds),
        gradients=gradients(rounds, options.seconds),
        facts=describe(["tautomer", "torch"]),
        rounds=rounds,
        seconds=options.seconds,
        before=before,
        after=os.getloadavg()[0],
    )
    markdown.publish(text, options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
