"""Peak memory and seconds on a model that is larger than memory ought to be.

    python -m benchmarks.large_model [--gigabytes N] [--folder DIR] [--limit-gigabytes N]

The model's weights are holes in a file but for some rows, so that 8 GB take a few megabytes of disk, and the
zeros of the result take none either. Optimizing runs in a process of its own; afterwards some rows of some
weights that it wrote are compared with numpy. Everything is deleted.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from benchmarks.machine import describe
from benchmarks.sparse_model import Sizes, filled_rows, of_gigabytes, write_sparse

CENTRED = ("out", "down")
"""The linear maps of a layer that write to the residual stream."""


def peak_bytes() -> int:
    """The most memory this process ever had, pages of files included."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith("VmHWM:")))


def optimized(source: Path, target: Path) -> dict[str, Any]:
    """Optimizes and saves in this process, with a line for each stage."""
    import tautomer

    start = time.perf_counter()

    def tell(line: str) -> None:
        seconds = time.perf_counter() - start
        print(f"  {seconds:6.1f} s  {peak_bytes() / 1e6:6.0f} MB  {line}", file=sys.stderr, flush=True)

    result = tautomer.optimize(source, norm="rms", verify=False, progress=tell)
    tell("save")
    result.save(target)
    tell("done")
    norms = sum(remark.op == "LayerNormalization" and remark.kind == "passed" for remark in result.remarks)
    return {
        "peak": peak_bytes(),
        "seconds": time.perf_counter() - start,
        "processor": time.process_time(),
        "norms": norms,
        "stages": result.stages,
    }


class Stored:
    """The weights of a model file, one row at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        graph = onnx.load(str(path), load_external_data=False).graph
        self.nodes = {node.name: node for node in graph.node}
        self.tensors = {tensor.name: tensor for tensor in graph.initializer}

    def row(self, name: str, row: int) -> np.ndarray:
        """A row of a matrix of float32 outside the model file."""
        tensor = self.tensors[name]
        entries = {entry.key: entry.value for entry in tensor.external_data}
        begin = int(entries.get("offset", 0)) + 4 * row * tensor.dims[1]
        return np.fromfile(self.path.parent / entries["location"], np.float32, tensor.dims[1], offset=begin)


def wrong_rows(source: Path, target: Path, sizes: Sizes) -> list[str]:
    """The rows of centred weights that are not W - mean(W), rounded once; the empty list is the good one."""
    before, after = Stored(source), Stored(target)
    weights = [(f"layer{layer}.{name}", 1) for layer in (0, sizes.layers - 1) for name in CENTRED]
    wrong = []
    for node, operand in [*weights, ("positions", 0)]:
        name, new = before.nodes[node].input[operand], after.nodes[node].input[operand]
        for row in (0, *filled_rows(before.tensors[name].dims[0])):
            wide = before.row(name, row).astype(np.float64)
            if not np.array_equal((wide - wide.mean()).astype(np.float32), after.row(new, row)):
                wrong.append(f"{name}[{row}]")
    return wrong


def main(arguments: list[str] | None = None) -> int:
    """Prints one line of results; 1 when memory or a row is not as it should be."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.large_model", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--gigabytes", type=float, default=8.0, help="of weights (default: 8)")
    parser.add_argument("--folder", type=Path, help="where the files go (default: the system's)")
    parser.add_argument("--limit-gigabytes", type=float, default=1.5, help="of memory (default: 1.5)")
    parser.add_argument("--child", nargs=2, type=Path, metavar=("SOURCE", "TARGET"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child:
        print(json.dumps(optimized(*options.child)))
        return 0
    sizes = of_gigabytes(options.gigabytes)
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        source, target = Path(scratch) / "large.onnx", Path(scratch) / "optimized.onnx"
        write_sparse(source, sizes)
        print(f"{sizes.layers} layers, {sizes.bytes / 1e9:.1f} GB of weights", file=sys.stderr, flush=True)
        command = [sys.executable, "-m", "benchmarks.large_model", "--child", str(source), str(target)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        facts = json.loads(done.stdout.strip().splitlines()[-1])
        wrong = wrong_rows(source, target, sizes)
    stages = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in facts["stages"].items())
    peak, seconds, processor = facts["peak"] / 1e9, facts["seconds"], facts["processor"]
    print(
        f"{sizes.bytes / 1e9:.1f} GB: peak {peak:.2f} GB, {seconds:.0f} s ({stages}; {processor:.0f} s of "
        f"the processor), {facts['norms']} norms converted, rows as in numpy: {'no: ' if wrong else 'all'}"
        f"{', '.join(wrong)}"
    )
    print(describe(["tautomer", "numpy", "onnx-ir"]))
    return int(bool(wrong) or facts["peak"] > options.limit_gigabytes * 1e9)


if __name__ == "__main__":
    sys.exit(main())
