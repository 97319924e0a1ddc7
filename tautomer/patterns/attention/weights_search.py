"""From scores to weights: which score function, numbers and masks a cone between two products is.

Proposed: every reading of the cone's numbers, and every part that a tensor entering the cone may play.
Confirmed: on random scores and tensors, all rows and twice.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from tautomer.patterns.attention.score_functions import SCORE_FUNCTIONS
from tautomer.patterns.attention.weights import Leaf, Role, Weights
from tautomer.patterns.attention.weights_trial import Trial
from tautomer.patterns.recognition.evaluation import Program

_TOLERANCE = 1e-9  # float64 rounding of a softmax row
_LARGEST_NUMBER = 1e4
_LOW = -1e3  # what is put into a score to remove its key is lower
_LARGEST_POWER = 64
_DIVIDED = ("relu", "relu2")  # score functions that are used divided by the number of keys


def weights_in(program: Program, leaves: Sequence[Leaf], shape: tuple[int, ...], keys: int) -> Weights | None:
    """What a cone computes of scores.

    Args:
        program: the cone.
        leaves: the tensors that enter it.
        shape: of the scores, as far as they are evaluated.
        keys: how many there are.

    Returns:
        None when it is nothing that is known.
    """
    search = _Search(program, leaves, shape, keys)
    return next((search.completed(found) for found in search.proposals() if search.confirms(found)), None)


class _Search:
    """The proposals for one cone."""

    def __init__(self, program: Program, leaves: Sequence[Leaf], shape: tuple[int, ...], keys: int) -> None:
        self._program, self._leaves, self._shape, self._keys = program, leaves, shape, keys
        read = [r.value for r in program.readings if np.isfinite(r.value) and r.value != 0.0]
        self._numbers = numbers = [x for x in read if abs(x) < _LARGEST_NUMBER]
        base = [*numbers, *(1.0 / x for x in numbers)]
        pairs = [a * b for a, b in itertools.combinations_with_replacement(base, 2)]
        self._scales = np.array(list(dict.fromkeys([1.0, *base, *pairs])))
        self._biases = np.array(list(dict.fromkeys([0.0, *numbers, *(-x for x in numbers)])))
        self._factors = list(dict.fromkeys([1.0, *base]))
        self._trials: dict[tuple[tuple[Role, ...], int], Trial] = {}

    def _trial(self, roles: tuple[Role, ...], seed: int) -> Trial:
        if (roles, seed) not in self._trials:
            self._trials[roles, seed] = Trial(
                self._program, self._leaves, self._shape, roles, seed, self._keys
            )
        return self._trials[roles, seed]

    def proposals(self) -> Iterator[Weights]:
        """What agrees on one row."""
        program = self._program
        caps, triangle = [0.0], any(call.op_type == "Trilu" for call in program.calls)
        if any(call.op_type == "Tanh" for call in program.calls):
            caps = [x for x in self._numbers if x > 0.0]
        reducing = sum(
            call.op_type.startswith("Reduce") or call.op_type == "Softmax" for call in program.calls
        )
        for roles in itertools.product(*(leaf.roles(program) for leaf in self._leaves)):
            for function in SCORE_FUNCTIONS.values():
                sums = 0 if function.kind == "pointwise" else 1 if function.second is None else 2
                if (reducing > 0) != (sums > 0) or reducing < sums:
                    continue
                if ("sink" in roles and function.extra is None) or (
                    function.second is None and ("keys" in roles or "offset" in roles)
                ):
                    continue
                for cap in caps:
                    for power in self._powers() if function.second is not None else (0,):
                        asked = Weights(
                            function.name, softcap=cap, roles=roles, power=power, triangle=triangle
                        )
                        yield from self._agreeing(asked)

    def _powers(self) -> list[int]:
        whole = [int(x) for x in self._numbers if x == int(x) and 0 < x <= _LARGEST_POWER]
        whole += [
            int(c.reshape(()))
            for _, c in self._program.constants
            if c.size == 1 and c.dtype.kind in "iu" and 0 < int(c.reshape(())) <= _LARGEST_POWER
        ]
        return list(dict.fromkeys([*whole, 1, 2, 3, 4]))

    def _agreeing(self, asked: Weights) -> Iterator[Weights]:
        """The scales, biases and factors that agree on the last row, all tried at once."""
        trial = self._trial(asked.roles, 1)
        if trial.broken:
            return
        biases = np.zeros(1) if asked.score == "softmax" else self._biases
        scales, shifts = np.repeat(self._scales, len(biases)), np.tile(biases, len(self._scales))
        expected = trial.expected(asked, scale=scales[:, None], bias=shifts[:, None], row=True)
        found = trial.found.reshape(-1, self._shape[-1])[-1]
        for factor in self._factors if asked.score in _DIVIDED else (1.0,):
            close = np.isclose(expected * factor, found, rtol=_TOLERANCE, atol=1e-13).all(-1)
            for index in np.flatnonzero(close):
                yield replace(asked, scale=float(scales[index]), bias=float(shifts[index]), factor=factor)

    def confirms(self, weights: Weights) -> bool:
        """Whether it agrees on all rows, twice."""
        for seed in (1, 2):
            trial = self._trial(weights.roles, seed)
            expected = trial.expected(weights, scale=weights.scale, bias=weights.bias) * weights.factor
            if not np.allclose(trial.found, expected, rtol=_TOLERANCE, atol=1e-13):
                return False
        return True

    def completed(self, weights: Weights) -> Weights:
        """With what it makes of scores that are not a number, and of rows whose keys are all removed."""
        trial = self._trial(weights.roles, 1)
        guarded = bool(np.all(trial.of_nan() == 0.0))
        lowest = [
            float(content.reshape(-1)[0])
            for _, content in self._program.constants
            if content.size == 1 and content.dtype.kind == "f" and float(content.reshape(-1)[0]) < _LOW
        ]
        finite = [x for x in lowest if np.isfinite(x)]
        fill = finite[0] if finite else -math.inf
        return replace(weights, fill=fill, guarded=guarded)
