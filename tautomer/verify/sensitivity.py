"""How far two models are apart on one set of inputs, and how far moving what they do not share moves each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from tautomer.graph.semantics.domain import is_float
from tautomer.graph.semantics.mathematics import Float64
from tautomer.verify.distances import Logs, log_distance, log_size, worst_by_row
from tautomer.verify.interpreter import run
from tautomer.verify.nudges import Nudge, Strangers

Inputs = Mapping[str, Any]

_NOISE = 4.0  # the limit takes it four times again


@dataclass(frozen=True)
class Found:
    """One output on one set of inputs.

    Attributes:
        ratio: the largest delta / kappa of a row.
        difference: the largest delta, in units of the largest element.
        moved: the largest kappa, in the same units.
        above_noise: the largest kappa, in units of what float64 itself may lose.
    """

    ratio: float
    difference: float
    moved: float
    above_noise: float


def measured(
    models: tuple[ir.Model, ir.Model],
    strangers: Strangers,
    m: Any,
    enter: Callable[[Any], Any],
    inputs: Inputs,
    draws: int,
    *,
    noise: bool = True,
    strict: bool = True,
) -> dict[str, Found]:
    """Measures every output.

    Args:
        models: the two.
        strangers: what they do not share.
        m: the domain to evaluate them in.
        enter: makes a value of it out of a float input.
        inputs: arrays by name.
        draws: how often each model is moved.
        noise: measure what float64 loses, too.
        strict: where one model has a number and the other has none, they differ.
    """
    reads = isinstance(m, Float64)  # balls read by themselves
    given = {name: enter(x) if is_float(np.asarray(x).dtype) else x for name, x in inputs.items()}
    read = Nudge(frozenset(), reads=reads).constants
    first, second = results = [run(model, m, given, constants=read) for model in models]

    def changes(least: bool, count: int) -> dict[str, list[NDArray[Any]]]:
        found: dict[str, list[NDArray[Any]]] = {name: [] for name in first}
        for model, result in zip(models, results, strict=True):
            for draw in range(count):
                nudge = Nudge(strangers.values, draw, least, reads)
                moved = run(model, m, given, constants=nudge.constants, rows=nudge.rows)
                for name in found:
                    found[name].append(_apart(m, result[name], moved[name]))
        return found

    kappas = changes(False, draws)
    noises = changes(True, 1) if noise else {name: [] for name in first}
    found = {}
    for name, a in first.items():
        delta = _apart(m, a, second[name])
        if strict:
            delta = np.where(np.isnan(delta), np.inf, delta)
        size = log_size(a) if m.is_value(a) else 0.0
        found[name] = _judged(delta, kappas[name], noises[name], size)
    return found


def _judged(delta: Logs, kappas: Sequence[Logs], noises: Sequence[Logs], size: float) -> Found:
    deltas, kappa = worst_by_row(delta), _largest(delta, kappas)
    noise = _largest(delta, noises) + np.log2(_NOISE)
    granted = np.maximum(kappa, noise)
    with np.errstate(invalid="ignore"):
        ratios = np.where(deltas == -np.inf, -np.inf, deltas - granted)
    top = float(np.max(kappa))
    return Found(
        _power(float(np.max(ratios))),
        _power(float(np.max(deltas)) - size),
        _power(top - size),
        _power(top - float(np.max(noise))) if top > -np.inf else 0.0,
    )


def _largest(like: Logs, changes: Sequence[Logs]) -> Logs:
    # a model that gives other shapes when it is moved says nothing
    rows = [worst_by_row(one) for one in changes if one.shape == like.shape and not np.isposinf(one).any()]
    return np.max(rows, axis=0) if rows else np.full(worst_by_row(like).shape, -np.inf)


def _power(log: float) -> float:
    """2^log; -inf - -inf, of nothing by nothing, is nothing."""
    if np.isnan(log):
        return 0.0
    return float(np.exp2(log)) if log < 1e3 else float("inf")


def _apart(m: Any, a: Any, b: Any) -> Logs:
    """The distance; of integers, whether they differ; of other shapes, an infinite one."""
    floats = m.is_value(a), m.is_value(b)
    shapes = [m.shape(x) if is_value else np.shape(x) for x, is_value in zip((a, b), floats, strict=True)]
    if floats[0] != floats[1] or shapes[0] != shapes[1]:
        return np.full(1, np.inf)
    if floats[0]:
        return log_distance(a, b)
    return np.where(np.asarray(a) != np.asarray(b), 0.0, -np.inf)
