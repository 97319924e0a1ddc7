"""Heads of a large vocabulary in onnxruntime: time and peak memory, with and without all logits at once.

    python -m benchmarks.heads [--rows 1024] [--features 256] [--vocabulary 131072] [--rounds 5] [--open]

Each head reads x W: the log-probability of one token per row, cross-entropy, and the spherical Z-loss. Times
are of the process, on one thread, the ways interleaved; memory is the peak of a child process for each way,
less what it had before the run. `--open` leaves the number of rows open in the models.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnxruntime

import tautomer
from benchmarks.cross_entropy import high_water

WAYS = ("onnxruntime", "rewritten", "kernels")
HEADS = {
    "log-probability of a token": """
        i = Unsqueeze (t, one)
        p = LogSoftmax <axis = -1> (z)
        c = GatherElements <axis = 1> (p, i)
        y = Squeeze (c, one)""",
    "cross-entropy": "y = SoftmaxCrossEntropyLoss <ignore_index = -100> (z, t)",
    "spherical Z-loss": """
        i = Unsqueeze (t, one)
        c = GatherElements <axis = 1> (z, i)
        mu = ReduceMean (z, one)
        q = Mul (z, z)
        m2 = ReduceMean (q, one)
        mm = Mul (mu, mu)
        v = Sub (m2, mm)
        s = Sqrt (v)
        d = Sub (mu, c)
        e = Add (s, eps)
        r = Div (d, e)
        l = Softplus (r)
        y = ReduceSum <keepdims = 0> (l)""",
}


def model(head: str, rows: int | str, features: int, vocabulary: int) -> onnx.ModelProto:
    """x [rows, features] and targets [rows] to what the head gives; the matrix is random."""
    shape = f"float[{rows}]" if "Squeeze (c" in HEADS[head] else "float"
    text = f"""<ir_version: 10, opset_import: ["": 20]>
    head (float[{rows}, {features}] x, int64[{rows}] t) => ({shape} y)
    <int64[1] one = {{1}}, float eps = {{1e-12}}> {{ z = MatMul (x, w) {HEADS[head]} }}"""
    made = onnx.parser.parse_model(text)
    w = np.random.default_rng(0).standard_normal((features, vocabulary), np.float32) * features**-0.5
    made.graph.initializer.append(onnx.numpy_helper.from_array(w, "w"))
    return made


def inputs(rows: int, features: int, vocabulary: int) -> dict[str, Any]:
    """x and t."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal((rows, features), np.float32)
    return {"x": x, "t": rng.integers(0, vocabulary, rows)}


def session(path: Path, way: str) -> onnxruntime.InferenceSession:
    """A file in onnxruntime on one thread, with our kernels where the way has them."""
    if way == "kernels":
        return tautomer.session(path, intra_op_num_threads=1, inter_op_num_threads=1)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def written(head: str, folder: Path, sizes: tuple[int, int, int], open_rows: bool) -> dict[str, Path]:
    """The files of a head, by way."""
    source = model(head, "rows" if open_rows else sizes[0], *sizes[1:])
    files = {way: folder / f"{way}.onnx" for way in WAYS}
    onnx.save(source, files["onnxruntime"])
    for way, target in (("rewritten", "onnxruntime"), ("kernels", "kernels")):
        tautomer.optimize(source, target=target, verify=False).save(files[way], force=True)
    return files


def peak(path: Path, way: str, sizes: tuple[int, int, int]) -> float:
    """Megabytes that a run adds to the peak of a process that has loaded the model."""
    command = [sys.executable, "-m", "benchmarks.heads", "--child", str(path), "--way", way]
    for name, size in zip(("--rows", "--features", "--vocabulary"), sizes, strict=True):
        command += [name, str(size)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def child(path: Path, way: str, sizes: tuple[int, int, int]) -> None:
    """Prints what a run adds to the peak."""
    run, fed = session(path, way), inputs(*sizes)
    held = np.ones(max(0, high_water() - resident()) * 128)  # until what loading needed is in use again
    before = high_water()
    run.run(None, fed)
    print((high_water() - before) / 1024)
    del held


def resident() -> int:
    """The memory that this program has now, in kB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1024)
    parser.add_argument("--features", type=int, default=256)
    parser.add_argument("--vocabulary", type=int, default=131072)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--open", action="store_true")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    sizes = chosen.rows, chosen.features, chosen.vocabulary
    if chosen.child:
        child(chosen.child, chosen.way, sizes)
        return
    print("| head | way | seconds | ratio | peak memory, MB | ratio |")
    print("| --- | --- | --- | --- | --- | --- |")
    fed = inputs(*sizes)
    for head in HEADS:
        with tempfile.TemporaryDirectory() as folder:
            files = written(head, Path(folder), sizes, chosen.open)
            memory = {way: peak(path, way, sizes) for way, path in files.items()}
            runs = {way: session(path, way) for way, path in files.items()}
            times: dict[str, list[float]] = {way: [] for way in WAYS}
            for _ in range(chosen.rounds):
                for way, run in runs.items():
                    start = time.process_time()
                    run.run(None, fed)
                    times[way].append(time.process_time() - start)
            stock, most = float(np.median(times["onnxruntime"])), memory["onnxruntime"]
            for way in WAYS:
                seconds = float(np.median(times[way]))
                print(
                    f"| {head} | {way} | {seconds:.2f} | {stock / seconds:.2f} "
                    f"| {memory[way]:.0f} | {memory[way] / most:.2f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
