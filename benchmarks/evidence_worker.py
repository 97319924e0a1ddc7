"""A child process that optimizes and verifies files, so that a crash or a long run costs one answer only.

Beside the verdict it measures, with the same inputs and with rows of many scales and offsets:

    max |a - b| / max |a| over a row, evaluated in float64 by the interpreter and in float32 by onnxruntime.

A wrong rewrite shows in both; a constant that was folded in float32 shows near 1e-7 in both.
"""

from __future__ import annotations

import multiprocessing
import resource
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

_SCALES = np.array([1.0, 4e-3, 0.0, 20.0, 5e-5, 1e-2, 3.0])  # the third row is constant
_OFFSETS = np.array([0.0, 0.0, 2.0, -7.0, 0.0, 0.5, 0.0])
_TINY = 1e-6
Answer = dict[str, Any]


class Worker:
    """Asks a child process; starts another one when it dies or takes too long."""

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._start()

    def ask(self, tool: str, source: Path, target: Path, limit: float) -> Answer:
        """Optimizes with a tool ("" when the target is there already) and verifies."""
        try:
            self._pipe.send((tool, source, target))
            if self._pipe.poll(limit):
                answer: Answer = self._pipe.recv()
                return answer
            reason = f"no answer within {limit:.0f} s"
        except (EOFError, OSError):
            reason = "the process died"
        self.close()
        self._start()
        return {"verdict": "NOT VERIFIED", "reason": reason}

    def close(self) -> None:
        """Ends the child."""
        self._process.kill()
        self._process.join()

    def _start(self) -> None:
        self._pipe, far = self._context.Pipe()
        self._process = self._context.Process(target=_serve, args=(far,), daemon=True)
        self._process.start()
        far.close()


def _serve(pipe: Any) -> None:
    from benchmarks.exports import silence

    with suppress(EOFError), silence():
        while True:
            tool, source, target = pipe.recv()
            try:
                pipe.send(_answer(tool, source, target))
            except Exception as error:
                pipe.send({"verdict": "NOT VERIFIED", "reason": f"{type(error).__name__}: {error}"[:300]})


def _answer(tool: str, source: Path, target: Path) -> Answer:
    import tautomer
    from benchmarks.peers import PEERS

    if tool:
        try:
            next(peer for peer in PEERS if peer.name == tool).run(source, target)
        except Exception as error:
            return {"verdict": "tool failed", "reason": f"{type(error).__name__}: {error}"[:200]}
    start = time.perf_counter()
    verdict = tautomer.verify(source, target)
    done: Answer = {
        "verdict": verdict.verdict,
        "reason": verdict.reason,
        "divergence": dict(verdict.first_divergence or {}),
        "seconds": time.perf_counter() - start,
        "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "method": _method(verdict.legs["algebra"].detail),
    }
    if verdict.verdict == "DIFFERENT":
        done["differences"] = differences(source, target)
        done["lost"] = sorted(tiny(source)) if not tiny(target) else []
    return done


def _method(detail: Mapping[str, Any]) -> str:
    checks = detail.get("checks", ())
    return (
        f"{checks[0]['method']}; {' and '.join(one['weights'] for one in checks)} weights" if checks else ""
    )


def differences(source: Path, target: Path) -> dict[str, float]:
    """How far two models are apart in float64 and in onnxruntime; infinity where only one has numbers."""
    from tautomer.graph.reader import as_model
    from tautomer.graph.semantics.mathematics import Float64
    from tautomer.runtime.equivalence import made_inputs
    from tautomer.runtime.session import session_of
    from tautomer.verify.interpreter import run

    models = as_model(source), as_model(target)
    _, made = made_inputs(models[0])
    fed = [*made, *({name: wild(x) for name, x in one.items()} for one in made)]
    found: dict[str, float] = {}
    with suppress(Exception):
        found["float64"] = max(apart(*(run(m, Float64(), one) for m in models)) for one in fed)
    with suppress(Exception), session_of(models[0], "a") as first, session_of(models[1], "b") as second:
        found["onnxruntime"] = max(apart(first(one), second(one)) for one in fed)
    return found


def tiny(path: Path) -> set[float]:
    """The positive numbers below 1e-6 that a model holds as scalars or attributes: epsilons."""
    import onnx

    model = onnx.load(path)
    held = [
        *model.graph.initializer,
        *(a.t for node in model.graph.node for a in node.attribute if a.HasField("t")),
    ]
    numbers = [
        float(x.item())
        for t in held
        if (x := onnx.numpy_helper.to_array(t)).size == 1 and x.dtype.kind == "f"
    ]
    numbers += [
        a.f for node in model.graph.node for a in node.attribute if a.type == onnx.AttributeProto.FLOAT
    ]
    return {number for number in numbers if 0.0 < number < _TINY}


def wild(x: np.ndarray) -> np.ndarray:
    """Rows of many scales and offsets; what is no float stays."""
    if x.dtype.kind != "f" or not x.ndim:
        return x
    rows = x.reshape(-1, x.shape[-1])
    turn = np.arange(len(rows)) % len(_SCALES)
    return np.asarray(rows * _SCALES[turn, None] + _OFFSETS[turn, None]).astype(x.dtype).reshape(x.shape)


def apart(a: Mapping[str, Any], b: Mapping[str, Any]) -> float:
    """The largest difference in units of the largest element of its row."""
    worst = 0.0
    for name, value in a.items():
        first, second = (np.atleast_1d(np.asarray(x, np.float64)) for x in (value, b[name]))
        if first.shape != second.shape or np.any(np.isfinite(first) != np.isfinite(second)):
            return float("inf")
        with np.errstate(all="ignore"):
            gap = np.abs(np.where(np.isfinite(first), first - second, 0.0))
            size = np.max(np.abs(np.where(np.isfinite(first), first, 0.0)), axis=-1, keepdims=True)
        worst = max(worst, float(np.max(gap / np.maximum(size, 1e-30), initial=0.0)))
    return worst
