"""raise: a recognised sub-graph  ->  the operation it computes, in the form that the target runs fastest.

Condition: the definition was confirmed, the form exists for the model's opset and element type, and more
kernels go than come. What the sub-graph computed for others stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from tautomer.graph.build import Builder, numpy_type
from tautomer.graph.facts import Fact
from tautomer.graph.naming import label
from tautomer.graph.same_expression import same_expression
from tautomer.passes.operation_forms import Choice, Site, choose, write
from tautomer.passes.workspace import Workspace
from tautomer.patterns.onnx_body import DOMAIN, function_of
from tautomer.patterns.operation import ROW_OPERANDS
from tautomer.patterns.recognised import Recognised
from tautomer.remarks import Remark
from tautomer.target import Target

_EXPAND_SINCE = 8


@dataclass(frozen=True)
class Raise:
    """Rewrites recognised operations.

    Attributes:
        target: decides which forms are wanted.
    """

    name: ClassVar[str] = "raise"
    target: Target

    def __call__(self, work: Workspace) -> list[Remark]:
        """Rewrites in place; returns a remark for each operation that was rewritten or kept.

        A rewrite that the evidence refuses is taken back, and the rest goes on.
        """
        rewriting = _Rewriting(work, self.target)
        remarks = [rewriting.visit(op) for op in work.recognition.operations if not _is_overlay(op)]
        work.recognition.operations = [rewriting.current(op) for op in work.recognition.operations]
        return [remark for remark in remarks if remark is not None]


def _is_overlay(op: Recognised) -> bool:
    """Composites stand on operations that are visited themselves; they wait for a kernel of their own."""
    return op.definition.composite or op.op == "ScoreAttention"


@dataclass
class _Rewriting:
    work: Workspace
    target: Target
    raised: dict[Recognised, Recognised] = field(default_factory=dict)

    def current(self, op: Recognised) -> Recognised:
        """The operation in terms of the values that the graph has now."""
        op = self.raised.get(op, op)
        inputs = tuple(None if value is None else self.work.now(value) for value in op.inputs)
        return replace(op, inputs=inputs, output=self.work.now(op.output))

    def visit(self, op: Recognised) -> Remark | None:
        """Rewrites one operation, or says why not; None when it already has the best form."""
        facts = self.work.facts
        assert op.inputs[0] is not None
        fact = facts.get(op.output)
        source = facts.get(op.inputs[0])
        if len(op.nodes) == 1 or source.shape is None:
            return None
        site = Site(op, fact.dtype or source.dtype, len(source.shape), self.work.version, self.target)
        choice = choose(site)
        if op.special:
            return _missed(op, Choice("keep", reason=op.special))
        if choice.form == "keep":
            return _missed(op, choice)
        gone, reader = _what_goes(op)
        if gone <= choice.kernels and choice.form != "spelled":
            reason = "it is written in as few kernels already"
            if reader is not None:
                reason = f"what it computes on the way is read elsewhere, by '{label(reader)}' first"
            return _missed(op, Choice("keep", reason=reason))
        return self._rewrite(op, site, choice)

    def _rewrite(self, op: Recognised, site: Site, choice: Choice) -> Remark | None:
        builder = self.work.builder(op.graph)
        assert site.dtype is not None
        inputs = self._operands(op, site, choice, builder)
        if isinstance(inputs, str):
            builder.discard()
            return _missed(op, Choice("keep", reason=inputs))
        result = write(choice.form, op, inputs, site.dtype, site.rank, builder)
        if same_expression(result, op.output):
            builder.discard()
            return None
        refusal = self.work.evidence.refuses((op.key, choice.form), op.output, result, self._leaves(op))
        if refusal:
            builder.discard()
            return _missed(op, Choice("keep", reason=refusal, hint="this rewrite was taken back; please report it"))
        if choice.form == "function":
            self.work.declare(function_of(op.definition, self.work.version))
        before = len(op.nodes)
        self.work.replace(op.output, result, builder, op.nodes)
        self.raised[op] = replace(
            op, inputs=tuple(inputs), output=result, nodes=tuple(builder.nodes), factors={}
        )
        what = {"named": f"one {op.op}", "function": f"one {DOMAIN}.{op.op}"}.get(
            choice.form, f"the spelling of {op.op} that {self.target.name} fuses"
        )
        return Remark("passed", Raise.name, op.op, builder.nodes[-1].name or "", f"{before} nodes became {what}")

    def _operands(self, op: Recognised, site: Site, choice: Choice, b: Builder) -> list[ir.Value | None] | str:
        """x and the tensors, shaped and scaled as the form wants them, or why that cannot be done."""
        facts = self.work.facts
        static = self.work.recognition.static
        assert op.inputs[0] is not None and site.dtype is not None
        shape = facts.get(op.inputs[0]).shape
        assert shape is not None
        row = tuple(shape[axis] for axis in op.axes)
        x = self.work.now(op.inputs[0])
        operands: list[ir.Value | None] = [x]
        given = dict(zip(op.definition.operands, op.inputs[1:], strict=False))
        for name in op.definition.operands:
            value = given.get(name)
            if value is None:
                optional = name == "bias" and choice.form == "named"
                if not optional and not static(op.inputs[0], op.axes):
                    return "the length of its rows is not fixed, and it needs a gain of that length"
                filler = 1.0 if name == "scale" else 0.0
                operands.append(None if optional else _filled(filler, row, site.dtype, b))
                continue
            if facts.get(value).dtype not in (None, site.dtype):
                return f"'{value.name}' has another element type than the result"
            if name in ROW_OPERANDS and facts.get(value).shape != row:
                fitted = self._fitted(value, facts.get(value), row, b)
                if fitted is None or not static(op.inputs[0], op.axes):
                    return f"'{value.name}' would have to be broadcast to the shape of a row"
                value = fitted
            else:
                value = self.work.now(value)
            factor = op.factors.get(name, 1.0)
            if factor != 1.0:
                value = _scaled(value, factor, site.dtype, b, constant=facts.get(given[name]).constant)
            operands.append(value)
        return operands

    def _fitted(self, value: ir.Value, fact: Fact, row: Sequence[int], b: Builder) -> ir.Value | None:
        """The tensor in the shape of a row; None when that would take a broadcast at run time."""
        if fact.array is not None and fact.array.size == 1 and fact.dtype is not None:
            return _filled(float(fact.array.reshape(())), row, fact.dtype, b)
        if int(np.prod(fact.shape or ())) != int(np.prod(row)):
            return None
        return b.op("Reshape", self.work.now(value), b.constant(np.array(row, np.int64)))

    def _leaves(self, op: Recognised) -> dict[ir.Value, ir.Value]:
        """What the operation varies with: its inputs as they are now, and as they were recognised."""
        return {self.work.now(v): v for v in op.inputs if v is not None and v.const_value is None}


def _filled(number: float, row: Sequence[int], dtype: ir.DataType, b: Builder) -> ir.Value:
    """A gain of one number: an expression of it, so that exact arithmetic reads it as the number it is."""
    if b.version < _EXPAND_SINCE:
        return b.filled(number, row, dtype)
    return b.op("Expand", b.scalar(number, dtype), b.constant(np.array(row, np.int64)))


def _scaled(value: ir.Value, factor: float, dtype: ir.DataType, b: Builder, *, constant: bool) -> ir.Value:
    """The tensor times a number; for a constant in double precision, unless the number is one of its type."""
    if not constant or float(np.asarray(factor).astype(numpy_type(dtype))) == factor:
        return b.op("Mul", value, b.scalar(factor, dtype))
    wide = b.op("Mul", b.op("Cast", value, to=int(ir.DataType.DOUBLE)), b.scalar(factor, ir.DataType.DOUBLE))
    return b.op("Cast", wide, to=int(dtype))


def _what_goes(op: Recognised) -> tuple[int, ir.Node | None]:
    """How many nodes go once the operation is rewritten, and the first reader that keeps one."""
    dead = {id(op.node)}
    reader: ir.Node | None = None
    for node in reversed(op.nodes[:-1]):
        keeping = [user for value in node.outputs for user, _ in value.uses() if id(user) not in dead]
        if keeping or any(value.is_graph_output() for value in node.outputs):
            reader = keeping[0] if keeping else node
        else:
            dead.add(id(node))
    return len(dead), reader


def _missed(op: Recognised, choice: Choice) -> Remark:
    return Remark("missed", Raise.name, op.op, label(op.node), choice.reason, choice.hint)
