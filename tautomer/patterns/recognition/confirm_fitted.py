"""Confirming y = f(x; parameters) for definitions that say themselves how their parameters are found."""

from __future__ import annotations

import numpy as np

from tautomer.patterns.operation import definitions
from tautomer.patterns.recognition.confirm_pointwise import RELATIVE, corners, pointwise_values
from tautomer.patterns.recognition.evaluation import FAILURES, FLOAT64, Program
from tautomer.patterns.recognition.match import Match, Refusal
from tautomer.patterns.recognition.probe import points
from tautomer.patterns.recognition.special_values import POINTS, special_points
from tautomer.patterns.rows import apply

_ABSOLUTE = 1e-13  # where a polynomial cancels, of what its terms are


def confirm_fitted(program: Program) -> Match | Refusal | None:
    """The operation that a cone is, the reason why it is none of them, or None where nothing suggests one."""
    for definition in definitions():
        if definition.fit is None or program.too_large:
            continue
        try:
            parameters = definition.fit(program)
            if parameters is None:
                continue
            if isinstance(parameters, Refusal):
                return parameters
            x = np.concatenate([points(), corners(program.readings)])
            found, odd = (pointwise_values(program, one) for one in (x, POINTS))
        except FAILURES as error:
            return Refusal(f"cannot be evaluated on its own: {error}")
        if found is None or odd is None:
            continue
        expected = np.asarray(apply(definition, FLOAT64, x, parameters=parameters))
        size = np.abs(np.asarray(apply(definition, FLOAT64, np.abs(x), parameters=parameters)))
        if np.all(np.abs(found - expected) <= RELATIVE * np.abs(expected) + _ABSOLUTE * (1.0 + size)):
            special = special_points(odd, apply(definition, FLOAT64, POINTS, parameters=parameters))
            return Match(definition, parameters, readings=program.readings, special=special)
    return None
