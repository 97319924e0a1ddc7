"""Rounding at a site: what a rewrite does to float32 results, on rows of every class and on special values.

    |new - exact| against what the roundings of old and of the inputs explain,  exact = old in float64

Where float64 itself loses digits, balls say what is exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np
import onnx_ir as ir

from tautomer.graph.fact import Shape
from tautomer.graph.semantics.domain import Mathematics, Unsupported
from tautomer.graph.semantics.mathematics import Float64
from tautomer.verify.ball import Ball
from tautomer.verify.classes import CLASSES
from tautomer.verify.distances import rows_agree
from tautomer.verify.few_rows import between
from tautomer.verify.numerics import filled, judge
from tautomer.verify.single import Float32
from tautomer.verify.site import Site

_DRAWS = (1, 4)  # perturbations; one may miss how much an input's rounding can do


def site_misrounds(site: Site, shapes: Mapping[ir.Value, Shape]) -> str:
    """Why the new value is further from the exact one than rounding explains; "" when all is well.

    Args:
        site: the rewrite; its first leaf of floats is varied.
        shapes: of few rows.
    """

    def evaluated(value: ir.Value, m: Mathematics, inputs: Mapping[str, Any]) -> dict[str, Any]:
        contents = {leaf: inputs[str(index)] for index, leaf in enumerate(site.leaves)}
        cone = site.evaluation(shapes, m, contents)
        concrete = m.nearest if isinstance(m, Ball) else m.concrete
        return {"y": concrete(cone.value(value)).astype(np.float32 if m is single else np.float64)}

    single, double = Float32(), Float64()
    rng = np.random.default_rng(11)
    base = {str(i): site.drawn(x, shapes[x], rng) for i, x in enumerate(site.leaves)}
    base = {name: x.astype(np.float32) if x.dtype.kind == "f" else x for name, x in base.items()}
    varied = next((name for name, x in base.items() if x.dtype.kind == "f" and x.shape), None)
    if varied is None:
        return ""
    suited = [each for each in CLASSES if not (each.scores and _multiplies(site))]
    grid = {each.name: {varied: each.rows(base[varied].shape, np.float32, 1)} for each in suited}
    if truths := {name: np.zeros_like(x) for name, x in base.items() if x.dtype == bool}:
        grid["all masked"] = truths
    for name, changed in grid.items():
        inputs = {**base, **changed}
        finite = all(np.all(np.isfinite(x)) for x in inputs.values())

        def oracle(x: Mapping[str, Any], finite: bool = finite) -> dict[str, Any]:
            exact = evaluated(site.old, double, x)
            if not finite:
                return exact
            other = evaluated(site.new, double, x)
            if rows_agree(exact["y"], other["y"]):
                return filled(exact, lambda: other)
            # one of them loses digits, as x / 2 * (1 + tanh x) does for negative x
            for value in (site.old, site.new):
                with suppress(Unsupported, ValueError):
                    return evaluated(value, Ball(), x)
            return filled(exact, lambda: other)

        ways = (partial(evaluated, site.old, single), partial(evaluated, site.new, single), oracle)
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


def _multiplies(site: Site) -> bool:
    """Whether a product of two varying matrices is on the way, so that its leaves are no scores."""
    return any(
        node.op_type == "MatMul" and not any(site.facts.get(x).constant for x in node.inputs)
        for node in between((site.old,), site.leaves, site.facts)
    )
