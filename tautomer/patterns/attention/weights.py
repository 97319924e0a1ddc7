"""The weights of an attention: what of scores, numbers and tensors they are.

    weights = f(cap(scores * times / over * scale) + bias + masks) * factor * gains / shares
    cap(s) = softcap * tanh(s / softcap)

Which of them a cone between two products computes is for `weights_search`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import onnx_ir as ir

from tautomer.patterns.attention.score_functions import SCORE_FUNCTIONS, ScoreFunction
from tautomer.patterns.recognition.evaluation import Program

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

FACTORS: tuple[Role, ...] = ("times", "over", "gains", "shares")
"""What multiplies or divides."""


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
