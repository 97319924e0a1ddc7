"""Times models in onnxruntime in turns, on the same inputs. Every ratio is to the first model.

One thread is timed by its own processor time, several by the clock on the wall. Operators of the domain
`tautomer` run by their kernels, as in `tautomer.session`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from tautomer.cli.options import add_json
from tautomer.cli.output import Console

HELP = "time models in onnxruntime, in turns"
EXAMPLES = ("bench model.onnx fast.onnx", "bench model.onnx fast.onnx --size batch=8 --threads 4")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the verb's arguments."""
    parser.add_argument("models", type=Path, metavar="MODEL", nargs="+", help=".onnx files with equal inputs")
    add_json(parser)
    parser.add_argument(
        "--size",
        type=_size,
        action="append",
        default=[],
        metavar="NAME=N",
        help="of an axis that the model leaves open, as batch=1 (repeatable)",
    )
    parser.add_argument(
        "--inputs", type=Path, metavar="FILE.npz", help="inputs by name, instead of random ones"
    )
    parser.add_argument("--threads", type=_count, default=1, metavar="N", help="of onnxruntime (default: 1)")
    parser.add_argument("--rounds", type=_rounds, default=21, metavar="N", help="at least 3 (default: 21)")


def run(options: argparse.Namespace, console: Console) -> int:
    """Times them and prints what they took."""
    from tautomer.runtime.bench import bench
    from tautomer.runtime.machine import this_machine

    sizes, threads, machine = dict(options.size), options.threads, this_machine().name
    timings = bench(
        options.models,
        sizes=sizes,
        inputs=options.inputs,
        threads=threads,
        rounds=options.rounds,
        progress=console.progress,
    )
    if options.json:
        models = [
            {
                "path": str(one.path),
                "milliseconds": round(one.milliseconds, 4),
                "ratio": round(one.ratio, 4),
                "quartiles": [round(each, 4) for each in one.quartiles],
            }
            for one in timings
        ]
        asked = {"sizes": sizes, "threads": threads, "rounds": options.rounds, "machine": machine}
        console.json({"models": models, **asked})
        return 0
    rows = [
        (str(one.path), f"{one.milliseconds:.3f}", f"{one.ratio:.3f}", f"{low:.2f}-{high:.2f}")
        for one in timings
        for low, high in [one.quartiles]
    ]
    console.table(("model", "ms", "times as fast", "quartiles"), rows)
    shown = "".join(f", {name}={size}" for name, size in sizes.items())
    how = "1 thread, its processor time" if threads == 1 else f"{threads} threads, time on the wall"
    console.result(f"{machine}: {how}, {options.rounds} rounds{shown}")
    return 0


def _size(text: str) -> tuple[str, int]:
    name, _, number = text.rpartition("=")
    if not name or not number.isdecimal():
        raise argparse.ArgumentTypeError(f"'{text}' is not of the form NAME=N, such as batch=1")
    return name, int(number)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no number of threads")
    return int(text)


def _rounds(text: str) -> int:
    if not text.isdecimal() or int(text) < 3:
        raise argparse.ArgumentTypeError(f"'{text}' is too few: a median and its quartiles need 3 rounds")
    return int(text)
