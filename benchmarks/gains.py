"""Our kernels inside onnxruntime against what it runs instead, by size: the figures of `Target.gains`.

    python -m benchmarks.gains [--only Softmax] [--out benchmarks/results/gains.md]

A model of the operator alone, run by onnxruntime as it is and as `optimize(target="kernels")` makes it,
whatever that gains; one thread, CPU time, in turns, inputs and outputs bound. So the cost of calling a custom
operator is in it, which decides about small sizes.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx.parser

import tautomer
from benchmarks.machine import describe
from benchmarks.timing import bound, interleaved, load, with_allocator
from tautomer.target import KERNELS

_NORM = "<axis = -1, epsilon = 1e-5>"
_LAYER = f"y = LayerNormalization {_NORM}"
_RMS = f"y = RMSNormalization {_NORM}"
_SUM = "s = Add (x, gate)"
# operator -> what a model writes for it, its full inputs and its outputs
OPERATORS: dict[str, tuple[str, str, str]] = {
    "LayerNormalization": (f"{_LAYER} (x, scale, bias)", "x", "y"),
    "RMSNormalization": (f"{_RMS} (x, scale)", "x", "y"),
    "AddLayerNormalization": (f"{_SUM} {_LAYER} (s, scale, bias)", "x gate", "y"),
    "AddRMSNormalization": (f"{_SUM} {_RMS} (s, scale)", "x gate", "y"),
    "AddLayerNormalizationWithSum": (f"{_SUM} {_LAYER} (s, scale, bias)", "x gate", "y s"),
    "AddRMSNormalizationWithSum": (f"{_SUM} {_RMS} (s, scale)", "x gate", "y s"),
    "Softmax": ("y = Softmax <axis = -1> (x)", "x", "y"),
    "SafeSoftmax": ("s = Softmax <axis = -1> (x) n = IsNaN (s) y = Where (n, zero, s)", "x", "y"),
    "Gelu": ("y = Gelu (x)", "x", "y"),
    "Swish": ("s = Sigmoid (x) y = Mul (x, s)", "x", "y"),
    "Mish": ("s = Softplus (x) t = Tanh (s) y = Mul (x, t)", "x", "y"),
    "HardSwish": ("y = HardSwish (x)", "x", "y"),
    "SquaredRelu": ("r = Relu (x) y = Mul (r, r)", "x", "y"),
    "SwiGLU": ("s = Sigmoid (x) t = Mul (x, s) y = Mul (t, gate)", "x gate", "y"),
    "GeGLU": ("t = Gelu (x) y = Mul (t, gate)", "x gate", "y"),
    "ReGLU": ("t = Relu (x) y = Mul (t, gate)", "x gate", "y"),
}
SIZES = ((1, 768), (1, 4096), (64, 1024), (1024, 768), (16384, 1024))
HEAD = """# Kernels inside onnxruntime

How many times faster a kernel of ours is inside onnxruntime than what onnxruntime runs instead, float32, one
thread, CPU time: the median over {rounds} rounds, and the quartiles. Below 1, in bold, an operator is kept.

| operator | {sizes} |
| --- | {rules} |
{rows}

{facts} Load of the machine: {before:.1f} before, {after:.1f} after."""


def model(op: str, rows: int, columns: int) -> onnx.ModelProto:
    """A model of what is written for an operator."""
    body, inputs, outputs = OPERATORS[op]
    full, row = f"float[{rows}, {columns}]", f"float[{columns}]"
    given = [f"{full} {name}" for name in inputs.split()]
    given += [f"{row} {name}" for name in ("scale", "bias") if name in body]
    zero = " <float zero = {0.0}>" * ("zero" in body)
    results = ", ".join(f"{full} {name}" for name in outputs.split())
    text = f'<ir_version: 10, opset_import: ["": 23]> g ({", ".join(given)}) => ({results}){zero}'
    return onnx.parser.parse_model(f"{text} {{ {body} }}")


def ratios(op: str, rows: int, columns: int, folder: Path, rounds: int) -> list[float]:
    """The quartiles of the ratio."""
    source, path = model(op, rows, columns), folder / "ours.onnx"
    target = replace(KERNELS, gains={**KERNELS.gains, op: ()})
    done = tautomer.optimize(source, target=target, norm="ln", verify=False)
    made = [node.op_type for node in done.model.graph]
    assert made == [op], f"{op} became {made}"
    done.save(path, force=True)
    rng = np.random.default_rng(0)
    stock = load(source.SerializeToString())
    given = {item.name: rng.standard_normal(item.shape).astype(np.float32) for item in stock.get_inputs()}
    ours = tautomer.session(path, intra_op_num_threads=1, inter_op_num_threads=1, log_severity_level=4)
    seconds = interleaved({"ours": bound(ours, given), "stock": bound(stock, given)}, rounds)
    return statistics.quantiles(
        [theirs / own for own, theirs in zip(seconds["ours"], seconds["stock"], strict=True)], n=4
    )


def _rows(ops: list[str], rounds: int) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        for op in ops:
            cells = []
            for size in SIZES:
                low, middle, high = ratios(op, *size, Path(folder), rounds)
                bold = "**" * (middle < 1)
                cells.append(f"{bold}{middle:.2f}{bold} ({low:.2f}-{high:.2f})")
            print(op, *cells, sep="  ", file=sys.stderr, flush=True)
            yield f"| {op} | {' | '.join(cells)} |"


def main(arguments: list[str] | None = None) -> int:
    """Prints the table, and writes it when asked to."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gains", description=__doc__.splitlines()[0])
    parser.add_argument("--only", action="append", choices=OPERATORS, help="only this one (repeatable)")
    parser.add_argument("--out", type=Path, help="also write the table here")
    options = parser.parse_args(arguments)
    with_allocator("benchmarks.gains", sys.argv[1:] if arguments is None else arguments)
    before, rounds = os.getloadavg()[0], 15
    text = HEAD.format(
        rounds=rounds,
        sizes=" | ".join(f"{rows} x {columns}" for rows, columns in SIZES),
        rules=" | ".join(["---"] * len(SIZES)),
        rows="\n".join(_rows(options.only or list(OPERATORS), rounds)),
        facts=describe(["onnxruntime", "tautomer", "numpy"]),
        before=before,
        after=os.getloadavg()[0],
    )
    print(text)
    if options.out is not None:
        options.out.write_text(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
