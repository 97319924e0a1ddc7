"""The table ATen <-> ONNX.

A row pairs two operators whose operands and attributes correspond one by one; it is used in both directions.

    Row("aten.mul.Tensor", "Mul", ("self", "other"))

What does not correspond so is read by a function, `@reads("aten.linear.default")`, and nodes that a rewrite
made are written by one, `@writes("Gemm")`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from tautomer.graph.fx.site import Operand, Site

if TYPE_CHECKING:
    from tautomer.graph.fx.emitter import Emitter

Reading = Callable[[Site], "ir.Value | Operand | Sequence[ir.Value]"]
"""Gives the result, several results, or the argument that the result is equal to."""

Writing = Callable[["Emitter", ir.Node], Any]
"""Gives the FX node of the result, a list of those of several results, or the sizes that a shape has."""


@dataclass(frozen=True)
class Row:
    """Two operators that are the same.

    Attributes:
        aten: the name that torch prints.
        onnx: the ONNX operator.
        inputs: the schema's names of the operands, in ONNX's order.
        fixed: arguments that must have a value for the two to be the same.
        attributes: ONNX attribute -> the schema's name of the argument.
        constant: ONNX attributes with a value of their own.
        number: whether the last operand may be a Python number in torch.
        widens: whether operands of half precision, integers and truths are read as what torch makes of them.
        floats: whether it is the same on floats only.
        written: whether it is used to write, too.
    """

    aten: str
    onnx: str
    inputs: tuple[str, ...] = ("self",)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    attributes: Mapping[str, str] = field(default_factory=dict)
    constant: Mapping[str, Any] = field(default_factory=dict)
    number: bool = False
    widens: bool = False
    floats: bool = True
    written: bool = True

    def read(self, site: Site) -> ir.Value:
        """The node as ONNX has it."""
        site.expect(**self.fixed)
        site.of_one_type(*(() if self.widens else self.inputs))
        if self.floats:
            site.of_floats()
        own = {name: site.number(argument) for name, argument in self.attributes.items()}
        operands = [site.widened(name) if self.widens else site.tensor(name) for name in self.inputs]
        return site.op(self.onnx, *operands, **own, **self.constant)

    def writes(self, node: ir.Node) -> bool:
        """Whether a node can be written so: it has the attributes that this operator fixes."""
        own = {name: attribute.value for name, attribute in node.attributes.items()}
        if any(own.get(name) != wanted for name, wanted in self.constant.items()):
            return False
        return set(own) <= {*self.constant, *self.attributes} and len(node.inputs) == len(self.inputs)

    def write(self, emit: Emitter, node: ir.Node) -> Any:
        """The node as torch has it."""
        operands = [
            emit.operand(value, weak=self.number and index > 0) for index, value in enumerate(node.inputs)
        ]
        named = {
            argument: node.attributes[name].value
            for name, argument in self.attributes.items()
            if name in node.attributes
        }
        return emit.call(self.aten, *operands, **named)


_READS: dict[str, Reading] = {}
_WRITES: dict[str, Writing] = {}
_ROWS: dict[str, list[Row]] = {}


def reads(*names: str) -> Callable[[Reading], Reading]:
    """Registers the reading of ATen operators."""

    def register(function: Reading) -> Reading:
        for name in names:
            if name in _READS:
                raise ValueError(f"{name} is read in two ways")
            _READS[name] = function
        return function

    return register


def writes(*names: str) -> Callable[[Writing], Writing]:
    """Registers the writing of ONNX operators that have no row."""

    def register(function: Writing) -> Writing:
        for name in names:
            if name in _WRITES:
                raise ValueError(f"{name} is written in two ways")
            _WRITES[name] = function
        return function

    return register


def rows(*every: Row) -> None:
    """Registers rows; of several for one ONNX operator the first that fits writes it."""
    for row in every:
        reads(row.aten)(row.read)
        if row.written:
            _ROWS.setdefault(row.onnx, []).append(row)


@cache
def _load() -> None:
    """Imports every file of the table, once; importing is registering."""
    from tautomer.graph.fx import (  # noqa: F401
        attention,
        creation,
        linear,
        movement,
        norms,
        pointwise,
        reductions,
        statistics,
    )


def reading_of(target: Any) -> Reading | None:
    """How an FX target is read, or None when it has no counterpart."""
    _load()
    return _READS.get(str(target))


def writing_of(node: ir.Node) -> Writing | None:
    """How an IR node is written, or None when torch has no form of it."""
    _load()
    if node.domain not in ("", "ai.onnx"):
        return None
    for row in _ROWS.get(node.op_type, ()):
        if row.writes(node):
            return row.write
    return _WRITES.get(node.op_type)
