"""Layers with adapters, KAN layers and gates of experts, rewritten: beside onnxruntime, torch and inductor.

    python -m benchmarks.adapted [--quick] [--out benchmarks/results/adapted.md]

CPU time on one thread, all ways in turns, medians of the ratios within a round.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import torch
from torch import nn

import tautomer
from benchmarks import adapted_layers as layers
from benchmarks import markdown
from benchmarks.machine import describe
from benchmarks.timing import bound, interleaved, load, with_allocator

TEXT = """# Adapters, KAN layers, gates

One thread, CPU time. A column is the time of that way in times of ours, which runs in onnxruntime with our
kernels: the median over {rounds} rounds, and the quartiles. Below 1, in bold, it is faster than ours. Whole
layers, with their matrix products; {rows} rows of float32.

{table}

A gate is one operator, and it is small beside the experts.

{facts} Load of the machine: {before:.1f} before, {after:.1f} after."""
ROWS = 256
WAYS = ("onnxruntime", "torch", "inductor")
CASES: Mapping[str, tuple[Callable[[int], nn.Module], int]] = {
    "LoRA, rank 16, 1024 channels": (layers.Lora, 1024),
    "LoRA, rank 64, 1024 channels": (partial(layers.Lora, rank=64), 1024),
    "B-splines, 64 channels": (layers.Spline, 64),
    "B-splines, 256 channels": (layers.Spline, 256),
    "Gaussians, 64 channels": (layers.Gaussians, 64),
    "ReLU-KAN, 64 channels": (layers.Relus, 64),
    "Fourier series, 64 channels": (layers.Fourier, 64),
    "gate, 8 of 64 experts": (layers.Gate, 64),
}


def ways(
    make: Callable[[int], nn.Module], width: int, folder: Path, *, quick: bool
) -> dict[str, Callable[[], None]]:
    """The layer as calls by name, ours first."""
    torch.manual_seed(0)
    torch._dynamo.reset()
    module, x = make(width).eval(), torch.rand(ROWS, width) * 2.0 - 1.0
    path, fast = folder / "layer.onnx", folder / "fast.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, (x,), str(path), dynamo=True, opset_version=20, verbose=False)
    result = tautomer.optimize(path, target="kernels", verify=False)
    if not result.changed:
        raise SystemExit(f"nothing was rewritten: {[remark.reason for remark in result.remarks]}")
    result.save(fast, force=True)
    session = tautomer.session(fast, intra_op_num_threads=1, inter_op_num_threads=1)
    original = load(path)
    inputs = {original.get_inputs()[0].name: x.numpy()}
    calls = {
        "ours": bound(session, inputs),
        "onnxruntime": bound(original, inputs),
        "torch": lambda: module(x),
    }
    if not quick:
        compiled = torch.compile(module)
        compiled(x)
        calls["inductor"] = lambda: compiled(x)
    return calls


def main(arguments: list[str] | None = None) -> int:
    """Prints the table, and writes it when asked to."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.adapted", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="without inductor, and fewer rounds")
    parser.add_argument("--out", type=Path, help="also write the table here")
    options = parser.parse_args(arguments)
    with_allocator("benchmarks.adapted", sys.argv[1:] if arguments is None else arguments)
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    before, rounds = os.getloadavg()[0], 5 if options.quick else 15
    rows = []
    for name, (make, width) in CASES.items():
        print(name, file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory() as folder:
            seconds = interleaved(ways(make, width, Path(folder), quick=options.quick), rounds, most=4.0)
        cells = [f"{1e6 * statistics.median(seconds['ours']):.0f}"]
        for way in WAYS:
            ratios = [a / b for a, b in zip(seconds.get(way, ()), seconds["ours"], strict=False)]
            cells.append(markdown.ratio(statistics.quantiles(ratios, n=4)) if ratios else "-")
        rows.append([name, *cells])
    text = TEXT.format(
        rounds=rounds,
        rows=ROWS,
        table=markdown.table(["layer", "ours, us", *WAYS], rows),
        before=before,
        after=os.getloadavg()[0],
        facts=describe(["onnxruntime", "tautomer", "torch", "numpy"]),
    )
    markdown.publish(text, options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
