"""A recognised operation: what it is, on which values, and which nodes it stands for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import onnx_ir as ir

from tautomer.graph.naming import label
from tautomer.patterns.operation import Definition
from tautomer.patterns.recognition.readings import Reading


@dataclass(frozen=True, eq=False)
class Recognised:
    """An operation in a graph.

    Attributes:
        definition: what it computes.
        inputs: x and the operands in the definition's order; None for one that is absent.
        output: the value that carries the result.
        attributes: by their ONNX names, only those that differ from absent.
        nodes: the nodes it stands for, in topological order.
        axes: the axes of a row in x's shape.
        factors: number by which an operand is to be multiplied (1 when absent).
        readings: constants as they were read.
        stash: the type in which it computes.
        key: equal for operations of equal structure, however their gains differ.
        special: how the nodes differ from the operation on NaN and infinities, or "".
        graph: the graph it is in.
        numbers: where its parameters are constants of the graph, by what they were read as.
    """

    definition: Definition
    inputs: tuple[ir.Value | None, ...]
    output: ir.Value
    attributes: Mapping[str, Any]
    nodes: tuple[ir.Node, ...]
    graph: ir.Graph
    axes: tuple[int, ...] = ()
    factors: Mapping[str, float] = field(default_factory=dict)
    readings: tuple[Reading, ...] = ()
    stash: ir.DataType = ir.DataType.FLOAT
    special: str = ""
    key: int = -1
    numbers: Mapping[float, ir.Value] = field(default_factory=dict)

    @property
    def op(self) -> str:
        """The operation's public name."""
        return self.definition.op

    @property
    def node(self) -> ir.Node:
        """The node that carries the result."""
        return self.nodes[-1]

    def describe(self) -> Operation:
        """The public form: names only."""
        return Operation(
            self.op,
            tuple((value.name or "") if value is not None else "" for value in self.inputs),
            self.output.name or "",
            dict(self.attributes),
            tuple(label(node) for node in self.nodes),
        )


@dataclass(frozen=True)
class Operation:
    """An operation as `inspect` reports it.

    Attributes:
        op: the ONNX name, or the name in the domain `tautomer`.
        inputs: names of the values it reads; "" for an absent optional one.
        output: the name of the value that carries its result.
        attributes: by ONNX names (axis, epsilon, approximate, alpha, ...).
        nodes: names of the nodes it stands for.
    """

    op: str
    inputs: tuple[str, ...]
    output: str
    attributes: dict[str, Any]
    nodes: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """The object of the JSON contract."""
        return {
            "op": self.op,
            "inputs": list(self.inputs),
            "output": self.output,
            "attributes": self.attributes,
            "nodes": list(self.nodes),
        }
