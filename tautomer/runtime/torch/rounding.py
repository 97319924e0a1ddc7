"""The criterion of the numerics leg on what torch graphs give."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from tautomer.runtime.torch.widened import widened
from tautomer.verify.numerics import Score, judge

_DRAWS = 2
_WIDE = 1e-10  # thousands of roundings in float64, and a millionth of one in float32
_ULP = {torch.float32: 2.0**-24, torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8, torch.float64: 2.0**-53}


def score_of(
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    exact: Mapping[str, Any],
    perturbed: Callable[[int], Mapping[str, Any]],
) -> Score:
    """Judges results by name.

    Args:
        old: of the original.
        new: of what was made of it.
        exact: of the original in float64.
        perturbed: the same, the inputs moved by rounding; called with the number of the draw.
    """
    # no wider run tells what a graph in float64 loses itself: it is judged as if in float32 and, as most
    # of what is wrong is larger than that, once more against what float64 may lose
    wide = [name for name, x in old.items() if x.dtype == np.float64]
    if any(not np.allclose(old[name], new[name], rtol=_WIDE, atol=_WIDE, equal_nan=True) for name in wide):
        return Score(np.inf, np.inf, 0.0, np.inf, False, "", ("", 0), "float64 results differ")
    for draws in (0, _DRAWS):  # what passes without an allowance for its inputs needs no more runs
        score = judge(
            lambda _: old,
            lambda _: new,
            lambda _: exact,
            {},
            np.float32 if wide else None,
            perturbed=perturbed,
            draws=draws,
        )
        if score.accepted:
            break
    return score


def reason_of(score: Score) -> str:
    """Why it is not accepted."""
    return score.reason or f"an error of {score.score:.3g} times what rounding explains"


def moved_by_rounding(held: Any, generator: torch.Generator, dtype: torch.dtype | None = None) -> Any:
    """A float tensor in float64, each element moved by up to an ulp of its type, or of another."""
    if not isinstance(held, torch.Tensor) or not held.dtype.is_floating_point:
        return held
    steps = torch.randint(-1, 2, tuple(held.shape), generator=generator).to(held.device)
    return widened(held) * (1.0 + _ULP.get(dtype or held.dtype, 0.0) * steps)
