"""One rewrite on its own neighbourhood: the value before and the value after, from the same leaves, exactly.

If every rewrite keeps the value that it replaces, the whole model keeps its outputs. The neighbourhood is
small, and of its rows a few are enough, so this is cheap, and it holds where the whole model cannot be
evaluated, for instance around an operator that nobody has given a meaning.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from tautomer.graph.facts import Facts, bind_symbols, propagate
from tautomer.graph.semantics.domain import Unsupported
from tautomer.patterns.attention.operators import operator_named
from tautomer.patterns.onnx_body import DOMAIN
from tautomer.patterns.smooth import softplus
from tautomer.verify.ball import Ball
from tautomer.verify.distances import rows_agree
from tautomer.verify.exact import BallArithmetic, Outcome, compare_values
from tautomer.verify.few_rows import few_rows
from tautomer.verify.site import Site
from tautomer.verify.site_rounding import site_misrounds
from tautomer.verify.thresholds import site_parted

_SMALL = (2, 3, 5, 7)  # for the symbols; every operation works on rows, and a few rows show what it does
_LARGEST = 1 << 17  # elements of few rows of a tensor; larger sites are left to the check of the whole model
_SEEDS = (1, 2)
_SHRINK = 16.0  # from a positive tensor to the next
_OF_SOFTPLUS = 2.0**-28
"""Of a row, a sixteenth of a rounding in float32. Torch writes log(1 + e^s) as s from 20 on: it is the same
float32, and exactly it is another number. Below 20 the two must be one."""
_SMALL_SCORES = 2.0**-6  # of random numbers: no score comes near to 20


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
            self._known[key] = self._check(Site(self.model, self._facts, old, new, leaves), linear)
        return self._known[key]

    def _check(self, site: Site, linear: bool) -> str:
        leaves = site.leaves
        if any(self._facts.get(origin).shape is None for origin in leaves.values()):
            return "its neighbourhood cannot be evaluated: the shape of an input is not known"
        # what holds of one number of terms by chance does not hold of another
        sizes = {
            seed: few_rows(self.model, self._facts, (site.old, site.new), leaves, more=seed - _SEEDS[0])
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
            contents: dict[ir.Value, Any] = {}
            for index, leaf in enumerate(leaves):
                rng = np.random.default_rng(100 * seed + index)
                content = site.drawn(leaf, sizes[seed][leaf], rng)
                told = self._facts.get(leaves[leaf]).array is not None
                if content.dtype == bool:
                    content = content if keeps or told else ~content
                elif content.dtype.kind == "f" and not told:
                    content = (1.0 + np.abs(content)) / _SHRINK**index if positive else content
                    content = content * _SMALL_SCORES if small else content
                contents[leaf] = content
            cone = site.evaluation(sizes[seed], exact.domain, contents, weights)
            a, b = cone.value(site.old), cone.value(site.new)
            outcome = compare_values(exact, a, b)
            if outcome.different and not small and _by_softplus(site.new):
                assert isinstance(exact.domain, Ball)
                if rows_agree(exact.domain.nearest(a), exact.domain.nearest(b), _OF_SOFTPLUS):
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
        return site_parted(site, shapes) or site_misrounds(site, shapes)


def _by_softplus(value: ir.Value) -> bool:
    """Whether a value is attention whose weights are softplus of scores."""
    node = value.producer()
    operator = None if node is None or node.domain != DOMAIN else operator_named(node.op_type)
    return operator is not None and operator.form.function.weight is softplus
