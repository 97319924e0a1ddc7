"""In which floating point type does a cone compute? Casts are kept as that type, never dropped.

ONNX's norms have `stash_type` for it: rows are widened, normalised, rounded to the type of x, and only then
scaled. Any other rounding inside a cone belongs to the function and is a reason to refuse.
"""

from __future__ import annotations

import onnx_ir as ir

from tautomer.graph.naming import label
from tautomer.patterns.recognition.cones import Cone, ConeFinder
from tautomer.patterns.recognition.match import Match

_PRECISION = {
    ir.DataType.DOUBLE: 53,
    ir.DataType.FLOAT: 24,
    ir.DataType.FLOAT16: 11,
    ir.DataType.BFLOAT16: 8,
}
_AFFINE = frozenset(
    {"Mul", "Add", "Cast", "Reshape", "Identity", "Squeeze", "Unsqueeze", "Flatten", "Transpose"}
)


def computation_type(cone: Cone, match: Match, finder: ConeFinder) -> ir.DataType | str:
    """The type in which the rows are reduced, or the reason why there is no single one."""
    kind = finder.fact(cone.source).dtype
    out = finder.fact(cone.output).dtype
    if kind is None or kind not in _PRECISION:
        return f"has an input of type {kind.name if kind else 'unknown'}"
    if out is not None and out != kind:
        return f"takes {kind.name} and gives {out.name}"
    stash = kind
    rounded = False
    dependent = {cone.source: None}
    for node in cone.nodes:
        operands = [value for value in node.inputs if value is not None and value in dependent]
        dependent[node.outputs[0]] = None
        if rounded and node.op_type not in _AFFINE:
            return f"works on values rounded to {kind.name} at '{label(node)}' ({node.op_type})"
        if node.op_type not in ("Cast", "CastLike"):
            if finder.operators.reduces(node):
                stash = _wider(stash, finder.fact(operands[0]).dtype)
            continue
        before, after = finder.fact(operands[0]).dtype, finder.fact(node.outputs[0]).dtype
        if before in (after, ir.DataType.BOOL):
            continue
        if match.definition.rows != "trailing":
            return f"changes the type it computes in at '{label(node)}' (Cast)"
        if before is None or after not in _PRECISION:
            return f"leaves floating point at '{label(node)}' (Cast)"
        if _PRECISION[after] < _PRECISION[before]:
            if after != kind:
                return f"rounds to {after.name} inside, at '{label(node)}' (Cast)"
            rounded = True
    return stash


def rounding_cast(cone: Cone, finder: ConeFinder) -> ir.Node | None:
    """The first cast in a cone to a type narrower than that of its source."""
    kind = finder.fact(cone.source).dtype
    for node in cone.nodes:
        after = finder.fact(node.outputs[0]).dtype
        if node.op_type != "Cast" or kind not in _PRECISION or after not in _PRECISION:
            continue
        if _PRECISION[after] < _PRECISION[kind]:
            return node
    return None


def _wider(a: ir.DataType, b: ir.DataType | None) -> ir.DataType:
    return b if b is not None and _PRECISION.get(b, 0) > _PRECISION[a] else a
