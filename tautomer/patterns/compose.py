"""Operations that stand on another: an activation times a gate, a norm of a residual sum.

A product with a recognised activation is its gated unit. A norm whose input is a sum is proposed by the
structure, and evaluation decides which definition, if any, the two together are.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx_ir as ir

from tautomer.patterns.glu import GATED, gated
from tautomer.patterns.operation import FULL_OPERANDS, Definition, definitions
from tautomer.patterns.recognition import probe
from tautomer.patterns.recognition.cones import ConeFinder
from tautomer.patterns.recognition.evaluation import FLOAT64
from tautomer.patterns.recognition.recognised import Recognised
from tautomer.patterns.rows import apply

_LENGTH = 12
_RELATIVE = 1e-9  # float64 rounding over rows of 12


def find_composites(graph: ir.Graph, finder: ConeFinder, simple: list[Recognised]) -> list[Recognised]:
    """The composite operations of a graph; the simple ones inside them stay reported, too."""
    return [composite for op in simple for composite in (*_gated(finder, op), *_after_residual(finder, op))]


def _gated(finder: ConeFinder, op: Recognised) -> Iterator[Recognised]:
    if op.definition.rows or op.definition.composite:
        return
    for node, _ in op.output.uses():
        if node.op_type != "Mul" or node.domain not in ("", "ai.onnx") or node.graph is not op.graph:
            continue
        gate = next((value for value in node.inputs if value is not op.output), None)
        if gate is None or gate is op.inputs[0] or not _alike(finder, gate, op.output):
            continue
        definition = GATED.get(op.definition.key) or gated(op.definition)
        yield _composite(definition, op, op.inputs[0], gate, node.outputs[0], (*op.nodes, node))


def _after_residual(finder: ConeFinder, op: Recognised) -> Iterator[Recognised]:
    source = op.inputs[0]
    if op.definition.rows != "trailing" or source is None or "perm" in op.attributes:
        return
    node = source.producer()
    if node is None or node.op_type != "Add" or node.graph is not op.graph:
        return
    a, b = node.inputs
    if a is None or b is None or not (_alike(finder, a, source) and _alike(finder, b, source)):
        return
    definition = _with_residual(op)
    if definition is not None:
        yield _composite(definition, op, a, b, op.output, (node, *op.nodes))


def _alike(finder: ConeFinder, value: ir.Value, other: ir.Value) -> bool:
    a, b = finder.fact(value), finder.fact(other)
    return a.shape == b.shape and a.dtype == b.dtype and a.array is None and not a.constant


def _core(op: Recognised, m: Any, x: Any) -> Any:
    parameters = {name: op.attributes[name] for name in op.definition.parameters}
    return apply(op.definition, m, x, axes=(1,), parameters=parameters)


def _with_residual(op: Recognised) -> Definition | None:
    """The composite definition that equals the simple one of a sum."""
    x = probe.rows(probe.ROWS, _LENGTH)
    other = probe.tensor(x.shape, 3)
    found = _core(op, FLOAT64, x + other)
    for definition in definitions():
        if "residual" not in definition.operands or definition.rows != op.definition.rows:
            continue
        if len(definition.results) > 1:
            continue  # what a rewrite makes of one with one result
        parameters = {name: op.attributes[name] for name in definition.parameters if name in op.attributes}
        given = {"residual": other}
        expected = apply(definition, FLOAT64, x, axes=(1,), operands=given, parameters=parameters)
        if np.allclose(found, expected, rtol=_RELATIVE, atol=1e-12, equal_nan=True):
            return definition
    return None


def _composite(
    definition: Definition,
    op: Recognised,
    x: ir.Value | None,
    other: ir.Value,
    output: ir.Value,
    nodes: tuple[ir.Node, ...],
) -> Recognised:
    simple = dict(zip(op.definition.operands, op.inputs[1:], strict=False))
    inputs = [x, *(other if name in FULL_OPERANDS else simple.get(name) for name in definition.operands)]
    while inputs[-1] is None:
        inputs.pop()
    attributes = {
        **definition.attributes,
        **{k: v for k, v in op.attributes.items() if k not in ("approximate",)},
    }
    return Recognised(
        definition,
        tuple(inputs),
        output,
        attributes,
        nodes,
        op.graph,
        op.axes,
        op.factors,
        op.readings,
        op.stash,
    )
