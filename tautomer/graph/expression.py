"""A constant as the expression of stored constants that it is the rounding of.

    W' = (W - mean(W)) * s        computed wide, rounded once

The expression is what a rewrite means; the stored numbers are its rounding. It is kept so that exact
arithmetic can use the one, and that the other can be checked against it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx_ir as ir

from tautomer.graph.call import Call, call_of
from tautomer.graph.fact import Fact, Facts
from tautomer.graph.semantics.casts import lift
from tautomer.graph.semantics.domain import Mathematics
from tautomer.graph.semantics.table import evaluate, meaning_of

_LARGEST_POSITIONS = 4096
_LARGEST_LITERAL = 64  # elements; anything larger is a weight, and weights are stored in the model
_PLAIN = (int, float, str)


@dataclass(frozen=True)
class Stored:
    """A constant of the original model, by the name of its value."""

    name: str


@dataclass(frozen=True, eq=False)
class Literal:
    """A number or a few, written by a rewrite."""

    array: np.ndarray[Any, Any]


@dataclass(frozen=True)
class Applied:
    """A primitive operator on earlier steps."""

    call: Call
    operands: tuple[int | None, ...]


Step = Stored | Literal | Applied


@dataclass(frozen=True)
class Expression:
    """Steps in order; the last one is the value.

    Attributes:
        steps: each operand of a step is the position of an earlier one.
    """

    steps: tuple[Step, ...]
    _digest: list[str] = field(default_factory=list, compare=False, repr=False)

    @property
    def sources(self) -> tuple[str, ...]:
        """The names of the stored constants it reads."""
        return tuple(step.name for step in self.steps if isinstance(step, Stored))

    @property
    def digest(self) -> str:
        """Equal for equal expressions."""
        if not self._digest:
            text = json.dumps(self.as_json(), sort_keys=True)
            self._digest.append(hashlib.sha256(text.encode()).hexdigest())
        return self._digest[0]

    def behind(self, position: int) -> tuple[int, ...]:
        """A step and all steps that it is made of, in order."""
        needed = {position}
        for i in range(position, -1, -1):
            if i in needed:
                needed.update(_operands(self.steps[i]))
        return tuple(sorted(needed))

    def until(self, position: int) -> Expression:
        """The expression whose value is that of one of the steps."""
        needed = self.behind(position)
        place = {old: new for new, old in enumerate(needed)}
        return Expression(tuple(_renumbered(self.steps[i], place) for i in needed))

    def value(self, m: Mathematics, read: Callable[[str], Any]) -> Any:
        """Evaluates the expression.

        Args:
            m: the domain.
            read: gives the value of a stored constant, lifted to the domain.

        Raises:
            Unsupported: the domain has no answer.
        """
        last = {operand: position for position, step in enumerate(self.steps) for operand in _operands(step)}
        values: list[Any] = []
        for position, step in enumerate(self.steps):
            if isinstance(step, Stored):
                values.append(read(step.name))
            elif isinstance(step, Literal):
                values.append(lift(m, step.array))
            else:
                inputs = [None if i is None else values[i] for i in step.operands]
                values.append(evaluate(m, step.call, inputs)[0])
            for operand in _operands(step):
                if last[operand] == position:
                    values[operand] = None  # two tensors at a time, however long the expression is
        return values[-1]

    def as_json(self) -> list[dict[str, Any]]:
        """For the certificate."""
        return [_to_json(step) for step in self.steps]

    @classmethod
    def from_json(cls, document: Sequence[Mapping[str, Any]]) -> Expression:
        """Reads what `as_json` wrote.

        Raises:
            ValueError: it is none, or an operand does not come before its step.
        """
        steps = tuple(_from_json(one) for one in document)
        for position, step in enumerate(steps):
            if any(not 0 <= operand < position for operand in _operands(step)):
                raise ValueError(f"step {position} reads what does not come before it")
        if not steps:
            raise ValueError("an expression without steps")
        return cls(steps)


def expression_of(
    value: ir.Value, stored: Container[str], versions: Mapping[str, int], facts: Facts
) -> Expression | None:
    """Reads the expression of a value off the graph; None when it is no expression of constants.

    Args:
        value: what a node computes.
        stored: names of constants that the original model has; other constants are literals.
        versions: opset versions by domain.
        facts: tell the contents of shapes and positions, which may be computed from the shape of an input.
    """
    steps: list[Step] = []
    known: dict[ir.Value, int] = {}
    stack = [value]
    while stack:
        top = stack[-1]
        if top in known:
            stack.pop()
            continue
        node = top.producer()
        leaf = _leaf(top, node, stored) or _position(facts.get(top))
        if leaf is not None:
            steps.append(leaf)
        elif node is None or not (_pure(node) or _filled_with(node) is not None):
            return None
        else:
            waiting = [operand for operand in node.inputs if operand is not None and operand not in known]
            if waiting:
                stack += reversed(waiting)
                continue
            operands = tuple(None if operand is None else known[operand] for operand in node.inputs)
            call, number = call_of(node, versions.get("", 0)), _filled_with(node)
            if number is not None:  # the same as a number that is repeated
                steps.append(Literal(number))
                call, operands = replace(call, op_type="Expand", attributes={}), (len(steps) - 1, *operands)
            steps.append(Applied(call, operands))
        known[stack.pop()] = len(steps) - 1
    return Expression(tuple(steps))


def _leaf(value: ir.Value, node: ir.Node | None, stored: Container[str]) -> Step | None:
    if node is not None and node.op_type != "Constant":
        return None
    tensor = constant_tensor(value)
    if tensor is None:
        return None
    if value.name in stored:
        return Stored(str(value.name))
    return Literal(np.asarray(tensor.numpy())) if tensor.size <= _LARGEST_LITERAL else None


def _position(fact: Fact) -> Step | None:
    """A constant tensor of integers, by its content."""
    array = fact.array
    known = array is not None and fact.constant and array.size <= _LARGEST_POSITIONS
    return Literal(np.asarray(array)) if known and array is not None and array.dtype.kind in "iub" else None


def constant_tensor(value: ir.Value) -> ir.TensorProtocol | None:
    """The stored tensor behind a value: of an initializer that no caller can replace, or a Constant node."""
    node = value.producer()
    if node is None:
        return None if value.is_graph_input() else value.const_value
    attribute = node.attributes.get("value")
    if node.op_type != "Constant" or attribute is None or attribute.type != ir.AttributeType.TENSOR:
        return None
    tensor: ir.TensorProtocol | None = attribute.value  # as_tensor asks what it is, slowly; None: a reference
    return tensor


def _filled_with(node: ir.Node) -> np.ndarray[Any, Any] | None:
    """The number that fills what a ConstantOfShape makes; None for other nodes."""
    held = node.attributes.get("value") if node.op_type == "ConstantOfShape" else None
    if held is None or node.domain not in ("", "ai.onnx") or held.type != ir.AttributeType.TENSOR:
        return None
    number = np.asarray(held.as_tensor().numpy())
    return number.reshape(()) if number.size == 1 else None


def _pure(node: ir.Node) -> bool:
    if len(node.outputs) != 1 or node.domain not in ("", "ai.onnx") or meaning_of("", node.op_type) is None:
        return False
    return all(_plain(attribute) for attribute in node.attributes.values())


def _plain(attribute: ir.Attr) -> bool:
    value = attribute.value
    if attribute.is_ref() or value is None:
        return False
    return isinstance(value, _PLAIN) or (
        isinstance(value, (list, tuple)) and all(isinstance(x, _PLAIN) for x in value)
    )


def _operands(step: Step) -> tuple[int, ...]:
    if not isinstance(step, Applied):
        return ()
    return tuple(operand for operand in step.operands if operand is not None)


def _renumbered(step: Step, place: Mapping[int, int]) -> Step:
    if not isinstance(step, Applied):
        return step
    return Applied(step.call, tuple(None if i is None else place[i] for i in step.operands))


def _to_json(step: Step) -> dict[str, Any]:
    if isinstance(step, Stored):
        return {"stored": step.name}
    if isinstance(step, Literal):
        wide = step.array.astype(np.float64) if step.array.dtype.kind not in "iub" else step.array
        return {
            "literal": [x.hex() if isinstance(x, float) else int(x) for x in wide.reshape(-1).tolist()],
            "type": ir.DataType.from_numpy(step.array.dtype).name,
            "shape": list(step.array.shape),
        }
    return {
        "op": step.call.op_type,
        "version": step.call.version,
        "attributes": dict(sorted(step.call.attributes.items())),
        "operands": list(step.operands),
    }


def _from_json(one: Mapping[str, Any]) -> Step:
    if "stored" in one:
        return Stored(str(one["stored"]))
    if "literal" in one:
        numbers = [float.fromhex(x) if isinstance(x, str) else int(x) for x in one["literal"]]
        array = np.array(numbers).astype(ir.DataType[str(one["type"])].numpy())
        return Literal(array.reshape([int(size) for size in one["shape"]]))
    call = Call(str(one["op"]), version=int(one["version"]), attributes=dict(one["attributes"]))
    return Applied(call, tuple(None if i is None else int(i) for i in one["operands"]))
