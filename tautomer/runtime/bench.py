"""How long models take in onnxruntime, in turns and on the same inputs, with its own optimizations on."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx_ir as ir

from tautomer.errors import CheckFailedError, InputError
from tautomer.graph.facts import bind_symbols
from tautomer.graph.naming import printable
from tautomer.graph.reader import read_model
from tautomer.graph.symbols import size_of
from tautomer.runtime.kernel_session import session
from tautomer.runtime.tuning import in_turns
from tautomer.verify.given_inputs import parse_npz
from tautomer.verify.inputs import make_inputs
from tautomer.verify.pairing import check_signatures


@dataclass(frozen=True)
class Timing:
    """What a model took.

    Attributes:
        path: of its file.
        milliseconds: of a run, the median over the rounds.
        ratio: the first model's time in times of this one's, the median over the rounds.
        quartiles: of these ratios.
    """

    path: Path
    milliseconds: float
    ratio: float
    quartiles: tuple[float, float]


def bench(
    paths: Sequence[Path],
    *,
    sizes: Mapping[str, int] | None = None,
    inputs: Path | None = None,
    threads: int = 1,
    rounds: int = 21,
    progress: Callable[[str], None] | None = None,
) -> list[Timing]:
    """Times models by `tautomer.session`, in turns, so that what else the machine does falls on all of them.

    One thread is timed by its own processor time, several by the clock on the wall.

    Args:
        paths: of the models; the others are compared with the first.
        sizes: of the axes that the first model leaves open, by name.
        inputs: an .npz file of arrays by name, in the place of random ones.
        threads: of onnxruntime.
        rounds: in each of which every model runs, for two milliseconds at least.
        progress: called with one line per stage.

    Raises:
        InputError: the models take different inputs, a size is open, or inputs cannot be made.
        BadModelError: a file is no model, or onnxruntime does not load it.
        CheckFailedError: onnxruntime does not run a model on the inputs.
        MissingToolError: onnxruntime is not installed.
    """
    tell = progress or (lambda line: None)
    first, *others = [read_model(path) for path in paths]
    for other in others:
        check_signatures(first, other)
    arrays = (
        parse_npz(inputs, first) if inputs else make_inputs(first, _all_sizes(first, sizes or {}), seed=1)
    )
    calls = []
    for path in paths:
        tell(f"loading {path}")
        calls.append(_call(path, arrays, threads))
    tell("timing")
    times = in_turns(calls, rounds, time.thread_time_ns if threads == 1 else time.perf_counter_ns)
    return [_timing(path, times[0], own) for path, own in zip(paths, times, strict=True)]


def _timing(path: Path, first: Sequence[float], own: Sequence[float]) -> Timing:
    ratios = [a / b for a, b in zip(first, own, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return Timing(path, statistics.median(own) / 1e6, middle, (low, high))


def _all_sizes(model: ir.Model, given: Mapping[str, int]) -> dict[str, int]:
    """The sizes that were given, and those that follow from them.

    Raises:
        InputError: one is missing, or there is none of that name.
    """
    symbols = list(bind_symbols(model))
    shown = [printable(symbol) for symbol in symbols]
    for name in given:
        if name not in symbols:
            raise InputError(
                "the model has no open size of that name",
                where=f"--size {printable(name)}",
                remedy=f"its open sizes are {', '.join(shown)}" if shown else "all its sizes are fixed",
            )
    known = {symbol: size_of(symbol, given) for symbol in symbols}
    missing = [symbol for symbol, size in known.items() if size is None]
    if missing:
        raise InputError(
            f"the model leaves sizes open: {', '.join(map(printable, missing))}",
            remedy=f"say what to time: {' '.join(f'--size {printable(name)}=N' for name in missing)}",
        )
    return {symbol: size for symbol, size in known.items() if size is not None}


def _call(path: Path, arrays: Mapping[str, Any], threads: int) -> Callable[[], Any]:
    """A run of a model that is known to succeed."""
    loaded = session(path, intra_op_num_threads=threads, inter_op_num_threads=1, log_severity_level=4)
    taken = {item.name: arrays[item.name] for item in loaded.get_inputs() if item.name in arrays}
    try:
        loaded.run(None, taken)
    except Exception as error:  # onnxruntime's own classes derive from nothing narrower
        reason = printable(str(error).strip().split("\n")[0], 300)
        raise CheckFailedError(
            f"onnxruntime does not run the model: {reason}",
            where=printable(str(path), 400),
            remedy="give inputs that it takes (--inputs FILE.npz)",
        ) from error
    return lambda: loaded.run(None, taken)
