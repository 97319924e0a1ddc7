"""Values that are affine maps of an earlier value, along the last axis, by constants.

y = x M + c         (x M + c) W + b       = x (M W) + (c W + b)
                    (x M + c) + (x N + d) = x (M + N) + (c + d)
                    s (x M + c)           = x (M diag(s)) + s c      s a number, or one per channel of y

Rows of a table by their indices, M[x], are such a map of the indices, as those of an identity matrix times M.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from tautomer.graph.build import Builder
from tautomer.graph.call import call_of
from tautomer.graph.naming import label, printable
from tautomer.passes.linear_maps.affine_arithmetic import (
    AffineMap,
    minus_one,
    multiplied,
    row_of,
    scaled,
    summed,
    wide,
)
from tautomer.passes.workspace import Workspace

_DEEPEST = 16  # nodes of a chain; adapters have six
_SAME = ("Identity", "Neg", "Dropout")
_SUMS = ("Add", "Sub")
_FACTORS = ("Mul", "Div")
_PRODUCTS = ("MatMul", "Gemm")
_TABLE = "Gather"


@dataclass
class AffineMaps:
    """The affine maps of one model.

    Args:
        work: the model; its constants are read, and nothing is changed.
    """

    work: Workspace
    _origins: dict[ir.Value, tuple[ir.Value, ...] | str] = field(default_factory=dict)

    def origins(self, value: ir.Value, depth: int = _DEEPEST) -> tuple[ir.Value, ...] | str:
        """The values of which it is an affine map by a product, the nearest first; or why there is none."""
        if value not in self._origins:
            self._origins[value] = self._found(value, depth)
        return self._origins[value]

    def _found(self, value: ir.Value, depth: int) -> tuple[ir.Value, ...] | str:
        node = value.producer()
        if node is None or not depth:
            return f"'{printable(value.name or '')}' is no linear map of anything"
        varying = self.operands(node)
        if isinstance(varying, str):
            return varying
        if node.op_type in _PRODUCTS:
            return self._behind(varying[0], depth - 1)
        if node.op_type == _TABLE:
            return (varying[0],)
        found = [self.origins(operand, depth - 1) for operand in varying]
        for one in found:
            if isinstance(one, str):
                return one
        first, *rest = [one for one in found if isinstance(one, tuple)]
        shared = tuple(x for x in first if all(x in other for other in rest))
        return shared or self._strangers(first[0], rest[0][-1])

    def _behind(self, x: ir.Value, depth: int) -> tuple[ir.Value, ...]:
        """A factor of a product, and what it is an affine map of itself."""
        node = x.producer()
        varying = "" if node is None or not depth else self.operands(node)
        if node is None or isinstance(varying, str):
            return (x,)
        if node.op_type in (*_PRODUCTS, _TABLE) or len(varying) > 1:
            further = self.origins(x, depth)
            return (x, *(further if isinstance(further, tuple) else ()))
        return (x, *self._behind(varying[0], depth - 1))

    def _strangers(self, one: ir.Value, other: ir.Value) -> str:
        made = other.producer()
        if made is not None and made.op_type == "Dropout" and isinstance(said := self.operands(made), str):
            return said
        by = f" (node '{label(made)}', {made.op_type})" if made is not None else ""
        return (
            f"its parts are linear in different tensors, '{printable(one.name or '')}' and "
            f"'{printable(other.name or '')}'{by}"
        )

    def operands(self, node: ir.Node) -> list[ir.Value] | str:
        """The operands of an affine node that vary, or half a sentence: why it is none."""
        facts = self.work.facts
        given = [value for value in node.inputs if value is not None]
        varying = [value for value in given if not facts.get(value).constant]
        where = f"node '{label(node)}' ({node.op_type})"
        if node.domain not in ("", "ai.onnx") or not varying:
            return f"{where} is not linear"
        if node.op_type in _SUMS and len(varying) == 2:
            shapes = {facts.get(value).shape for value in (*varying, node.outputs[0])}
            return varying if len(shapes) == 1 and None not in shapes else f"{where} broadcasts what it adds"
        if node.op_type in _FACTORS and len(varying) == 2:
            return f"its factor '{printable(varying[-1].name or '')}' is computed when the model runs"
        if node.op_type == "Cast":
            kinds = facts.get(node.inputs[0]).dtype, facts.get(node.outputs[0]).dtype
            rounds = f"{where} rounds between its parts, which compute in different types"
            return varying if _widens(*kinds) else rounds
        if node.op_type == _TABLE:
            table = facts.get(node.inputs[0])
            rows = table.constant and table.shape is not None and len(table.shape) == 2
            by_row = rows and call_of(node, self.work.version).get("axis", 0) == 0
            return varying if by_row else f"{where} reads no rows of a constant table"
        if node.op_type == "Dropout" and self._drops(node):
            return f"{where} drops elements, as in training: export the model for inference"
        if len(varying) != 1:
            return f"{where} is not linear"
        if node.op_type in _PRODUCTS:
            weight = facts.get(node.inputs[1])
            call = call_of(node, self.work.version)
            plain = not call.get("transA", 0) and call.get("alpha", 1.0) == call.get("beta", 1.0) == 1.0
            matrix = node.inputs[0] is varying[0] and weight.shape is not None and len(weight.shape) == 2
            if not matrix or not plain or not all(self._is_row(node, value) for value in given[2:]):
                return f"{where} is no product with a constant matrix and a bias alone"
            return varying
        if node.op_type in _SAME:
            return varying
        if node.op_type == "Div" and node.inputs[0] is not varying[0]:
            return f"{where} divides by it"
        if node.op_type not in (*_SUMS, *_FACTORS):
            return f"{where} is not linear"
        other = next(value for value in given if value is not varying[0])
        return (
            varying if self._is_row(node, other) else f"{where} reads a constant that varies with the token"
        )

    def _drops(self, node: ir.Node) -> bool:
        """Whether a dropout may be one of training."""
        training = node.inputs[2] if len(node.inputs) > 2 else None
        array = None if training is None else self.work.facts.get(training).array
        return training is not None and (array is None or bool(array.any()))

    def _is_row(self, node: ir.Node, value: ir.Value) -> bool:
        """Whether a constant is a number, or has one number per channel of what the node gives."""
        shape, out = self.work.facts.get(value).shape, self.work.facts.get(node.outputs[0]).shape
        if shape is None or not out or len(shape) > len(out):
            return False
        size = int(np.prod(shape))
        return size == 1 or (size == out[-1] and shape[-1] == size)

    def region(self, value: ir.Value, x: ir.Value) -> list[ir.Node]:
        """The nodes between, the last first."""
        found: dict[ir.Node, None] = {}
        stack = [value]
        while stack:
            top = stack.pop()
            node = top.producer()
            if top is x or node is None or node in found:
                continue
            found[node] = None
            varying = self.operands(node)
            stack += varying if isinstance(varying, list) else []
        return list(found)

    def written(self, b: Builder, value: ir.Value, x: ir.Value) -> AffineMap:
        """The map from x to the value, as nodes that compute in double precision."""
        if value is x:
            return AffineMap()
        node = value.producer()
        assert node is not None
        varying = self.operands(node)
        assert isinstance(varying, list)
        maps = [self.written(b, operand, x) for operand in varying]
        given = [each for each in node.inputs if each is not None]
        if node.op_type in _PRODUCTS:
            weight = wide(b, given[1])
            if call_of(node, self.work.version).get("transB", 0):
                weight = b.op("Transpose", weight, perm=[1, 0])
            moved = multiplied(b, maps[0], weight)
            return summed(b, "Add", moved, self._shift(b, node, given[2])) if given[2:] else moved
        if node.op_type == _TABLE:
            return AffineMap(wide(b, given[0]))
        if node.op_type in ("Identity", "Dropout", "Cast"):
            return maps[0]
        if node.op_type == "Neg":
            return scaled(b, "Mul", maps[0], minus_one(b))
        if len(maps) == 2:
            return summed(b, node.op_type, *maps)
        constant = next(each for each in given if each is not varying[0])
        if node.op_type in _FACTORS:
            return scaled(b, node.op_type, maps[0], row_of(b, constant))
        shift = self._shift(b, node, constant)
        if given[0] is varying[0]:
            return summed(b, node.op_type, maps[0], shift)
        turned = maps[0] if node.op_type == "Add" else scaled(b, "Mul", maps[0], minus_one(b))
        return summed(b, "Add", turned, shift)

    def _shift(self, b: Builder, node: ir.Node, value: ir.Value) -> AffineMap:
        """A constant that a node adds to what it gives, as long as a row of that."""
        row, shape = row_of(b, value), self.work.facts.get(node.outputs[0]).shape
        assert shape is not None
        if self.work.facts.get(value).size != shape[-1]:
            row = b.op("Expand", row, b.constant(np.array(shape[-1:], np.int64)))
        return AffineMap(None, None, row)


def _widens(before: ir.DataType | None, after: ir.DataType | None) -> bool:
    """Whether a float type holds every number of another one."""
    half = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
    return before == after or (before in half and after == ir.DataType.FLOAT)
