"""One rewrite on its own neighbourhood: the value before and the value after, from the same leaves, exactly.

If every rewrite keeps the value that it replaces, the whole model keeps its outputs. The neighbourhood is
small, and of its rows a few are enough, so this is cheap, and it holds where the whole model cannot be
evaluated, for instance around an operator that nobody has given a meaning.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import onnx_ir as ir

from tautomer.graph.call import call_of
from tautomer.graph.fact import Shape
from tautomer.graph.facts import Facts, bind_symbols, propagate
from tautomer.graph.semantics.casts import lift
from tautomer.graph.semantics.domain import Mathematics, Unsupported
from tautomer.graph.semantics.mathematics import Float64
from tautomer.graph.valueless import ValuelessTensor
from tautomer.patterns.attention.operators import operator_named
from tautomer.patterns.expert_gate import is_gate
from tautomer.patterns.meaning import compute
from tautomer.patterns.onnx_body import DOMAIN
from tautomer.patterns.rowwise.program import is_rowwise
from tautomer.patterns.smooth import softplus
from tautomer.verify.attention_meaning import meaning_here
from tautomer.verify.ball import Ball
from tautomer.verify.classes import CLASSES
from tautomer.verify.exact import BallArithmetic, Outcome, compare_values
from tautomer.verify.few_rows import between, few_rows
from tautomer.verify.interpreter import run_function, run_loop
from tautomer.verify.numerics import filled, judge
from tautomer.verify.provenance import weight
from tautomer.verify.row_loops import read_around, row_loop
from tautomer.verify.single import Float32
from tautomer.verify.thresholds import inputs_at, jump, thresholds

_SMALL = (2, 3, 5, 7)  # for the symbols; every operation works on rows, and a few rows show what it does
_LARGEST = (
    1 << 17
)  # elements of few rows of a tensor beyond which a site is left to the check of the whole model
_SIZED = ("Expand", "Reshape")  # a shape is an input
_BY_THEIR_BODY = (is_rowwise, operator_named, is_gate)  # which of our operators are evaluated so
_SEEDS = (1, 2)
_SHRINK = 16.0  # from a positive tensor to the next
_INDICES = 2  # of what is longer than 1, however few of it are looked at
_MOSTLY = 0.7  # of the truths in a mask
_DRAWS = (1, 4)  # perturbations; one may miss how much an input's rounding can do
_OF_SOFTPLUS = 2.0**-28
"""Of a row, a sixteenth of a rounding in float32. Torch writes log(1 + e^s) as s from 20 on: it is the same
float32, and exactly it is another number. Below 20 the two must be one."""
_SMALL_SCORES = 2.0**-6  # of random numbers: no score comes near to 20
_SAME = 2.0**-36  # a thousandth of a rounding in float32


@dataclass
class Neighbourhood:
    """Checks rewrites of one model, each distinct one once.

    Args:
        model: the model, before the first rewrite.

    Attributes:
        checked: how many distinct rewrites were checked.
        skipped: how many were too large for that, and wait for the check of the whole model.
    """

    model: ir.Model
    checked: int = 0
    skipped: int = 0
    _facts: Facts = field(init=False)
    _known: dict[Any, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # shapes must be those of the original: new nodes get theirs from evaluation
        symbols = bind_symbols(self.model)
        sizes = {name: _SMALL[index % len(_SMALL)] for index, name in enumerate(symbols)}
        self._facts = propagate(self.model, sizes)

    def refuses(
        self,
        key: Any,
        old: ir.Value,
        new: ir.Value,
        leaves: Mapping[ir.Value, ir.Value],
        *,
        linear: bool = False,
    ) -> str:
        """Why the new value may not take the old one's place, or "".

        Args:
            key: equal for rewrites of equal structure, whose evidence is the same.
            old: the value as the model computes it.
            new: the value that is to replace it.
            leaves: what both are computed from -> the value of the original model that has its shape.
            linear: whether they are linear maps of the leaves: rounding is left to the check of the whole.
        """
        if key not in self._known:
            self._known[key] = self._check(old, new, leaves, linear)
        return self._known[key]

    def _check(
        self,
        old: ir.Value,
        new: ir.Value,
        leaves: Mapping[ir.Value, ir.Value],
        linear: bool,
    ) -> str:
        if any(self._facts.get(origin).shape is None for origin in leaves.values()):
            return "its neighbourhood cannot be evaluated: the shape of an input is not known"
        # what holds of one number of terms by chance does not hold of another
        sizes = {
            seed: few_rows(self.model, self._facts, (old, new), leaves, more=seed - _SEEDS[0])
            for seed in _SEEDS
        }
        shapes = sizes[_SEEDS[0]]
        if max((math.prod(shapes[leaf]) for leaf in leaves), default=1) > _LARGEST:
            self.skipped += 1
            return ""
        self.checked += 1

        def compared(
            seed: int, weights: int | None, keeps: bool, positive: bool, small: bool = False
        ) -> Outcome:
            exact = BallArithmetic()
            walk = _Walk(self.model, self._facts, sizes[seed], exact.domain, weights)
            for index, leaf in enumerate(leaves):
                rng = np.random.default_rng(100 * seed + index)
                content = self._random(leaves[leaf], sizes[seed][leaf], rng)
                told = self._facts.get(leaves[leaf]).array is not None
                if content.dtype == bool:
                    content = content if keeps or told else ~content
                elif content.dtype.kind == "f" and not told:
                    content = (1.0 + np.abs(content)) / _SHRINK**index if positive else content
                    content = content * _SMALL_SCORES if small else content
                walk.values[leaf] = _lifted(exact.domain, content)
            a, b = walk.value(old), walk.value(new)
            outcome = compare_values(exact, a, b)
            if outcome.different and not small and _by_softplus(new):
                assert isinstance(exact.domain, Ball)
                if _agree(exact.domain.nearest(a), exact.domain.nearest(b), _OF_SOFTPLUS):
                    return compared(seed, weights, keeps, positive, small=True)
            return outcome

        # of keys that are all removed there is no number, so that a mask is tried both ways round; a random
        # weight may have no root where the stored one, a variance, has; a density has a logarithm where it is
        # positive, as a difference is of numbers that become less
        unknown = [fact for fact in map(self._facts.get, leaves.values()) if fact.array is None]
        masked = any(fact.dtype == ir.DataType.BOOL for fact in unknown)
        for seed in _SEEDS:
            tries = [(seed, True, False), *([(seed, False, False)] if masked else [])]
            outcomes: list[Outcome] = []
            for weights, keeps, positive in (*tries, (None, True, False), (None, True, True)):
                if weights is None and not all(one.undecided for one in outcomes):
                    break
                try:
                    outcomes.append(compared(seed, weights, keeps, positive))
                except (Unsupported, ValueError) as error:
                    if keeps:
                        return f"its neighbourhood cannot be evaluated exactly: {error}"
            worst = max(outcomes, key=lambda one: one.different)
            if worst.different:
                return f"{worst.different} of {worst.elements} elements differ in exact arithmetic"
            if all(one.undecided for one in outcomes):
                best = min(outcomes, key=lambda one: one.undecided)
                return f"{best.undecided} of {best.elements} elements cannot be told in exact arithmetic"
        if linear:
            return ""
        return self._at_thresholds(old, new, leaves, shapes) or self._judged(old, new, leaves, shapes)

    def _random(self, leaf: ir.Value, shape: Shape, rng: np.random.Generator) -> Any:
        """What a leaf holds, where that is known; else numbers, or truths with the first of each row true."""
        known = self._facts.get(leaf)
        if known.array is not None and known.array.shape == shape:
            return known.array if known.array.dtype == bool else known.array.astype(np.float64)
        if known.dtype is not None and known.dtype.is_integer():
            return rng.integers(0, _INDICES, shape)
        if known.dtype != ir.DataType.BOOL:
            return rng.standard_normal(shape)
        truths = np.asarray(rng.random(shape) < _MOSTLY)
        if shape:
            truths[..., 0] = True
        return truths

    def _at_thresholds(
        self,
        old: ir.Value,
        new: ir.Value,
        leaves: Mapping[ir.Value, ir.Value],
        shapes: Mapping[ir.Value, Shape],
    ) -> str:
        """On which side a comparison is where both its sides are one number; "" when all is well."""
        m, rng = Float64(), np.random.default_rng(12)
        base = {leaf: self._random(origin, shapes[leaf], rng) for leaf, origin in leaves.items()}
        varied = next((leaf for leaf, x in base.items() if x.dtype != bool and x.shape), None)
        if varied is None:
            return ""

        def at(x: Any, value: ir.Value) -> Any:
            walk = _Walk(self.model, self._facts, shapes, m, None)
            walk.values = {leaf: _lifted(m, content) for leaf, content in {**base, varied: x}.items()}
            return m.concrete(walk.value(value))

        nodes = between((old, new), leaves, self._facts)
        with suppress(Unsupported, ValueError):
            for x in inputs_at(thresholds(nodes, varied, partial(at, base[varied])), shapes[varied]):
                if reason := jump(x, at(x, old), at(x, new)):
                    return f"it would give {reason}"
        return ""

    def _judged(
        self,
        old: ir.Value,
        new: ir.Value,
        leaves: Mapping[ir.Value, ir.Value],
        shapes: Mapping[ir.Value, Shape],
    ) -> str:
        """Rounding and special values in float32, on rows of every class; "" when all is well."""

        def evaluated(value: ir.Value, m: Mathematics, inputs: Mapping[str, Any]) -> dict[str, Any]:
            walk = _Walk(self.model, self._facts, shapes, m, None)
            for index, leaf in enumerate(leaves):
                walk.values[leaf] = _lifted(m, inputs[str(index)])
            concrete = m.nearest if isinstance(m, Ball) else m.concrete
            return {"y": concrete(walk.value(value)).astype(np.float32 if m is single else np.float64)}

        single, double = Float32(), Float64()
        rng = np.random.default_rng(11)
        base = {str(i): self._random(leaves[x], shapes[x], rng) for i, x in enumerate(leaves)}
        base = {name: x.astype(np.float32) if x.dtype.kind == "f" else x for name, x in base.items()}
        varied = next((name for name, x in base.items() if x.dtype.kind == "f" and x.shape), None)
        if varied is None:
            return ""
        suited = [each for each in CLASSES if not (each.scores and self._multiplies(old, leaves))]
        grid = {each.name: {varied: each.rows(base[varied].shape, np.float32, 1)} for each in suited}
        if truths := {name: np.zeros_like(x) for name, x in base.items() if x.dtype == bool}:
            grid["all masked"] = truths
        for name, changed in grid.items():
            inputs = {**base, **changed}
            finite = all(np.all(np.isfinite(x)) for x in inputs.values())

            def oracle(x: Mapping[str, Any], finite: bool = finite) -> dict[str, Any]:
                exact = evaluated(old, double, x)
                if not finite:
                    return exact
                other = evaluated(new, double, x)
                if _agree(exact["y"], other["y"]):
                    return filled(exact, lambda: other)
                # one of them loses digits, as x / 2 * (1 + tanh x) does for negative x
                for value in (old, new):
                    with suppress(Unsupported, ValueError):
                        return evaluated(value, Ball(), x)
                return filled(exact, lambda: other)

            ways = (partial(evaluated, old, single), partial(evaluated, new, single), oracle)
            for draws in _DRAWS:
                score = judge(*ways, inputs, class_name=name, draws=draws)
                if score.accepted or not np.isfinite(score.score):
                    break
            if not score.accepted:
                what = (
                    score.reason.removeprefix("'y': ")
                    or f"an error of {score.score:.3g} times what rounding explains"
                )
                return f"on inputs '{name}' it would give {what}"
        return ""

    def _multiplies(self, value: ir.Value, leaves: Mapping[ir.Value, ir.Value]) -> bool:
        """Whether a product of two varying matrices is on the way, so that its leaves are no scores."""
        return any(
            node.op_type == "MatMul" and not any(self._facts.get(x).constant for x in node.inputs)
            for node in between((value,), leaves, self._facts)
        )


class _Walk:
    """Evaluates values back to the leaves."""

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
        """The value; nodes are visited once, operands before the node, without recursion into deep graphs."""
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


def _lifted(m: Mathematics, x: Any) -> Any:
    """Truths and indices as they are, numbers as values of a domain."""
    return m.constant(x) if np.asarray(x).dtype.kind == "f" else x


def _agree(exact: np.ndarray[Any, Any], other: np.ndarray[Any, Any], same: float = _SAME) -> bool:
    """Whether two results in float64 are one, each row on its own scale."""
    with np.errstate(all="ignore"):
        gap = np.max(np.abs(exact - other), axis=-1, initial=0.0)
        return bool(np.all(gap <= same * np.max(np.abs(other), axis=-1, initial=0.0)))


def _by_softplus(value: ir.Value) -> bool:
    """Whether a value is attention whose weights are softplus of scores."""
    node = value.producer()
    operator = None if node is None or node.domain != DOMAIN else operator_named(node.op_type)
    return operator is not None and operator.form.function.weight is softplus


def _stored(value: ir.Value) -> np.ndarray[Any, Any]:
    if isinstance(value.const_value, ValuelessTensor):  # any will do: it comes with every call
        shape = value.const_value.shape.numpy()
        return np.random.default_rng([len(shape), *shape]).standard_normal(shape).astype(np.float32)
    if value.const_value is None:
        raise Unsupported("constant", f"'{value.name}' has no value")
    return np.asarray(value.const_value.numpy())
