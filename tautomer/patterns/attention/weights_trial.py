"""Random scores and tensors for a cone between two products: the weights it makes, and those it should.

    weights = f(cap(scores * times / over * scale) + bias + masks) * factor * gains / shares

The factor is left to the caller, who tries many.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from tautomer.patterns.attention.score_functions import weights_of
from tautomer.patterns.attention.weights import FACTORS, Leaf, Role, Weights
from tautomer.patterns.recognition.evaluation import FLOAT64, Program

_ROWWISE = (*FACTORS, "sink", "keys", "offset")  # one number for each query


class Trial:
    """Random scores and tensors for a cone; what it makes of them is computed when it is first asked for.

    Args:
        program: the cone.
        leaves: the tensors that enter it.
        shape: of the scores.
        roles: the parts that the leaves are taken to play.
        seed: of the random numbers.
        keys: how many keys there are.

    Attributes:
        scores: the random scores.
        broken: whether a leaf does not go with the scores.
    """

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
    if role in FACTORS:  # of either sign: relu(t s) is t relu(s) of one
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
