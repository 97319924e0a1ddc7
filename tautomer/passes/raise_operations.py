"""raise: a recognised sub-graph  ->  the operation it computes, in the form that the target runs fastest.

Condition: the definition was confirmed, the form exists for the model's opset and element type, and more
kernels go than come. What the sub-graph computed for others stays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np
import onnx_ir as ir

from tautomer.graph.build import Builder, Names, numpy_type
from tautomer.graph.dead_code import remove_dead
from tautomer.graph.facts import Fact
from tautomer.graph.naming import label
from tautomer.graph.same_expression import same_expression
from tautomer.passes.operation_forms import Choice, Site, choose, write
from tautomer.patterns.onnx_body import DOMAIN, DOMAIN_VERSION, function_of
from tautomer.patterns.operation import ROW_OPERANDS
from tautomer.patterns.recognise import Recognition
from tautomer.patterns.recognised import Recognised
from tautomer.remarks import Remark
from tautomer.target import Target

_FOLDABLE = 1 << 16  # elements of a gain that is multiplied at compile time


@dataclass(frozen=True)
class Folded:
    """What a constant that was made here is: a stored tensor times a number, or the number alone."""

    source: ir.Value | None
    factor: float


class Evidence(Protocol):
    """Decides whether a new value may take the place of an old one."""

    def refuses(
        self,
        key: Any,
        old: ir.Value,
        new: ir.Value,
        leaves: Mapping[ir.Value, ir.Value],
        folded: Mapping[ir.Value, Folded],
    ) -> str:
        """The reason why not, or ""."""


@dataclass(frozen=True)
class Raise:
    """Rewrites recognised operations.

    Attributes:
        target: decides which forms are wanted.
    """

    name: ClassVar[str] = "raise"
    target: Target

    def __call__(self, model: ir.Model, recognition: Recognition, evidence: Evidence) -> list[Remark]:
        """Rewrites in place; returns a remark for each operation that was rewritten or kept.

        The model is left valid: nodes in topological order, every value defined once. A rewrite that the
        evidence refuses is taken back, and the rest goes on.
        """
        rewriting = _Rewriting(model, recognition, self.target, evidence, Names.of(model))
        remarks = [rewriting.visit(op) for op in recognition.operations if not _is_overlay(op)]
        return [remark for remark in remarks if remark is not None]


def _is_overlay(op: Recognised) -> bool:
    """Composites stand on operations that are visited themselves; they wait for a kernel of their own."""
    return op.definition.composite or op.op == "ScoreAttention"


@dataclass
class _Rewriting:
    model: ir.Model
    recognition: Recognition
    target: Target
    evidence: Evidence
    names: Names
    replaced: dict[ir.Value, ir.Value] = field(default_factory=dict)
    constants: dict[int, dict[Any, ir.Value]] = field(default_factory=dict)
    folded: dict[ir.Value, Folded] = field(default_factory=dict)

    def visit(self, op: Recognised) -> Remark | None:
        """Rewrites one operation, or says why not; None when it already has the best form."""
        facts = self.recognition.facts
        assert op.inputs[0] is not None
        fact = facts.get(op.output)
        source = facts.get(op.inputs[0])
        if len(op.nodes) == 1 or source.shape is None:
            return None
        version = self.model.opset_imports.get("", self.model.opset_imports.get("ai.onnx", 0))
        site = Site(op, fact.dtype or source.dtype, len(source.shape), version, self.target)
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
        builder = Builder(site.version, self.names, op.graph, self.constants.setdefault(id(op.graph), {}))
        assert site.dtype is not None
        inputs = self._operands(op, site, choice, builder)
        if isinstance(inputs, str):
            builder.discard()
            return _missed(op, Choice("keep", reason=inputs))
        result = write(choice.form, op, inputs, site.dtype, site.rank, builder)
        if same_expression(result, op.output):
            builder.discard()
            return None
        refusal = self.evidence.refuses((op.key, choice.form), op.output, result, self._leaves(op), self.folded)
        if refusal:
            builder.discard()
            return _missed(op, Choice("keep", reason=refusal, hint="this rewrite was taken back; please report it"))
        if choice.form == "function":
            self._declare(op)
        before = len(op.nodes)
        builder.commit()
        self._replace(op, result, builder.nodes)
        what = {"named": f"one {op.op}", "function": f"one {DOMAIN}.{op.op}"}.get(
            choice.form, f"the spelling of {op.op} that {self.target.name} fuses"
        )
        return Remark("passed", Raise.name, op.op, builder.nodes[-1].name or "", f"{before} nodes became {what}")

    def _operands(self, op: Recognised, site: Site, choice: Choice, b: Builder) -> list[ir.Value | None] | str:
        """x and the tensors, shaped and scaled as the form wants them, or why that cannot be done."""
        facts = self.recognition.facts
        assert op.inputs[0] is not None and site.dtype is not None
        shape = facts.get(op.inputs[0]).shape
        assert shape is not None
        row = tuple(shape[axis] for axis in op.axes)
        x = self._now(op.inputs[0])
        operands: list[ir.Value | None] = [x]
        given = dict(zip(op.definition.operands, op.inputs[1:], strict=False))
        for name in op.definition.operands:
            value = given.get(name)
            if value is None:
                optional = name == "bias" and choice.form == "named"
                if not optional and not self.recognition.static(op.inputs[0], op.axes):
                    return "the length of its rows is not fixed, and it needs a gain of that length"
                filler = 1.0 if name == "scale" else 0.0
                operands.append(None if optional else self._filled(filler, row, site.dtype, b))
                continue
            if facts.get(value).dtype not in (None, site.dtype):
                return f"'{value.name}' has another element type than the result"
            if name in ROW_OPERANDS and facts.get(value).shape != row:
                fitted = self._fitted(value, facts.get(value), row, b)
                if fitted is None or not self.recognition.static(op.inputs[0], op.axes):
                    return f"'{value.name}' would have to be broadcast to the shape of a row"
                value = fitted
            else:
                value = self._now(value)
            factor = op.factors.get(name, 1.0)
            operands.append(value if factor == 1.0 else self._scaled(value, factor, site.dtype, b))
        return operands

    def _filled(self, number: float, row: Sequence[int], dtype: ir.DataType, b: Builder) -> ir.Value:
        filled = b.filled(number, row, dtype)
        self.folded[filled] = Folded(None, number)
        return filled

    def _fitted(self, value: ir.Value, fact: Fact, row: Sequence[int], b: Builder) -> ir.Value | None:
        """The tensor in the shape of a row; None when that would take a broadcast at run time."""
        if fact.array is not None and fact.array.size == 1 and fact.dtype is not None:
            return self._filled(float(fact.array.reshape(())), row, fact.dtype, b)
        if int(np.prod(fact.shape or ())) != int(np.prod(row)):
            return None
        value = self._now(value)
        array = _content(value)
        if array is not None:
            return b.constant(array.reshape(tuple(row)))
        return b.op("Reshape", value, b.constant(np.array(row, np.int64)))

    def _scaled(self, value: ir.Value, factor: float, dtype: ir.DataType, b: Builder) -> ir.Value:
        """value * factor; a constant is multiplied in float64 and rounded once."""
        array = _content(value)
        if array is not None:
            product = b.constant((array.astype(np.float64) * factor).astype(numpy_type(dtype)))
            self.folded[product] = Folded(value, factor)
            return product
        return b.op("Mul", value, b.scalar(factor, dtype))

    def _replace(self, op: Recognised, result: ir.Value, nodes: list[ir.Node]) -> None:
        old = op.output
        producer = old.producer()
        assert producer is not None
        op.graph.insert_before(producer, nodes)
        result.type, result.shape = old.type, old.shape
        name, old.name = old.name, self.names.fresh("tautomer/replaced")
        result.name = name
        result.metadata_props.update(old.metadata_props)
        old.replace_all_uses_with(result, replace_graph_outputs=True)
        self.replaced[old] = result
        remove_dead(reversed(op.nodes))

    def _declare(self, op: Recognised) -> None:
        version = self.model.opset_imports.get("", 0)
        function = function_of(op.definition, version)
        self.model.opset_imports.setdefault(DOMAIN, DOMAIN_VERSION)
        if function.identifier() not in self.model.functions:
            self.model.functions[function.identifier()] = function

    def _leaves(self, op: Recognised) -> dict[ir.Value, ir.Value]:
        """What the operation varies with: its inputs as they are now, and as they were recognised."""
        return {self._now(v): v for v in op.inputs if v is not None and v.const_value is None}

    def _now(self, value: ir.Value) -> ir.Value:
        """The value as it is after earlier rewrites."""
        while value in self.replaced:
            value = self.replaced[value]
        return value


def _content(value: ir.Value) -> np.ndarray[Any, Any] | None:
    tensor = value.const_value
    if tensor is None or value.is_graph_input() or tensor.size > _FOLDABLE:
        return None
    return np.asarray(tensor.numpy())


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
