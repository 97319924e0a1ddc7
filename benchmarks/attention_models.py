"""Fused attention inside onnxruntime: alone by number of keys, and a transformer of four layers.

    python -m benchmarks.attention_models [--only sigmoid] [--out benchmarks/results/attention_models.md]

Each model is run by onnxruntime as it is and as `optimize(target="kernels")` makes it, whatever that gains;
one thread, CPU time, in turns, inputs and outputs bound. The figures of attention alone are those of
`Target.attention`. Peak memory is that of a process that runs one of the two and nothing else.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx

import tautomer
from benchmarks import markdown
from benchmarks.attention_text import WEIGHTS, attention, sigmoid_transformer
from benchmarks.machine import describe
from benchmarks.timing import bound, interleaved, load, with_allocator
from tautomer.target import KERNELS

LENGTHS = (16, 64, 128, 512, 2048)
TARGET = replace(KERNELS, attention=dict.fromkeys(WEIGHTS, ((1, 2.0),)))
TOKENS, LAYERS = 2048, 4
MODELS = ((768, False), (768, True), (384, False))
"""Widths, and whether it is causal."""
HEAD = """# Fused attention inside onnxruntime

How many times faster our kernel is inside onnxruntime than onnxruntime's own operators; 12 heads of 64, one
sequence, not masked, float32, one thread, CPU time: the median over rounds, and the quartiles.

| score function | {lengths} |
| --- | {rules} |
{rows}

A pre-norm transformer of {layers} layers with sigmoid attention and heads of 64, on {tokens} tokens.
`at most` is what the ratio would be if attention took no time: the same model with q + k + v in its
place takes its turns, too.

| | ratio of times | at most | peak memory, onnxruntime | peak memory, ours | scores of one layer |
| --- | --- | --- | --- | --- | --- |
{model}

{facts} Load of the machine: {before:.1f} before, {after:.1f} after.
"""


def pair(source: onnx.ModelProto, folder: Path) -> tuple[Path, Path]:
    """The model as it is and as it is optimized, as files."""
    before, after = folder / "before.onnx", folder / "after.onnx"
    onnx.save(source, before)
    done = tautomer.optimize(before, target=TARGET, verify=False)
    assert any("ScoreAttention_" in op for op in done.after), done.remarks
    done.save(after, force=True)
    return before, after


def inputs(session: object, tokens: int) -> dict[str, np.ndarray]:
    """Standard normal inputs."""
    rng = np.random.default_rng(0)
    given = {}
    for item in session.get_inputs():  # type: ignore[attr-defined]
        shape = [size if isinstance(size, int) else {"batch": 1}.get(size, tokens) for size in item.shape]
        given[item.name] = rng.standard_normal(shape).astype(np.float32)
    return given


def session(path: Path, ours: bool) -> object:
    """A session with one thread."""
    if not ours:
        return load(path)
    return tautomer.session(path, intra_op_num_threads=1, inter_op_num_threads=1, log_severity_level=4)


def ratios(before: Path, others: dict[str, object], tokens: int, rounds: int) -> dict[str, str]:
    """How many times faster other sessions are: the median, and the quartiles."""
    stock = session(before, False)
    given = inputs(stock, tokens)
    calls = {name: bound(one, given) for name, one in {**others, "stock": stock}.items()}  # type: ignore[arg-type]
    seconds = interleaved(calls, rounds)
    return {
        name: markdown.ratio(
            statistics.quantiles([a / b for a, b in zip(seconds["stock"], seconds[name], strict=True)], n=4)
        )
        for name in others
    }


def peak(path: Path, ours: bool, tokens: int) -> int:
    """MiB at most resident in a process that runs the model twice."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.attention_models",
        "--child",
        str(path),
        str(int(ours)),
        str(tokens),
    ]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def run_child(path: Path, ours: bool, tokens: int) -> None:
    """Runs a model twice and prints the peak."""
    one = session(path, ours)
    call = bound(one, inputs(one, tokens))  # type: ignore[arg-type]
    call()
    # getrusage would count what the parent had before it started this process
    status = Path("/proc/self/status").read_text()
    print(int(status.split("VmHWM:")[1].split()[0]) >> 10)


def _row(score: str, folder: Path, rounds: int) -> str:
    cells = []
    for length in LENGTHS:
        before, after = pair(attention(score, length), folder)
        cells.append(ratios(before, {"ours": session(after, True)}, length, rounds)["ours"])
    print(score, *cells, sep="  ", file=sys.stderr, flush=True)
    return f"| {score} | {' | '.join(cells)} |"


def _model(width: int, causal: bool, folder: Path, rounds: int) -> str:
    heads = width // 64
    before, after = pair(sigmoid_transformer(LAYERS, width, heads, causal=causal), folder)
    without = folder / "without.onnx"
    onnx.save(sigmoid_transformer(LAYERS, width, heads, attends=False), without)
    others = {"ours": session(after, True), "without": session(without, False)}
    found = ratios(before, others, TOKENS, rounds)
    theirs, own = peak(before, False, TOKENS), peak(after, True, TOKENS)
    scores = heads * TOKENS * TOKENS * 4 >> 20
    cells = (found["ours"], found["without"], *(f"{size} MiB" for size in (theirs, own, scores)))
    row = f"| {'causal' if causal else 'an encoder'}, width {width} | {' | '.join(cells)} |"
    print(row, file=sys.stderr, flush=True)
    return row


def main(arguments: list[str] | None = None) -> int:
    """Prints the tables, and writes them when asked to."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.attention_models", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "--only", action="append", choices=[*WEIGHTS, "models"], help="only this (repeatable)"
    )
    parser.add_argument("--out", type=Path, help="also write the tables here")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child:
        path, ours, tokens = options.child
        run_child(Path(path), ours == "1", int(tokens))
        return 0
    with_allocator("benchmarks.attention_models", sys.argv[1:] if arguments is None else arguments)
    before = os.getloadavg()[0]
    scores = [score for score in WEIGHTS if not options.only or score in options.only]
    models = MODELS if not options.only or "models" in options.only else ()
    with tempfile.TemporaryDirectory() as folder:
        text = HEAD.format(
            lengths=" | ".join(f"{length} keys" for length in LENGTHS),
            rules=" | ".join(["---"] * len(LENGTHS)),
            rows="\n".join(_row(score, Path(folder), 7) for score in scores),
            layers=LAYERS,
            tokens=TOKENS,
            model="\n".join(_model(*each, Path(folder), 5) for each in models),
            facts=describe(["onnxruntime", "tautomer", "numpy"]),
            before=before,
            after=os.getloadavg()[0],
        )
    print(text)
    if options.out is not None:
        options.out.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
