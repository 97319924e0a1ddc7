"""The value of a cone: what a graph computes from chosen leaves, in any domain.

    value(v) = leaf(v), or what is stored in v, or op(v)(value(u) for the operands u of v)

A whole model need not be evaluable for that, only what lies between the leaves and the value.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir

from tautomer.graph.call import call_of
from tautomer.graph.fact import Shape
from tautomer.graph.facts import Facts
from tautomer.graph.semantics.casts import lift
from tautomer.graph.semantics.domain import Mathematics, Unsupported
from tautomer.graph.valueless import ValuelessTensor
from tautomer.patterns.attention.operators import operator_named
from tautomer.patterns.expert_gate import is_gate
from tautomer.patterns.meaning import compute
from tautomer.patterns.onnx_body import DOMAIN
from tautomer.patterns.rowwise.program import is_rowwise
from tautomer.verify.attention_meaning import meaning_here
from tautomer.verify.interpreter import run_function, run_loop
from tautomer.verify.provenance import weight
from tautomer.verify.row_loops import read_around, row_loop

_SIZED = ("Expand", "Reshape")  # a shape is an input
_BY_THEIR_BODY = (is_rowwise, operator_named, is_gate)  # which of our operators are evaluated so


class ConeEvaluation:
    """Evaluates values, each from its cone.

    Args:
        model: its functions and opsets say what nodes compute.
        facts: what is known ahead, of the values of the model.
        shapes: of few rows, for nodes that are told their shape.
        m: the domain.
        seed: of the random numbers that take the place of weights; None keeps the weights.

    Attributes:
        values: what is known so far; the leaves have to be put there before anything is evaluated.
    """

    def __init__(
        self,
        model: ir.Model,
        facts: Facts,
        shapes: Mapping[ir.Value, Shape],
        m: Mathematics,
        seed: int | None,
    ) -> None:
        self._model, self._facts, self._shapes, self._m, self._seed = model, facts, shapes, m, seed
        self.values: dict[ir.Value, Any] = {}

    def value(self, value: ir.Value | None) -> Any:
        """The value; nodes are visited once, operands before the node, without recursion into deep graphs.

        Raises:
            Unsupported: a node has no meaning in the domain, or is a function of the model.
        """
        if value is None:
            return None
        stack = [value]
        while stack:
            top = stack[-1]
            if top in self.values:
                stack.pop()
                continue
            waiting = self._operands(top)
            if waiting:
                stack += waiting
                continue
            self._make(stack.pop())
        return self.values[value]

    def _content(self, value: ir.Value) -> Any:
        """What a value holds, where that is known; not what is made from weights, which may be random."""
        fact = self._facts.get(value)
        made = fact.array is not None and fact.array.size > 1 and fact.array.dtype.kind == "f"
        return None if made and fact.constant and value.producer() is not None else fact.array

    def _operands(self, value: ir.Value) -> list[ir.Value]:
        node = value.producer()
        if node is None or self._content(value) is not None:
            return []
        read = (*node.inputs, *read_around(node))
        return [operand for operand in read if operand is not None and operand not in self.values]

    def _make(self, value: ir.Value) -> None:
        node = value.producer()
        content = self._content(value)
        if content is not None and content.size == 1:
            self.values[value] = lift(self._m, content)
        elif node is None:
            self.values[value] = weight(self._m, _stored(value), self._seed)
        elif content is not None:
            self.values[value] = lift(self._m, content)
        else:
            call = call_of(node, self._model.opset_imports.get(node.domain, 0))
            inputs = [None if operand is None else self.values[operand] for operand in node.inputs]
            if call.domain == "" and call.op_type in _SIZED and value in self._shapes and len(inputs) > 1:
                inputs[1] = np.array(self._shapes[value], np.int64)  # the stored one is that of all rows
            function = self._model.functions.get((node.domain, node.op_type, node.overload))
            if function is not None and node.domain != DOMAIN:
                raise Unsupported(node.op_type, "a function of the model")
            if function is not None and any(known(node.op_type) for known in _BY_THEIR_BODY):
                results = run_function(self._model, self._m, function, call, inputs)
            elif row_loop(node) is not None:
                around = {x: self.values[x] for x in (*node.inputs, *read_around(node)) if x is not None}
                results = run_loop(self._model, self._m, node, call, around)
            elif (special := meaning_here(call)) is not None:
                with np.errstate(all="ignore"):
                    results = special(self._m, call, inputs)
            else:
                results = compute(self._m, call, inputs)
            for output, result in zip(node.outputs, results, strict=False):
                self.values[output] = result


def _stored(value: ir.Value) -> np.ndarray[Any, Any]:
    if isinstance(value.const_value, ValuelessTensor):  # any will do: it comes with every call
        shape = value.const_value.shape.numpy()
        return np.random.default_rng([len(shape), *shape]).standard_normal(shape).astype(np.float32)
    if value.const_value is None:
        raise Unsupported("constant", f"'{value.name}' has no value")
    return np.asarray(value.const_value.numpy())
