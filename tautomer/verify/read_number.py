"""The number that a stored scalar stands for, in float64: of 0.70710677 the root of a half."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import onnx_ir as ir

from tautomer.verify.field.numbers import Reader


def read_number(tensor: ir.TensorProtocol) -> Any:
    """The number that a scalar stands for, in float64; None for itself."""
    array = np.asarray(tensor.numpy())
    number = Reader().read(array)
    return None if number is None else np.full(array.shape, float(number.evaluate(_Floats())))


class _Floats:
    """The numbers that readings are made of."""

    def rational(self, x: Fraction) -> float:
        return float(x)

    def sqrt(self, x: float) -> float:
        return math.sqrt(x)

    def named(self, name: str) -> float:
        return {"sqrt(2/pi)": math.sqrt(2.0 / math.pi), "log2(e)": math.log2(math.e), "e": math.e}[name]
