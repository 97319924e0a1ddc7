"""Moving a gain or a bias out of a value into the linear maps that read it.

(x * g) W + c = x (diag(g) W) + c
(x + b) W + c = x W + (c + b W)          with W as it is before any gain moves into it
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from tautomer.graph.build import Builder
from tautomer.passes.linear_maps.linear_readers import LinearReader
from tautomer.passes.linear_maps.weight_check import largest_of, unfit
from tautomer.passes.workspace import Workspace


def obstacle(work: Workspace, readers: Sequence[LinearReader], row: ir.Value) -> str:
    """Why a gain or bias may not move into these readers, or ""."""
    size = work.facts.get(row).size
    for reader in readers:
        shape = work.facts.get(reader.weight).shape
        assert shape is not None
        if size != shape[1 if reader.transposed else 0]:
            return f"'{row.name}' has not one number per channel of '{reader.weight.name}'"
        if reader.alpha != 1.0 or reader.beta != 1.0:
            return f"node '{reader.node.name}' (Gemm) has factors of its own"
        growth = max(largest_of(work, row), 1.0) * shape[1 if reader.transposed else 0]
        constants = [row, reader.weight] + ([reader.bias] if reader.bias is not None else [])
        for constant in constants:
            reason = unfit(work, constant, growth)
            if reason:
                return reason
    return ""


def fold_gain(
    work: Workspace, readers: Sequence[LinearReader], gain: ir.Value, operator: str = "Mul"
) -> None:
    """W -> diag(g) W in every reader; by "Div" diag(1 / g) W."""
    for reader in readers:
        b = _builder(work, reader.node)
        size = work.facts.get(gain).size or 1
        shape = [1, size] if reader.transposed else [size, 1]
        factor = b.op("Reshape", gain, b.constant(np.array(shape, np.int64)))
        weight = reader.node.inputs[1]
        new = b.op(operator, weight, factor)
        work.place(b, reader.node)
        reader.node.replace_input_with(1, new)


def fold_bias(work: Workspace, readers: Sequence[LinearReader], bias: ir.Value) -> None:
    """c -> c + b W in every reader; a reader without a bias gets one."""
    for reader in readers:
        adder = reader.adder[0] if reader.adder is not None else reader.node
        b = _builder(work, adder)
        size = work.facts.get(bias).size or 1
        row = b.op("Reshape", bias, b.constant(np.array([1, size], np.int64)))
        weight = reader.node.inputs[1]
        matrix = b.op("Transpose", weight, perm=[1, 0]) if reader.transposed else weight
        product = b.op("MatMul", row, matrix)
        old = reader.bias
        shape = work.facts.get(old).shape if old is not None else None
        if shape is None:
            out = work.facts.get(reader.weight).shape or ()
            shape = (out[0 if reader.transposed else 1],)
        moved = b.op("Reshape", product, b.constant(np.array(shape, np.int64)))
        if reader.adder is not None:
            new = b.op("Add", old, moved)
            work.place(b, adder)
            adder.replace_input_with(reader.adder[1], new)
        elif reader.node.op_type == "Gemm":
            work.place(b, adder)
            adder.resize_inputs(3)
            adder.replace_input_with(2, moved)
        else:
            output = reader.node.outputs[0]
            work.follow(output, b.op("Add", output, moved), b)


def _builder(work: Workspace, node: ir.Node) -> Builder:
    assert node.graph is not None and isinstance(node.graph, ir.Graph)
    return work.builder(node.graph)
