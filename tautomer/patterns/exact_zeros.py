"""Which activations give exact zeros: those whose formula is 0 over a good part of what they are given.

Nobody lists them. A definition says it of itself, at the numbers that the operation has: max(x, 0) is 0 for
half of all x, in exact arithmetic and in any other, while a GELU only comes near it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tautomer.graph.semantics.mathematics import Float64
from tautomer.patterns.operation import Definition, definitions
from tautomer.patterns.rows import apply

GRID = np.linspace(-4.0, 4.0, 65)
"""What activations are usually given."""

_LEAST_SHARE = 0.25


def has_exact_zeros(definition: Definition, parameters: Mapping[str, float] | None = None) -> bool:
    """Whether an operation is 0 for a quarter of usual x or more, and not for all.

    Args:
        definition: any.
        parameters: the numbers that the operation has; those of the definition where it says none.
    """
    pointwise = definition in definitions() and not definition.rows and len(definition.results) == 1
    if not pointwise or any(
        name != "gate" and name not in definition.channels for name in definition.operands
    ):
        return False  # attention, whose inputs are of other kinds, is not among the definitions either
    return has_zeros(_at(definition, 1.5, parameters))


def has_zeros(y: NDArray[Any]) -> bool:
    """The same of what an activation gives on `GRID`."""
    return _LEAST_SHARE <= float(np.mean(y == 0.0)) < 1.0


def without_gate(definition: Definition) -> Definition | None:
    """The activation that a gated one multiplies by its gate, where ONNX has it: Relu of ReGLU."""
    for one in definitions():
        plain = not (one.rows or one.operands or one.domain or one.parameters)
        if plain and np.array_equal(_at(one, 1.0), _at(definition, 1.0)):
            return one
    return None


def _at(definition: Definition, gate: float, parameters: Mapping[str, float] | None = None) -> NDArray[Any]:
    """What it gives on the grid; operands that are broadcast to x are what they are by default, or 1."""
    operands = {name: np.full_like(GRID, gate) for name in definition.operands}
    for name, number in definition.channels.items():
        operands[name] = np.full_like(GRID, 1.0 if number is None else number)
    given = {name: value for name, value in (parameters or {}).items() if name in definition.parameters}
    return np.asarray(apply(definition, Float64(), GRID, operands=operands, parameters=given))
