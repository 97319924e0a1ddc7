"""From scores to weights: which score function, numbers and masks a cone between two products is.

    weights = f(cap(scores * times / over * scale) + bias + masks) * factor * gains / shares
    cap(s) = softcap * tanh(s / softcap)

Proposed: every reading of the cone's numbers, and every part that a tensor entering the cone may play.
Confirmed: on random scores and tensors, all rows and twice.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import onnx_ir as ir

from tautomer.patterns.attention.score_functions import SCORE_FUNCTIONS, ScoreFunction, weights_of
from tautomer.patterns.recognition.evaluation import FLOAT64, Program

Role = Literal[
    "keeps",
    "removes",
    "adds",
    "subtracts",
    "zeroes",
    "times",
    "over",
    "gains",
    "shares",
    "sink",
    "keys",
    "offset",
]
"""What a tensor does: a boolean that keeps or removes keys; numbers that are added to scores or subtracted,
zero weights before they are summed, multiply or divide the scores of a query (before all else) or its weights
(behind all else), are the score of one more key, say how many keys a query has, or are subtracted before a
second weight."""
_FACTORS: tuple[Role, ...] = ("times", "over", "gains", "shares")
_ROWWISE = (*_FACTORS, "sink", "keys", "offset")  # one number for each query

_TOLERANCE = 1e-9  # float64 rounding of a softmax row
_LARGEST_NUMBER = 1e4
_LOW = -1e3  # what is put into a score to remove its key is lower
_LARGEST_POWER = 64
_DIVIDED = ("relu", "relu2")  # score functions that are used divided by the number of keys


@dataclass(frozen=True)
class Weights:
    """What was confirmed.

    Attributes:
        score: the score function's name.
        scale, bias, softcap, factor: see above; softcap is 0 where scores are not capped.
        roles: of the cone's leaves, in their order.
        power: of the second weight, where there is one.
        fill: the score of a key that a boolean removes.
        guarded: whether weights that are not a number become 0.
        triangle: whether a lower triangle is cut out on the way, so that query i sees the keys j <= i.
    """

    score: str
    scale: float = 1.0
    bias: float = 0.0
    softcap: float = 0.0
    factor: float = 1.0
    roles: tuple[Role, ...] = ()
    power: int = 0
    fill: float = -math.inf
    guarded: bool = False
    triangle: bool = False

    @property
    def function(self) -> ScoreFunction:
        """The score function."""
        return SCORE_FUNCTIONS[self.score]


@dataclass(frozen=True)
class Leaf:
    """A tensor that enters a cone: its type, its shape, and whether it is known to hold 0 and 1 only."""

    kind: ir.DataType
    shape: tuple[int, ...]
    truths: bool = False

    def roles(self, program: Program) -> tuple[Role, ...]:
        """The parts that it may play."""
        if self.kind == ir.DataType.BOOL:
            return ("keeps", "removes")
        ops = [call.op_type for call in program.calls]
        column = not self.shape or self.shape[-1] == 1
        there: dict[Role, bool] = {
            "zeroes": self.truths and not column,
            "sink": column and "Concat" in ops,
            "adds": True,
            "subtracts": "Sub" in ops,
            "times": column and "Concat" not in ops,
            "over": column and "Div" in ops and "Concat" not in ops,
            "gains": column and "Mul" in ops,
            "shares": column and "Div" in ops,
            "keys": column and "Pow" in ops,
            "offset": column and "Pow" in ops,
        }
        return tuple(role for role, may in there.items() if may)


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
        self._trials: dict[tuple[tuple[Role, ...], int], _Trial] = {}

    def _trial(self, roles: tuple[Role, ...], seed: int) -> _Trial:
        if (roles, seed) not in self._trials:
            self._trials[roles, seed] = _Trial(
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


class _Trial:
    """Random scores and tensors for a cone; what it makes of them is computed when it is first asked for."""

    def __init__(
        self,
        program: Program,
        leaves: Sequence[Leaf],
        shape: tuple[int, ...],
        roles: tuple[Role, ...],
        seed: int,
        keys: int,
    ) -> None:
        self._keys = float(keys)
        rng = np.random.default_rng(seed)
        self._program, self._shape = program, shape
        self.scores = rng.standard_normal(shape) * 2.0
        self._leaves: list[Any] = []
        self._parts: dict[Role, list[Any]] = {}
        self.broken = False
        for leaf, role in zip(leaves, roles, strict=True):
            content = _content(leaf, role, shape[-1], rng)
            self._leaves.append(~content if role == "removes" else content)
            there = _as_scores(content, program)
            if there is None:
                self.broken = True
            else:
                there = there.reshape(shape)
                self._parts.setdefault(role, []).append(there[..., :1] if role in _ROWWISE else there)

    @cached_property
    def found(self) -> Any:
        """The weights that the cone makes."""
        return self._program(self.scores, self._leaves).reshape(self._shape)

    def of_nan(self) -> Any:
        """The weights that it makes of scores that are not a number."""
        return self._program(np.full(self._shape, np.nan), self._leaves)

    def expected(self, weights: Weights, *, scale: Any, bias: Any, row: bool = False) -> Any:
        """The weights by their definition, of all rows, or of the last one only."""

        def part(x: Any) -> Any:
            return x.reshape(-1, x.shape[-1])[-1] if row else x

        def parts(role: Role) -> Iterator[Any]:
            return (part(x) for x in self._parts.get(role, ()))

        total = part(self.scores)
        for x in parts("times"):
            total = total * x
        for x in parts("over"):
            total = total / x
        total = total * scale
        if weights.softcap:
            total = weights.softcap * np.tanh(total / weights.softcap)
        total = total + bias
        for x in parts("adds"):
            total = total + x
        for x in parts("subtracts"):
            total = total - x
        for role in ("keeps", "removes", "zeroes"):
            for x in parts(role):
                total = np.where(x != 0, total, -np.inf)
        if weights.triangle:
            total = np.where(part(np.tri(*self._shape[-2:], dtype=bool)), total, -np.inf)
        with np.errstate(all="ignore"):
            found = weights_of(
                FLOAT64,
                weights.function,
                total,
                extra=next(parts("sink"), None),
                keys=next(parts("keys"), self._keys),
                offset=next(parts("offset"), 1.0),
                power=weights.power,
            )
            for x in parts("gains"):
                found = found * x
            for x in parts("shares"):
                found = found / x
        return found


def _content(leaf: Leaf, role: Role, keys: int, rng: np.random.Generator) -> Any:
    """What stands for a leaf; of each row of a mask the first key stays."""
    if role in ("keeps", "removes", "zeroes"):
        mask = np.asarray(rng.random(leaf.shape) < 0.7)
        if leaf.shape:
            mask[..., 0] = True
        return mask.astype(np.float64) if role == "zeroes" else mask
    if role in _FACTORS:  # of either sign: relu(t s) is t relu(s) of one
        return rng.uniform(0.5, 1.5, leaf.shape) * rng.choice([-1.0, 1.0], leaf.shape)
    if role == "keys":
        return rng.uniform(1.5, 2.5, leaf.shape) * keys  # so that the largest weight is above the offset
    if role == "offset":
        return rng.integers(0, 2, leaf.shape).astype(np.float64)
    return rng.standard_normal(leaf.shape)


def _as_scores(content: Any, program: Program) -> Any:
    """A leaf in the shape of the scores; it may have been applied to the same scores in another shape."""
    for shape in program.shapes:
        try:
            return np.broadcast_to(content, shape).reshape(program.source_shape)
        except ValueError:
            continue
    return None
