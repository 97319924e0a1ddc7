"""Guards against NaN and infinities, torch's nan_to_num as exporters write it.

    Where(v > 0 and isinf v, m, Where(v < 0 and isinf v, -m, Where(isnan v, 0, v)))

m is the largest number of the type. Where v is never infinite, the last of these is enough. The three are
proposed by the numbers that they write and the operators that they ask by, in any order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from tautomer.graph.build import Builder
from tautomer.passes.workspace import Workspace

_LARGEST = float(np.finfo(np.float32).max)
_TESTS = ("And", "Cast", "Greater", "IsInf", "IsNaN", "Less")


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
    nodes: dict[ir.Node, None] = {}
    written: list[float] = []
    asked: list[ir.Value | None] = []
    value: ir.Value | None = node.outputs[0]
    while (made := _made(value)) is not None and made.op_type == "Where":
        array = work.facts.get(made.inputs[1]).array
        if array is None or array.size != 1:
            break
        nodes[made] = None
        written.append(float(array.reshape(())))
        asked.append(made.inputs[0])
        value = made.inputs[2]
    if value is None or sorted(written) != [-_LARGEST, 0.0, _LARGEST]:
        return None
    ends = {value, *(each.outputs[0] for each in nodes)}
    while asked:
        top = asked.pop()
        test = _made(top)
        if top in ends or work.facts.get(top).constant:
            continue
        if test is None or test.op_type not in _TESTS:
            return None
        nodes[test] = None
        asked += test.inputs
    return Guard(value, tuple(nodes))


def guarded(b: Builder, value: ir.Value) -> ir.Value:
    """0 where a value that is never infinite is no number."""
    return b.op("Where", b.op("IsNaN", value), b.scalar(0.0, ir.DataType.FLOAT), value)


def _made(value: ir.Value | None) -> ir.Node | None:
    return None if value is None else value.producer()
