"""Walking back from the operands of attention's products to q, k and v as heads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import onnx_ir as ir

from tautomer.patterns.attention.operators import LAYOUTS
from tautomer.patterns.meaning import compute
from tautomer.patterns.recognition.cone_operators import is_movement
from tautomer.patterns.recognition.cones import ConeFinder
from tautomer.patterns.recognition.evaluation import FAILURES, FLOAT64, constant
from tautomer.patterns.recognition.probe import Array

_MAX_STEPS = 12
_MAX_ELEMENTS = 1 << 21


@dataclass(frozen=True)
class Walked:
    """A value that an operand comes from, the number it was multiplied by, and the nodes in between.

    The layout names the last axes of the value: h heads, m keys, d channels; see `walk_heads` for its own.
    """

    value: ir.Value
    factor: float
    nodes: tuple[ir.Node, ...]
    layout: str = "hmd"
    repeats: int = 1


def walk_query(operand: ir.Value, finder: ConeFinder) -> Walked:
    """q with its scale taken off; its shape stays."""
    best = Walked(operand, 1.0, ())
    for step in _steps(operand, finder):
        if finder.fact(step.value).shape == finder.fact(operand).shape and _is(
            step, operand, finder, lambda x: x
        ):
            best = step
    return best


def walk_value(operand: ir.Value, finder: ConeFinder) -> Walked:
    """v before its heads were repeated."""
    best = Walked(operand, 1.0, ())
    for step in _steps(operand, finder):
        repeats = _repeats(step.value, finder.fact(operand).shape, finder)
        if repeats and _is(step, operand, finder, partial(_repeated, times=repeats)):
            best = step
    return best


def walk_key(operand: ir.Value, finder: ConeFinder) -> Walked:
    """k before its transpose, its scale, and the repetition of its heads.

    Exporters merge the transposes of head and key, so k may exist in one of three layouts only; the axes of
    the walked value are named in its `layout`: "hmd" (heads, keys, channels), "mhd", or "hdm" where k is
    never seen untransposed.
    """
    shape = finder.fact(operand).shape or ()
    rows = (*shape[:-2], *shape[:-3:-1])
    best: dict[str, Walked] = {"hdm": Walked(operand, 1.0, (), "hdm")}
    for step in _steps(operand, finder):
        repeats = _repeats(step.value, rows, finder)
        if repeats and _is(step, operand, finder, partial(_as_columns, times=repeats)):
            best["hmd"] = replace(step, layout="hmd")
        elif len(shape) == 4 and _is(step, operand, finder, lambda x: x.transpose(0, 2, 3, 1)):
            best["mhd"] = replace(step, layout="mhd")
    return best.get("hmd") or best.get("mhd") or best["hdm"]


def walk_heads(operand: ir.Value, finder: ConeFinder, letter: str) -> Walked:
    """Back to the value that an operand of four axes is only a rearrangement of.

    What lies between may transpose axes, repeat heads, cast and multiply by a number.

    Args:
        operand: of a matrix product.
        finder: knows the graph.
        letter: how its axes lie, one of LAYOUTS.

    Returns:
        The walked value with its own letter, and how often its heads are repeated.
    """
    shape = finder.fact(operand).shape or ()
    best = Walked(operand, 1.0, (), letter)
    for step in _steps(operand, finder):
        source = finder.fact(step.value).shape
        if source is None or len(source) != 4 or len(shape) != 4:
            continue
        found = _run(step, operand, finder)
        if found is None:
            continue
        heads = shape[LAYOUTS[letter].index(1)]
        for own, axes in LAYOUTS.items():
            few = source[axes.index(1)]
            if not few or heads % few:
                continue
            wanted = arranged(_numbered(source), own, letter, heads // few) * step.factor
            if found.shape == wanted.shape and bool(np.all(np.abs(found - wanted) <= 1e-12 * np.abs(wanted))):
                best = replace(step, layout=own, repeats=heads // few)
                break
    return best


def arranged(x: Array, layout: str, wanted: str, repeats: int = 1) -> Array:
    """An array whose axes lie in one way, in another; heads repeated."""
    x = x.transpose([LAYOUTS[layout].index(axis) for axis in LAYOUTS[wanted]])
    return np.repeat(x, repeats, axis=LAYOUTS[wanted].index(1)) if repeats > 1 else x


def _repeated(x: Array, times: int) -> Array:
    return np.repeat(x, times, axis=1) if times > 1 else x


def _as_columns(x: Array, times: int) -> Array:
    return np.swapaxes(_repeated(x, times), -1, -2)


def _steps(operand: ir.Value, finder: ConeFinder) -> list[Walked]:
    """The operand and each value before it, through movement, casts and multiplication by a number."""
    steps = [Walked(operand, 1.0, ())]
    while len(steps) <= _MAX_STEPS:
        last = steps[-1]
        node = last.value.producer()
        if node is None or not finder.owns(node):
            break
        if (is_movement(node) and node.op_type not in ("Concat", "Pad", "Slice")) or node.op_type == "Cast":
            source, factor = node.inputs[0], 1.0
        elif node.op_type in ("Mul", "Div") and (scaled := _scaling(node, finder)):
            source, factor = scaled
        else:
            break
        if source is None:
            break
        steps.append(Walked(source, last.factor * factor, (node, *last.nodes)))
    return steps


def _scaling(node: ir.Node, finder: ConeFinder) -> tuple[ir.Value, float] | None:
    a, b = node.inputs
    if a is None or b is None:
        return None
    for value, other in ((a, b), (b, a)) if node.op_type == "Mul" else ((a, b),):
        fact = finder.fact(other)
        if fact.array is not None and fact.array.size == 1:
            number = float(np.asarray(constant(fact, "exact")[0]).reshape(()))
            if number == 0.0:
                return None
            return value, number if node.op_type == "Mul" else 1.0 / number
    return None


def _repeats(value: ir.Value, shape: tuple[int, ...] | None, finder: ConeFinder) -> int:
    """By how much the heads of `value` [b, h, m, d] are repeated to give `shape`; 0 when that is not it."""
    found = finder.fact(value).shape
    if found is None or shape is None or len(found) != len(shape):
        return 0
    if found == shape:
        return 1
    if (
        len(shape) == 4
        and found[1]
        and shape[1] % found[1] == 0
        and (found[0], *found[2:]) == (shape[0], *shape[2:])
    ):
        return shape[1] // found[1]
    return 0


def _is(step: Walked, operand: ir.Value, finder: ConeFinder, expected: Callable[[Array], Array]) -> bool:
    """Runs the nodes of a step and compares with what they should do."""
    found = _run(step, operand, finder)
    if found is None:
        return False
    try:
        wanted = expected(_numbered(finder.fact(step.value).shape or ())) * step.factor
    except FAILURES:
        return False
    return found.shape == wanted.shape and bool(np.all(np.abs(found - wanted) <= 1e-12 * np.abs(wanted)))


def _numbered(shape: tuple[int, ...]) -> Array:
    """Content in which every element is told from every other."""
    return np.arange(1.0, 1.0 + int(np.prod(shape))).reshape(shape)


def _run(step: Walked, operand: ir.Value, finder: ConeFinder) -> Array | None:
    """What the nodes of a step make of numbered content; None where that cannot be computed."""
    shape = finder.fact(step.value).shape
    if shape is None:
        return None
    sizes = [finder.fact(value).size for value in (step.value, *(node.outputs[0] for node in step.nodes))]
    if any(size is None or size > _MAX_ELEMENTS for size in sizes):
        return None
    values: dict[ir.Value, Array] = {step.value: _numbered(shape)}
    try:
        for node in step.nodes:
            inputs = []
            for value in node.inputs:
                if value is None or value in values:
                    inputs.append(None if value is None else values[value])
                    continue
                fact = finder.fact(value)
                if fact.array is None:
                    return None
                inputs.append(constant(fact, "exact")[0])
            values[node.outputs[0]] = compute(FLOAT64, finder.call(node), inputs)[0]
        return values[operand]
    except FAILURES:
        return None
