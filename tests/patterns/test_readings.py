"""Constants are read as the numbers they are roundings of, and as no others."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tautomer.patterns.recognition.readings import read_scalar

SINGLE, HALF, DOUBLE = np.dtype(np.float32), np.dtype(np.float16), np.dtype(np.float64)


@pytest.mark.parametrize(
    ("number", "name"),
    [
        (math.sqrt(2.0), "sqrt(2)"),
        (math.sqrt(0.5), "1/sqrt(2)"),
        (math.sqrt(2.0 / math.pi), "sqrt(2/pi)"),
        (0.044715, "0.044715"),
        (1e-5, "1e-05"),
        (1e-12, "1e-12"),
        (1.702, "1.702"),
        (1.0 / 768.0, "1/768"),
        (1.0 / math.sqrt(96.0), "1/sqrt(96)"),
        (96.0**-0.25, "96^(-1/4)"),
    ],
)
@pytest.mark.parametrize("dtype", [SINGLE, DOUBLE])
def test_a_number_rounded_to_its_storage_type_is_read_as_that_number(
    number: float, name: str, dtype: np.dtype
) -> None:
    reading = read_scalar(float(np.asarray(number).astype(dtype)), dtype)
    assert reading.value == pytest.approx(number, rel=1e-15)
    if dtype == SINGLE:
        assert reading.name == name


def test_roundings_to_half_precision_are_read_in_half_precision_only() -> None:
    half = float(np.float16(math.sqrt(2.0)))
    assert read_scalar(half, HALF).value == math.sqrt(2.0)
    assert read_scalar(half, SINGLE).value == half
    cubic = float(np.float16(0.044715))  # whose shortest decimal is another number, 0.0447
    assert read_scalar(cubic, HALF).value == 0.044715
    assert read_scalar(float(np.float32(0.0447)), SINGLE).value == pytest.approx(0.0447, rel=1e-12)
    brain = float(ml_dtypes.bfloat16(math.sqrt(2.0)))
    assert read_scalar(brain, np.dtype(ml_dtypes.bfloat16)).value == math.sqrt(2.0)


def test_a_constant_typed_short_is_read_loosely_in_nominal_mode_only() -> None:
    typed = float(np.float32(1.4142))
    assert read_scalar(typed, SINGLE).value == pytest.approx(1.4142, rel=1e-12)
    nominal = read_scalar(typed, SINGLE, "nominal")
    assert nominal.nominal
    assert nominal.value == math.sqrt(2.0)
    assert not read_scalar(float(np.float32(1.5)), SINGLE, "nominal").nominal


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_every_reading_rounds_back_to_what_is_stored(stored: float) -> None:
    assert float(np.float32(read_scalar(stored, SINGLE).value)) == stored
