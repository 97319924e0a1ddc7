"""merge products: linear maps of one tensor  ->  one linear map, cut into their results.

    x W1 + b1, x W2 + b2  ->  split(x [W1 | W2] + [b1 | b2])

Condition: constant weights, the very same x. It reads x once and makes one product large enough to fill the
machine; on onnxruntime's CPU kernels it gains nothing and the cut costs a pass, so it is done when asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from tautomer.graph.naming import label
from tautomer.passes.linear_maps.linear_readers import LinearReader, linear_reader
from tautomer.passes.linear_maps.weight_check import unfit
from tautomer.passes.workspace import Workspace
from tautomer.remarks import Remark

_SIZES_INPUT_SINCE = 13


@dataclass(frozen=True)
class MergeProducts:
    """Merges linear maps of one tensor.

    Attributes:
        asked: whether the user wants it.
    """

    name: ClassVar[str] = "merge products"
    asked: bool

    def __call__(self, work: Workspace) -> list[Remark]:
        """Rewrites in place; returns a remark for each tensor with several linear readers."""
        if not self.asked:
            return []
        groups: dict[ir.Value, list[LinearReader]] = {}
        for node in work.model.graph:
            if node.op_type in ("MatMul", "Gemm") and node.inputs[0] is not None:
                reader = linear_reader(work, node)
                if isinstance(reader, LinearReader):
                    groups.setdefault(node.inputs[0], []).append(reader)
        remarks = [self._merge(work, x, readers) for x, readers in groups.items() if len(readers) > 1]
        if any(remark.kind == "passed" for remark in remarks):
            work.model.graph.sort()  # weights that other passes wrote stand in front of their old readers
        return remarks

    def _merge(self, work: Workspace, x: ir.Value, readers: list[LinearReader]) -> Remark:
        where = label(readers[0].node)
        reason = _obstacle(work, readers) or work.blind()
        if reason:
            return Remark("missed", self.name, "MatMul", where, reason)
        graph = readers[0].node.graph
        assert isinstance(graph, ir.Graph)
        b = work.builder(graph)
        matrices = [
            b.op("Transpose", reader.node.inputs[1], perm=[1, 0])
            if reader.transposed
            else reader.node.inputs[1]
            for reader in readers
        ]
        result = b.op("MatMul", x, b.op("Concat", *matrices, axis=1))
        sizes = np.array([_width(work, reader) for reader in readers], np.int64)
        if readers[0].bias is not None:
            rows = [
                b.op("Reshape", reader.bias, b.constant(np.array([size], np.int64)))
                for reader, size in zip(readers, sizes, strict=True)
            ]
            result = b.op("Add", result, b.op("Concat", *rows, axis=0))
        if work.version < _SIZES_INPUT_SINCE:
            pieces = b.several("Split", len(readers), result, axis=-1, split=sizes.tolist())
        else:
            pieces = b.several("Split", len(readers), result, b.constant(sizes), axis=-1)
        producer = x.producer()
        if producer is None:
            work.place(b, next(iter(graph)))
        else:
            work.place_after(b, producer)
        for reader, piece in zip(readers, pieces, strict=True):
            work.facts.set(piece, work.facts.get(reader.output))
            piece.type, piece.shape = reader.output.type, reader.output.shape
            work.drop(reader.output, piece)
        return Remark(
            "passed", self.name, "MatMul", where, f"{len(readers)} products of one tensor became one"
        )


def _width(work: Workspace, reader: LinearReader) -> int:
    shape = work.facts.get(reader.weight).shape
    assert shape is not None
    return shape[0 if reader.transposed else 1]


def _obstacle(work: Workspace, readers: list[LinearReader]) -> str:
    if len({reader.bias is None for reader in readers}) > 1:
        return "some of the linear maps that read its tensor have a bias and some have none"
    for reader in readers:
        if reader.alpha != 1.0 or reader.beta != 1.0:
            return f"node '{label(reader.node)}' (Gemm) has factors of its own"
        for constant in (reader.weight, reader.bias):
            reason = "" if constant is None else unfit(work, constant, 1.0)
            if reason:
                return reason
    return ""
