"""Whole models under onnxruntime, one thread: as exported, from other optimizers, and from ours.

    python -m benchmarks.models [--quick] [--only gpt2] [--out benchmarks/results/models.md]

Four layers of width 768 on 128 tokens (ViT: 197), and three models whose time is not all in products; random
weights, torch's dynamo exporter at opset 20. Every way to run a model is checked against the export without
the runtime's optimizations, then timed: CPU time, all ways in turns, medians of ratios within a round, with
outputs allocated once. A tool that is not installed is a row that says so.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks import markdown
from benchmarks.exports import silence
from benchmarks.family import Family
from benchmarks.machine import describe
from benchmarks.model_ways import (
    BOTH,
    HEAD,
    HEAD_VOCABULARY,
    LAYERS,
    MODELS,
    OPENVINO,
    OURS,
    STOCK,
    WIDTH,
    call_of,
    exported,
    makers,
    session_of,
)
from benchmarks.timing import bound, interleaved, load, with_allocator

TOKENS, TOLERANCE = 128, 1e-3
PRODUCTS = ("MatMul", "FusedMatMul", "Gemm", "FusedGemm", "Conv", "FusedConv", "Einsum")
TEXT_OF_REPORT = """# Whole models

{layers} layers of width {width}, batch 1, {tokens} tokens (ViT: 197), random weights, onnxruntime at
ORT_ENABLE_ALL on one thread, CPU time; the sizes of batch and sequence are open in the files. `softmax head`:
a map from {head} to {vocabulary} and a softmax at a temperature. `polynorm`: the Llama with PolyNorm for its
gated unit. `evonorm`: a ResNet bottleneck of 256 channels at 56 x 56 with EvoNorm-S0.

A column is the time in times of `{ours}`, which is `optimize(target="kernels")` run by
`tautomer.session`: the median over {rounds} rounds, and the quartiles. Below 1, in bold, the other is faster.
Distance: the largest difference of an output from the export's without optimizations, in parts of the largest
output; what is farther than {tolerance:.0e} is not timed.

{times}

To be reached: no peer is faster by more than 2 %, that is no column below 0.98.

{bars}

## Distance, and what was made

{made}

## Where the time goes

Wall time by onnxruntime's profiler, in ms: the shortest run of each node, added up. On a busy machine long
nodes, which are the products, are interrupted in every run and look longer than the CPU time above.

{parts}

{facts} Load of the machine: {before:.1f} before, {after:.1f} after."""


@dataclass
class Result:
    """One model: by way, what its maker says, its distance, ratios to ours and milliseconds by operator."""

    name: str
    notes: dict[str, str] = field(default_factory=dict)
    distance: dict[str, float] = field(default_factory=dict)
    ratios: dict[str, list[float]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    parts: dict[str, dict[str, float]] = field(default_factory=dict)


def profiled(way: str, path: Path, inputs: Mapping[str, np.ndarray], folder: Path) -> dict[str, float]:
    """Milliseconds by operator."""
    session = session_of(way, path, folder / "profile")
    call = bound(session, inputs)
    for _ in range(15):
        call()
    written = Path(session.end_profiling())
    times: dict[tuple[str, str], float] = {}
    for event in json.loads(written.read_text()):
        if event.get("cat") == "Node" and "op_name" in event["args"]:
            key = event["name"], event["args"]["op_name"]
            times[key] = min(times.get(key, np.inf), event["dur"] / 1000)
    written.unlink()
    parts: dict[str, float] = defaultdict(float)
    for (_, op), time in times.items():
        parts["products" if op in PRODUCTS else op] += time
    return parts


def measured(family: Family, cache: Path, rounds: int) -> Result:
    """Makes, checks and times all ways to run one model."""
    source, result = exported(family, cache), Result(family.name)
    inputs = family.sample({"batch": 1, "sequence": TOKENS}, seed=3)
    plain = load(source, optimized=False)
    inputs = {item.name: inputs[item.name] for item in plain.get_inputs()}
    exact = plain.run(None, inputs)[0]
    del plain
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        paths, calls = {}, {}
        for number, (way, make) in enumerate(makers(family.name).items()):
            path = Path(scratch) / f"{number}.onnx"
            try:
                with silence():
                    result.notes[way] = make(source, path)
                session = session_of(way, path)
                off = np.abs(session.run(None, inputs)[0] - exact).max() / np.abs(exact).max()
            except Exception as error:  # a way that fails is a row that says so
                result.notes[way] = f"{type(error).__name__}: {error}".splitlines()[0][:120]
                continue
            result.distance[way], paths[way] = float(off), path
            if off <= TOLERANCE:
                calls[way] = call_of(session, inputs)
        seconds = interleaved(calls, rounds)
        for way, times in seconds.items():
            result.seconds[way] = statistics.median(times)
            if OURS in seconds:
                ratios = [a / b for a, b in zip(times, seconds[OURS], strict=True)]
                result.ratios[way] = statistics.quantiles(ratios, n=4)
        del calls, session
        for way in (STOCK, OURS):
            if way in result.seconds:
                result.parts[way] = profiled(way, paths[way], inputs, Path(scratch))
    return result


def _bars(results: Sequence[Result]) -> str:
    """Whether each model is as fast as the fastest of the others, on the same runtime and on any."""
    rows = []
    for result in results:
        cells = [result.name]
        for without in ((OPENVINO,), ()):
            peers = {way: ratios[1] for way, ratios in result.ratios.items() if way not in (*without, *BOTH)}
            best = min(peers, key=lambda way: peers[way], default=None)
            if best is None:
                cells += ["-", "not timed"]
            else:
                cells += [f"{best} {peers[best]:.3f}", "reached" if peers[best] >= 0.98 else "missed"]
        rows.append(cells)
    return markdown.table(["model", "fastest on onnxruntime", "", "fastest of all", ""], rows)


def report(results: Sequence[Result], rounds: int, before: float) -> str:
    """The tables."""

    def ratio(result: Result, way: str) -> str:
        if way not in result.ratios:
            return "not timed"
        return markdown.ratio(result.ratios[way], digits=3)

    shown = [way for way in makers("") if way != OURS]
    times, made, parts = [], [], []
    for result in results:
        taken = f"{1e3 * result.seconds[OURS]:.2f}" if OURS in result.seconds else "-"
        times.append([result.name, taken, *(ratio(result, way) for way in shown)])
        for way, note in result.notes.items():
            off = f"{result.distance[way]:.0e}" if way in result.distance else "-"
            made.append([result.name, way, off, note])
        for way, spent in result.parts.items():
            by_time = sorted(spent.items(), key=lambda item: -item[1])
            rest = sum(spent.values()) - spent["products"]
            largest = [f"{op} {ms:.2f}" for op, ms in by_time if op != "products"][:7]
            cells = [f"{spent['products']:.2f}", f"{rest:.2f}", ", ".join(largest)]
            parts.append([result.name, way, *cells])
    return TEXT_OF_REPORT.format(
        bars=_bars(results),
        head=HEAD,
        vocabulary=HEAD_VOCABULARY,
        times=markdown.table(["model", f"{OURS}, ms", *shown], times),
        made=markdown.table(["model", "way", "distance", "its maker says"], made),
        parts=markdown.table(["model", "way", "matrix products", "the rest", "of it"], parts),
        facts=describe(["onnxruntime", "tautomer", "torch", "transformers", "onnx", "onnxslim", "openvino"]),
        rounds=rounds,
        before=before,
        after=os.getloadavg()[0],
        layers=LAYERS,
        width=WIDTH,
        tokens=TOKENS,
        ours=OURS,
        tolerance=TOLERANCE,
    )


def main(arguments: list[str] | None = None) -> int:
    """Prints the tables, and writes them when asked to."""
    names = [family.name for family in MODELS]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.models", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--only", action="append", choices=names, help="only this model (repeatable)")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "tautomer-models")
    parser.add_argument("--out", type=Path, help="also write the tables here")
    options = parser.parse_args(arguments)
    with_allocator("benchmarks.models", sys.argv[1:] if arguments is None else arguments)
    options.cache.mkdir(parents=True, exist_ok=True)
    before, results, rounds = os.getloadavg()[0], [], 7 if options.quick else 21
    for family in MODELS:
        if family.name in (options.only or names):
            print(family.name, file=sys.stderr, flush=True)
            results.append(measured(family, options.cache, rounds))
    text = report(results, rounds, before)
    markdown.publish(text, options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
