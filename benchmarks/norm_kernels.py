"""What norms and their neighbours cost in onnxruntime: nanoseconds an element, one thread.

    python -m benchmarks.norm_kernels [--quick]

A graph with 17 links of the same operation is timed against one with a single link; the difference over 16
is an operation without the cost of a call. Graphs run as they are written, with the runtime's own
optimizations off, and write in place where it lets them. CPU time, medians of rounds in which the cases take
turns.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Iterable

import numpy as np
from onnx import numpy_helper, parser

from benchmarks.machine import describe
from benchmarks.timing import bound, interleaved, load, with_allocator

SHAPES = ((128, 256), (128, 768), (128, 1024), (1024, 256), (1024, 768), (1024, 1024))
LINKS = 17

_LN = "LayerNormalization <axis = -1> ({0}, g, b)"
_SIMPLE = "SimplifiedLayerNormalization <axis = -1, epsilon = 1e-5> ({0}, g)"
_RMS = "RMSNormalization <axis = -1> ({0}, g)"
_SKIP = "com.microsoft.SkipLayerNormalization <epsilon = 1e-5> ({0}, y, g, b)"
_SKIP_SIMPLE = "com.microsoft.SkipSimplifiedLayerNormalization <epsilon = 1e-5> ({0}, y, g)"
# {0} is what the link before made, {1} a name of this link's own, {2} what it makes.
CASES: dict[str, str] = {
    "LayerNormalization": "{2} = " + _LN,
    "RMSNormalization": "{2} = " + _RMS,
    "SimplifiedLayerNormalization": "{2} = " + _SIMPLE,
    "Add": "{2} = Add({0}, y)",
    "Sum": "{2} = Sum({0}, y)",
    "Add + LayerNormalization": "{1} = Add({0}, y) {2} = " + _LN.replace("{0}", "{1}"),
    "Sum + LayerNormalization": "{1} = Sum({0}, y) {2} = " + _LN.replace("{0}", "{1}"),
    "SkipLayerNormalization": "{2} = " + _SKIP,
    "Add + RMSNormalization": "{1} = Add({0}, y) {2} = " + _RMS.replace("{0}", "{1}"),
    "Sum + RMSNormalization": "{1} = Sum({0}, y) {2} = " + _RMS.replace("{0}", "{1}"),
    "Add + SimplifiedLayerNormalization": "{1} = Add({0}, y) {2} = " + _SIMPLE.replace("{0}", "{1}"),
    "SkipSimplifiedLayerNormalization": "{2} = " + _SKIP_SIMPLE,
    "Add of a bias row": "{2} = Add({0}, b)",
    "ReduceMean + Sub (centring)": "{1} = ReduceMean <keepdims = 1> ({0}, last) {2} = Sub({0}, {1})",
    "Gather of row means + Sub": "{1} = Gather(means, rows) {2} = Sub({0}, {1})",
}


def chain(case: str, rows: int, width: int, links: int) -> bytes:
    """A model with that many links of a case."""
    body = "\n".join(CASES[case].format(f"x{i}", f"t{i}", f"x{i + 1}") for i in range(links))
    size = f"float[1,{rows},{width}]"
    # one more link that all cases share: the graph's output is never written in place
    model = parser.parse_model(
        f'<ir_version: 10, opset_import: ["": 23, "com.microsoft": 1]>'
        f"chain ({size} x0, {size} y) => ({size} out) {{ {body} out = Neg(x{links}) }}"
    )
    rng = np.random.default_rng(0)
    constants = {
        "g": rng.standard_normal(width).astype(np.float32) * 0.1 + 1,
        "b": rng.standard_normal(width).astype(np.float32),
        "means": rng.standard_normal((100, 1)).astype(np.float32),
        "rows": rng.integers(0, 100, (1, rows)),
        "last": np.array([-1]),
    }
    read = {name for node in model.graph.node for name in node.input}
    kept = [numpy_helper.from_array(value, name) for name, value in constants.items() if name in read]
    model.graph.initializer.extend(kept)
    serialized: bytes = model.SerializeToString()
    return serialized


def per_element(rows: int, width: int, rounds: int) -> dict[str, float]:
    """Nanoseconds an element of each case: the median over rounds."""
    rng = np.random.default_rng(1)
    inputs = {name: rng.standard_normal((1, rows, width)).astype(np.float32) for name in ("x0", "y")}
    calls = {
        f"{case} {links}": bound(load(chain(case, rows, width, links), optimized=False), inputs)
        for case in CASES
        for links in (1, LINKS)
    }
    seconds = interleaved(calls, rounds)
    scale = 1e9 / (rows * width * (LINKS - 1))
    return {
        case: statistics.median(
            scale * (many - one)
            for many, one in zip(seconds[f"{case} {LINKS}"], seconds[f"{case} 1"], strict=True)
        )
        for case in CASES
    }


def table(shapes: Iterable[tuple[int, int]], rounds: int) -> list[str]:
    """A row for each case, a column for each shape."""
    columns = {shape: per_element(*shape, rounds) for shape in shapes}
    lines = [
        "| nanoseconds an element | " + " | ".join(f"{rows} x {width}" for rows, width in columns) + " |",
        "|---|" + "---|" * len(columns),
    ]
    for case in CASES:
        lines.append(f"| {case} | " + " | ".join(f"{costs[case]:.2f}" for costs in columns.values()) + " |")
    return lines


def main(arguments: list[str] | None = None) -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.norm_kernels", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--quick", action="store_true", help="two shapes, few rounds")
    options = parser.parse_args(arguments)
    with_allocator("benchmarks.norm_kernels", sys.argv[1:] if arguments is None else arguments)
    print(*table(SHAPES[:2] if options.quick else SHAPES, 5 if options.quick else 21), sep="\n")
    print(f"\n{describe(['onnxruntime', 'onnx'])}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
