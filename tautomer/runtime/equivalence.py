"""Verifying that two models are the same function: the legs of the evidence, and the decision."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import onnx_ir as ir

from tautomer.graph.semantics.mathematics import Float64, Unsupported
from tautomer.runtime.numerics_leg import numerics_legs
from tautomer.verify.algebra import algebra_leg
from tautomer.verify.branches import inputs_of_branches
from tautomer.verify.classes import CLASSES
from tautomer.verify.constants_leg import constants_leg
from tautomer.verify.exact import choose_exact, is_wide
from tautomer.verify.few_rows import few_inputs
from tautomer.verify.inputs import fitting_inputs
from tautomer.verify.interpreter import run
from tautomer.verify.numerics import of_classes
from tautomer.verify.pairing import check_signatures
from tautomer.verify.provenance import Provenance
from tautomer.verify.thresholds import parted
from tautomer.verify.verdict import Leg, Verdict, decide

_STANDING = (
    "equality is over the real numbers, on the inputs and sizes that were tried",
    "denominators are not zero",
)


def verify_models(
    original: ir.Model,
    other: ir.Model,
    *,
    inputs: Mapping[str, Any] | None = None,
    provenance: Provenance | None = None,
    allowed: Collection[str] = (),
    roundings: bool = False,
    progress: Callable[[str], None] | None = None,
) -> Verdict:
    """Compares two models with every leg that can be had.

    Args:
        original: the model that decides.
        other: the model compared with it.
        inputs: inputs to use instead of made ones.
        provenance: what constants of the second model stand for, where a rewrite made them.
        allowed: differences in special values that are accepted by name, such as "safe-softmax".
        roundings: accept differences that the rounding of constants of one model only explains; for models
            of which nobody says what their constants stand for.
        progress: called with one line per leg.

    Raises:
        InputError: the models cannot be compared, or inputs cannot be made for them.
    """
    tell = progress or (lambda line: None)
    check_signatures(original, other)
    tell("inputs")
    # exact arithmetic does not depend on luck with inputs: for a wide model one set of them is enough
    seeds = (1,) if is_wide(original) else (1, 2)
    sizes, made = ({}, [dict(inputs)]) if inputs is not None else made_inputs(original, seeds)
    more, left_out = inputs_of_branches(original, other, made[0], make=inputs is None)
    tell("algebra")
    unusual = None
    if roundings:
        usual = [each for each in CLASSES if not each.special]
        grid = [] if inputs is not None or is_wide(original) else usual
        unusual = [varied for _, varied in of_classes(original, sizes, made[0], grid, seeds[0])]
    few, cut = _few(original, other, sizes, made) if inputs is None and not more else ([], [])
    exactly = partial(algebra_leg, domains=choose_exact(original), provenance=provenance, roundings=unusual)
    algebra, failed = exactly(original, other, few or [*made, *more])
    if few and algebra.passed is not True:  # what holds of this number of rows only is no difference
        cut, (algebra, failed) = [], exactly(original, other, made)
    legs: dict[str, Leg] = {"algebra": algebra}
    assumptions = [*_STANDING, *algebra.assumptions, *left_out, *cut]
    constants = constants_leg(original, other, provenance or {})
    if constants is not None:
        legs["constants"] = constants
    with suppress(Unsupported):
        tried, reason = parted(original, other, made[0])
        if tried:
            detail = {"inputs": tried, **({"reason": reason} if reason else {})}
            legs["thresholds"] = Leg(not reason, detail)
    tell("numerics")
    run_both = numerics_legs(
        original,
        other,
        sizes,
        made[0],
        given=inputs is not None,
        identical=algebra.passed is True,
        allowed=allowed,
    )
    legs |= run_both
    if not run_both["numerics"].needed:
        assumptions.append("the other model rounds as the original does, and keeps its special values")
    verdict, reason = decide(legs)
    divergence = failed.divergence.as_json() if failed is not None and failed.divergence is not None else None
    return Verdict(verdict, legs, divergence, reason, tuple(assumptions))


def _few(
    original: ir.Model, other: ir.Model, sizes: Mapping[str, int], made: Sequence[dict[str, Any]]
) -> tuple[Sequence[dict[str, Any]], list[str]]:
    """The first few rows of inputs, where those are enough for exact arithmetic and all too many; or none."""
    fewer = []
    # what holds of one number of terms of a sum by chance does not hold of another
    for more, inputs in enumerate(made if len(made) > 1 else [*made, *made]):
        shapes = few_inputs(original, other, sizes, more=more)
        if shapes is None:
            return [], []
        fewer.append({name: x[tuple(map(slice, shapes[name]))] for name, x in inputs.items()})
    shown = ", ".join(f"'{name}' {list(shape)}" for name, shape in (shapes or {}).items())
    return fewer, [f"in exact arithmetic a few rows, and terms of sums, show what all do: {shown}"]


def made_inputs(model: ir.Model, seeds: Sequence[int]) -> tuple[dict[str, int], list[dict[str, Any]]]:
    """Sizes for which the model can be evaluated, and inputs of these sizes, one set per seed.

    Raises:
        InputError: an input cannot be made, or the model takes none of those that were made.
    """
    domain = Float64()

    def accepts(inputs: dict[str, Any]) -> None:
        # what has no meaning here is for the algebra leg to say
        with suppress(Unsupported):
            run(model, domain, inputs)

    return fitting_inputs(model, accepts, seeds)
