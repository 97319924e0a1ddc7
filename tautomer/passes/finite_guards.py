"""Guards against NaN and infinities, torch's nan_to_num as exporters write it.

    Where(v > 0 and isinf v, m, Where(v < 0 and isinf v, -m, Where(isnan v, 0, v)))

m is the largest number of the type. Where v is never infinite, the last of these is enough.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from tautomer.graph.build import Builder
from tautomer.passes.workspace import Workspace

_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Guard:
    """A guard of a float32 tensor.

    Attributes:
        value: what is guarded.
        nodes: the last of them gives the result.
    """

    value: ir.Value
    nodes: tuple[ir.Node, ...]


def guard_of(work: Workspace, node: ir.Node) -> Guard | None:
    """The guard that ends with a node, if one does."""
    nodes: list[ir.Node] = []
    last: ir.Node | None = node
    for sign in (1.0, -1.0):
        if last is None or last.op_type != "Where" or not _is(work, last.inputs[1], sign * _LARGEST):
            return None
        nodes.append(last)
        last = None if last.inputs[2] is None else last.inputs[2].producer()
    if last is None or last.op_type != "Where" or not _is(work, last.inputs[1], 0.0):
        return None
    value, test = last.inputs[2], _made(last.inputs[0])
    if value is None or test is None or test.op_type != "IsNaN" or test.inputs[0] is not value:
        return None
    nodes += [last, test]
    for where, comparison in zip(nodes[:2], ("Greater", "Less"), strict=True):
        both = _made(where.inputs[0])
        tests = [] if both is None or both.op_type != "And" else [_made(each) for each in both.inputs]
        known = {each.op_type: each for each in tests if each is not None}
        if set(known) != {comparison, "IsInf"} or any(each.inputs[0] is not value for each in known.values()):
            return None
        if not _is(work, known[comparison].inputs[1], 0.0) or len(known["IsInf"].attributes):
            return None
        assert both is not None
        nodes += [both, *known.values()]
    return Guard(value, tuple(dict.fromkeys(nodes)))


def guarded(b: Builder, value: ir.Value) -> ir.Value:
    """0 where a value that is never infinite is no number."""
    return b.op("Where", b.op("IsNaN", value), b.scalar(0.0, ir.DataType.FLOAT), value)


def _made(value: ir.Value | None) -> ir.Node | None:
    return None if value is None else value.producer()


def _is(work: Workspace, value: ir.Value | None, number: float) -> bool:
    """Whether a value is this number."""
    array = work.facts.get(value).array
    return array is not None and array.size == 1 and float(array.reshape(())) == number
