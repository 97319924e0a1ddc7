"""How far from zero mean the rows of a value are, in the arithmetic of a runtime.

Where a layer normalisation leaves out taking the mean away, its rows must have none. A mean that rounding
leaves, e in units of the row's size, makes the result wrong by about e: so it is e that is measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from tautomer.errors import InputError
from tautomer.verify.interpreter import run
from tautomer.verify.single import Float32


def largest_means(
    model: ir.Model, names: Sequence[str], inputs: Mapping[str, Any], *, axes: Sequence[int] = (-1,)
) -> dict[str, float]:
    """The largest |mean| / rms over the rows of each value, computed in float32.

    Args:
        model: the model, evaluated in float32 whatever its own types.
        names: float values of the main graph; only what they need is run.
        inputs: arrays by name.
        axes: of a row.

    Returns:
        By name, in the order of the names: between 0 and 1; 0 where all rows are zero or there is none,
        infinity where a row holds an infinity or nan.

    Raises:
        Unsupported: the model cannot be evaluated; it says which node.
        InputError: the inputs do not fit, the graph computes no such value, or it has not these axes or no
            floats.
    """
    domain = Float32()
    found = run(model, domain, inputs, outputs=names)
    means = {}
    for name in names:
        value = found[name]
        if not domain.is_value(value):
            raise InputError("it is no tensor of floats", where=f"'{name}'")
        # float64 from here on: what is measured is the rounding of the model, not of the measurement
        array = domain.concrete(value)
        if any(not -array.ndim <= axis < array.ndim for axis in axes):
            raise InputError(f"it has no axes {list(axes)}", where=f"'{name}'")
        means[name] = _largest(array, tuple(axes))
    return means


def _largest(array: np.ndarray[Any, Any], axes: tuple[int, ...]) -> float:
    if not array.size:
        return 0.0
    if not np.all(np.isfinite(array)):
        return np.inf
    mean = np.abs(array.mean(axis=axes))
    rms = np.sqrt(np.square(array).mean(axis=axes))
    return float(np.max(np.divide(mean, rms, out=np.zeros_like(mean), where=rms > 0.0)))
