"""Inputs at the thresholds of a piecewise function: on which side a threshold is, only it shows itself.

    x where x >= t, else 0        x where x > t, else 0

differ at x = t alone, which no random number is, and there an ulp of the input explains any error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from tautomer.graph.expression import constant_tensor
from tautomer.graph.fact import Shape
from tautomer.graph.semantics.domain import Unsupported, is_float
from tautomer.graph.semantics.mathematics import Float64
from tautomer.verify.interpreter import run
from tautomer.verify.site import Site

Array = NDArray[np.float64]

_COMPARING = ("Less", "Greater", "LessOrEqual", "GreaterOrEqual", "Equal", "Sign")
_MOVING = ("Identity", "Reshape", "Unsqueeze", "Squeeze", "Flatten", "Expand", "Transpose", "Cast", "Slice")
_WITH_THRESHOLD = {"ThresholdedRelu": ("alpha",), "FatRelu": ("threshold",), "Shrink": ("lambd",)}
_MOST = 16  # inputs that the numbers of one constant are put into
_JUMP = 1e-3  # of the largest element of a result; what is less is left to the judgement of rounding


def thresholds(nodes: Iterable[ir.Node], x: ir.Value, content: Callable[[ir.Value], Any]) -> list[Array]:
    """What is compared with numbers computed from x, and 0 for those that are compared with each other.

    Args:
        nodes: in topological order.
        x: what varies.
        content: gives a value that does not vary with x.
    """
    varying, found = {x}, list[Array]()
    for node in nodes:
        if any(value in varying for value in node.inputs):
            varying.update(node.outputs)
            if node.op_type in _COMPARING:
                fixed = [value for value in node.inputs if value is not None and value not in varying]
                found += [np.asarray(content(value), np.float64) for value in fixed] or [np.zeros(())]
    return found


def inputs_at(numbers: Sequence[Array], shape: tuple[int, ...]) -> Iterator[Array]:
    """Inputs of a shape, each element at a threshold: at its own, where thresholds are broadcast to it."""
    size = int(np.prod(shape, dtype=np.int64))
    for one in numbers:
        ordinary = one[np.isfinite(one)]
        if not size or not ordinary.size:
            continue
        if ordinary.size == one.size and _fits(one.shape, shape):
            yield np.broadcast_to(one, shape).copy()
        else:
            for first in range(0, min(ordinary.size, _MOST * size), size):
                yield np.resize(np.roll(ordinary, -first), shape)


def jump(x: Array, old: Any, new: Any) -> str:
    """Where two results at thresholds part, in words, or ""."""
    before, after = (np.asarray(one, np.float64) for one in (old, new))
    with np.errstate(all="ignore"):
        scale = np.abs(before[np.isfinite(before)]).max(initial=0.0)
        apart = np.isfinite(before) & ~(np.abs(after - before) <= _JUMP * scale)
    if not apart.any():
        return ""
    place = tuple(np.argwhere(apart)[0])
    where = f"x = {x[place]:g}" if x.shape == before.shape else "a threshold"
    return f"at {where}, where a comparison changes sides, {after[place]:g} for {before[place]:g}"


def parted(original: ir.Model, other: ir.Model, inputs: Mapping[str, Any]) -> tuple[int, str]:
    """How many inputs at thresholds were tried, and where two models part there, or "".

    Only what a float input is compared with itself is seen: what is computed from it cannot be put anywhere.

    Args:
        original: the model that decides.
        other: the model compared with it.
        inputs: arrays by name, for both.

    Raises:
        Unsupported: an operator has no meaning in float64.
    """
    tried, m = 0, Float64()
    for name, array in inputs.items():
        if not is_float(np.asarray(array).dtype):
            continue
        numbers = [number for model in (original, other) for number in _compared(model, name)]
        for x in inputs_at(numbers, np.shape(array)):
            at = {**inputs, name: x.astype(array.dtype)}
            tried += 1
            before, after = run(original, m, at), run(other, m, at)
            for output, value in before.items():
                if reason := jump(x, m.concrete(value), m.concrete(after[output])):
                    return tried, f"'{output}' parts {reason}"
    return tried, ""


def site_parted(site: Site, shapes: Mapping[ir.Value, Shape]) -> str:
    """Where the two sides of a rewrite part at a threshold, in words; "" when all is well.

    Args:
        site: the rewrite; its first leaf of numbers is varied.
        shapes: of few rows.
    """
    m, rng = Float64(), np.random.default_rng(12)
    base = {leaf: site.drawn(leaf, shapes[leaf], rng) for leaf in site.leaves}
    varied = next((leaf for leaf, x in base.items() if x.dtype != bool and x.shape), None)
    if varied is None:
        return ""

    def at(x: Any, value: ir.Value) -> Any:
        return m.concrete(site.evaluation(shapes, m, {**base, varied: x}).value(value))

    with suppress(Unsupported, ValueError):
        for x in inputs_at(thresholds(site.between(), varied, partial(at, base[varied])), shapes[varied]):
            if reason := jump(x, at(x, site.old), at(x, site.new)):
                return f"it would give {reason}"
    return ""


def _compared(model: ir.Model, name: str) -> list[Array]:
    """The constants that an input is compared with, itself or moved."""
    stack = [value for value in model.graph.inputs if value.name == name]
    seen, found = set(stack), list[Array]()
    while stack:
        value = stack.pop()
        for node, _ in value.uses():
            if node.op_type in _MOVING:
                stack += [moved for moved in node.outputs if moved not in seen]
                seen.update(node.outputs)
            elif node.op_type in _COMPARING:
                held = [constant_tensor(other) for other in node.inputs if other not in (None, value)]
                found += [np.asarray(one.numpy(), np.float64) for one in held if one is not None]
            elif node.op_type in _WITH_THRESHOLD:
                numbers = [node.attributes.get_float(one, 0.0) for one in _WITH_THRESHOLD[node.op_type]]
                found += [np.asarray(number) for number in numbers]
    return found


def _fits(shape: tuple[int, ...], other: tuple[int, ...]) -> bool:
    try:
        return np.broadcast_shapes(shape, other) == other
    except ValueError:
        return False
