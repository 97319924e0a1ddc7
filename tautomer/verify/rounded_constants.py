"""Whether a difference of two models is the rounding of constants that only one of them has.

A tool that folds a batch norm into a convolution, or gamma into the weights behind it, stores rounded
numbers: in exact arithmetic the result is another function, by 1e-8 of its size, and a correct one. Where
nobody says which expressions the constants stand for, this is what can be asked: on the same inputs,

    delta = |b - a|                                         of the two models
    kappa = max |a' - a|, |b' - b|                          with every constant that the model alone has moved
                                                            by half an ulp of its type, up or down at random

and the difference is explained where delta <= 4 kappa in every row of every output, on all inputs. Both
models are moved, since rounding the product of a weight and a gain moves a channel as rounding the gain does.

It is evaluated in float64. Its own noise, measured by moving all weights by an ulp of float64, is granted;
where kappa is below that, so that float64 shows nothing, ball arithmetic decides. Where kappa is as large
as the outputs, anything would be explained, and nothing is said.

What it cannot see: a mistake that moves the outputs less than rounding does. Where n rounded elements move
an output alike, one that is off by k ulps shows from k = 2 sqrt(n) on; a wrong epsilon does not show beside a
variance of 1e5. A dropped bias of 0 is not seen either, since random weights can take the place of stored
ones only where both models have the same. Numbers in the attributes of nodes are not moved.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from tautomer.errors import InputError
from tautomer.graph.semantics.domain import Unsupported
from tautomer.graph.semantics.mathematics import Float64
from tautomer.verify.ball import Ball
from tautomer.verify.exact import is_wide
from tautomer.verify.nudges import Strangers, strangers_of
from tautomer.verify.sensitivity import Found, measured
from tautomer.verify.weights import weights_of

Inputs = Mapping[str, Any]

LIMIT = 4.0
"""Rounded once, a constant stays below 1; in float32 step by step, a convolution with batch norm below 2."""
_COARSE = 2.0**-4  # of the largest element: where rounding moves as much, it explains too much
_MOST_IN_BALLS = 200_000  # stored floats
_DRAWS, _DRAWS_WHEN_COSTLY = 4, 2


@dataclass(frozen=True)
class Rounded:
    """What rounding explains of a difference.

    Attributes:
        explained: all of it; None when that cannot be told.
        constants: how many constants of one model only there are.
        ratio: the largest delta / kappa.
        difference: the largest delta, in units of the output's largest element.
        moved: the largest kappa, in the same units.
        inputs: on how many sets of inputs it was measured.
        method: the arithmetic.
    """

    explained: bool | None
    constants: int
    ratio: float
    difference: float
    moved: float
    inputs: int
    method: str

    @property
    def too_coarse(self) -> bool:
        """The difference would be explained, and so would nearly any other."""
        return self.explained is None and self.moved > _COARSE

    def as_json(self) -> dict[str, Any]:
        """For the algebra leg."""
        return {
            "constants": self.constants,
            "worst_ratio": _short(self.ratio),
            "limit": LIMIT,
            "largest_difference": _short(self.difference),
            "inputs": self.inputs,
            "method": self.method,
        }


def rounded(
    original: ir.Model,
    other: ir.Model,
    inputs: Sequence[Inputs],
    more: Sequence[Inputs] = (),
    different: Collection[str] = (),
) -> Rounded | None:
    """Applies the criterion; None where the other model has none of its own, or float64 has no answer.

    A model without a number that the original does not have holds nothing that was rounded.

    Args:
        original: the model that decides.
        other: the model compared with it.
        inputs: made or given inputs.
        more: inputs of unusual kinds; what is no number there is left to the leg of special values.
        different: the outputs that differ in exact arithmetic on some of `inputs`.
    """
    strangers = strangers_of(original, other)
    if not strangers.made:
        return None
    models = original, other
    try:
        draws = _DRAWS_WHEN_COSTLY if is_wide(original) else _DRAWS
        base = [measured(models, strangers, Float64(), _same, one, draws) for one in inputs]
        grid = [_at_once(models, strangers, one) for one in more]
    except (Unsupported, InputError):
        return None
    tried, method = len(base) + len(grid), "float64"
    found = [one for outputs in [*base, *grid] for one in outputs.values()]
    explained: bool | None = all(one.ratio <= LIMIT for one in found)
    seen = all(max(outputs[name].above_noise for outputs in base) > 1.0 for name in different)
    if explained and not seen:
        method = "float64 and ball arithmetic"
        balls = _in_balls(models, strangers, inputs[0])
        found += balls
        explained = all(one.ratio <= LIMIT for one in balls) if balls else None
    usual = [one for outputs in base for one in outputs.values()]
    moved = max((one.moved for one in usual), default=0.0)
    if explained and moved > _COARSE:
        explained = None
    ratio = max((one.ratio for one in found), default=0.0)
    difference = max((one.difference for one in usual), default=0.0)
    return Rounded(explained, len(strangers.values), ratio, difference, moved, tried, method)


def _at_once(models: tuple[ir.Model, ir.Model], strangers: Strangers, inputs: Inputs) -> dict[str, Found]:
    """One draw where that is enough: more of them, and the noise, only explain more."""
    done = measured(models, strangers, Float64(), _same, inputs, 1, noise=False, strict=False)
    if all(one.ratio <= LIMIT / 2 for one in done.values()):
        return done
    return measured(models, strangers, Float64(), _same, inputs, _DRAWS, strict=False)


def _same(array: Any) -> Any:
    return array


def _in_balls(models: tuple[ir.Model, ir.Model], strangers: Strangers, inputs: Inputs) -> list[Found]:
    """In balls; a tool may have computed with 1e-5 or with the float32 beside it, so either may explain."""
    if weights_of(models[0]) > _MOST_IN_BALLS:
        return []
    tried: list[list[Found]] = []
    for read in (True, False):
        m = Ball(256, read=read)
        with suppress(Unsupported):
            done = measured(models, strangers, m, m.constant, inputs, _DRAWS_WHEN_COSTLY, noise=False)
            tried.append(list(done.values()))
    return min(tried, key=lambda found: max(one.ratio for one in found), default=[])


def _short(x: float) -> float | str:
    return float(f"{x:.2g}") if np.isfinite(x) else str(x)
