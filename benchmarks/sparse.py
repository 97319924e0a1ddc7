"""Exact sparse linear maps beside dense ones: products, gated layers, a step of a language model.

    python -m benchmarks.sparse [--quick] [--out benchmarks/results/sparse.md]

CPU time on one thread, all ways in turns, medians of the ratios within a round. Which numbers are zero
changes from call to call.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch

from benchmarks import markdown, sparse_ways
from benchmarks.machine import describe
from benchmarks.sparse_ways import DENSE, OURS, Ways
from benchmarks.timing import interleaved, with_allocator

TEXT = """# Exact sparse linear maps

One thread, CPU time. A column is the time of that way in times of ours: the median over {rounds} rounds, or
as many as fit into {seconds:g} s but three at least, and the quartiles. Below 1, in bold, it is faster than
ours. Own dense: the same kernel, leaving nothing out. Ideal: what a dense product reads in times of what is
met.

## The product behind the activation

{products}

## A gated layer of {width} channels and {neurons} neurons, batch 1, float32

max(x G + b, 0) * (x U) W. The product with G stays dense. `by hand` calls the operators from Python.

{layers}

## A step of a language model

OPT's shape: 4 layers of 2048 channels and 8192 neurons, 8448 tokens, a cache of 128; one neuron in ten fires
(examples/models_relu.py). The second matrix of each perceptron is the only one that zeros leave rows of out:
with it gone, 1 / {ideal:.2f} of the time would be left.

{steps}

## What was to be reached

{bars}

A dense product that reads W as fast as memory gives it can be beaten by the ideal at most.

{facts} Load of the machine: {before:.1f} before, {after:.1f} after."""
SIZES = ((11008, 4096), (3072, 768))
DENSITIES = (0.5, 0.1, 0.03)
WIDTH, NEURONS = 4096, 11008
MOST = 4.0  # seconds of a case


def timed(ways: Ways, ours: str, rounds: int) -> tuple[float, dict[str, list[float]]]:
    """Seconds of ours, and the quartiles of each way's ratio to it."""
    seconds = interleaved(ways, rounds, most=MOST)
    ratios = {
        name: statistics.quantiles([a / b for a, b in zip(times, seconds[ours], strict=True)], n=4)
        for name, times in seconds.items()
    }
    return statistics.median(seconds[ours]), ratios


def cells(ratios: Mapping[str, list[float]], names: Sequence[str]) -> list[str]:
    """A ratio for each name, a dash where there is none."""
    return [markdown.ratio(ratios[name]) if name in ratios else "-" for name in names]


def products(rounds: int, quick: bool) -> str:
    """The table of products."""
    cases = [(size, 1, density, "float32") for size in SIZES for density in DENSITIES]
    cases += [(SIZES[0], 1, density, "bfloat16") for density in DENSITIES[1:]]
    cases += [(SIZES[0], rows, 0.1, "float32") for rows in (2, 4, 8, 32)]
    cases += [(SIZES[0], rows, 1.0, "float32") for rows in (1, 4, 32)]
    names, rows_of_table = (DENSE, "F.linear", "onnxruntime"), []
    for (neurons, outputs), rows, density, dtype in cases[:2] if quick else cases:
        print(neurons, outputs, rows, density, dtype, file=sys.stderr, flush=True)
        ways = sparse_ways.down(neurons, outputs, rows, density, getattr(torch, dtype))
        middle, ratios = timed(ways, OURS, rounds)
        met = 1.0 - (1.0 - density) ** rows
        size = [f"{neurons} x {outputs}", dtype, str(rows), f"{density:g}", f"{1e6 * middle:.0f}"]
        rows_of_table.append([*size, f"{1.0 / met:.1f}", *cells(ratios, names)])
    head = ["matrix", "type", "rows", "not zero", "ours, us", "ideal", *names]
    return markdown.table(head, rows_of_table)


def against(
    make: Callable[[], Ways], ours: str, rounds: int, label: list[str]
) -> tuple[list[str], list[str]]:
    """The head and the row of a table of whole modules."""
    middle, ratios = timed(make(), ours, rounds)
    names = [name for name in ratios if name != ours]
    return names, [*label, f"{1e3 * middle:.1f}", *cells(ratios, names)]


def modules(cases: Sequence[tuple[str, Callable[[], Ways]]], rounds: int) -> str:
    """A table of modules: ours once under torch.compile and once in onnxruntime."""
    table, names = [], []
    for name, make in cases:
        print(name, file=sys.stderr, flush=True)
        torch._dynamo.reset()
        names, row = against(make, "ours, onnxruntime", rounds, [name])
        table.append(row)
    return markdown.table(["", "ours in onnxruntime, ms", *names], table)


def reached(products: str, layers: str) -> str:
    """What was wanted at one number in ten, beside what the tables say."""

    def figure(table: str, row: str, column: str) -> float:
        lines = [[cell.strip() for cell in line.split("|")] for line in table.splitlines()]
        found = next(cells for cells in lines if " | ".join(cells[1:]).startswith(row))
        return float(found[lines[0].index(column)].strip("*").split("*")[0].split(" ")[0])

    product, layer = "11008 x 4096 | float32 | 1 | 0.1", "0.1 not zero"
    by_hand = figure(layers, layer, DENSE) / figure(layers, layer, "ours, by hand")
    bars = (
        ("the product beside own dense", 8.0, figure(products, product, DENSE)),
        ("the product beside F.linear", 10.0, figure(products, product, "F.linear")),
        ("the gated layer, by hand, beside own dense", 2.2, by_hand),
    )
    rows = [
        [name, f"{least:g}", f"{got:.2f}", "yes" if got >= least else "**no**"] for name, least, got in bars
    ]
    return markdown.table(["", "wanted", "found", "reached"], rows)


def main(arguments: list[str] | None = None) -> int:
    """Prints the tables, and writes them when asked to."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sparse", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two products, one layer, fewer rounds")
    parser.add_argument("--out", type=Path, help="also write the tables here")
    options = parser.parse_args(arguments)
    with_allocator("benchmarks.sparse", sys.argv[1:] if arguments is None else arguments)
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    before, rounds = os.getloadavg()[0], 3 if options.quick else 15
    layers = [
        (f"{share:g} not zero", partial(sparse_ways.layer, WIDTH, NEURONS, share)) for share in DENSITIES[:2]
    ]
    width, tokens = 2048, 8448
    dense = 4 * 12 * width**2 + tokens * width
    of_products = products(rounds, options.quick)
    of_layers = modules(layers[1:2] if options.quick else layers, rounds)
    text = TEXT.format(
        products=of_products,
        layers=of_layers,
        bars=reached(of_products, of_layers),
        steps="Not measured." if options.quick else modules([("a step", sparse_ways.step)], rounds),
        ideal=dense / (dense - 4 * 0.9 * 4 * width**2),
        width=WIDTH,
        neurons=NEURONS,
        rounds=rounds,
        seconds=MOST,
        before=before,
        after=os.getloadavg()[0],
        facts=describe(["onnxruntime", "tautomer", "torch", "numpy"]),
    )
    markdown.publish(text, options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
