"""Folded constants are their expressions rounded once, or they are refused."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx.parser
import onnx_ir as ir
import pytest

from tautomer.graph.call import Call
from tautomer.graph.expression import Applied, Expression, Stored
from tautomer.graph.reader import as_model
from tautomer.graph.semantics.domain import Unsupported
from tautomer.verify.ball import Ball
from tautomer.verify.constants import check_constant, format_of, ulp
from tautomer.verify.constants_leg import constants_leg

_RNG = np.random.default_rng(9)
W = _RNG.standard_normal((96, 64)).astype(np.float32) + np.float32(0.5)
G = (1.0 + 0.1 * _RNG.standard_normal(96)).astype(np.float32)


def centred(kind):
    """A writer of the residual without its mean, times a gain: what recentring folds."""
    w, g = W.astype(kind), G.astype(kind)
    return (w - w.mean(1, keepdims=True, dtype=kind)) * g[:, None]


NARROW = {"float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}


@pytest.mark.parametrize("name", NARROW)
def test_folded_wide_and_rounded_once(name):
    check = check_constant(centred(np.float64).astype(NARROW[name]), lambda: centred(np.longdouble))
    print(name, check)
    assert check.ok and check.misrounded == 0 and 0.4 < check.max_ulp <= 0.5 + 2.0**-10


def test_folded_narrow_is_off():
    check = check_constant(centred(np.float32), lambda: centred(np.float64))
    print(check)
    assert not check.ok and check.max_ulp > 10.0 and check.misrounded > 0.3 * W.size


def test_one_weight_two_ulp_off():
    stored = centred(np.float64).astype(np.float32)
    stored[3, 5] = np.nextafter(np.nextafter(stored[3, 5], np.float32(9)), np.float32(9))
    check = check_constant(stored, lambda: centred(np.float64))
    assert not check.ok and check.misrounded == 1 and 1.5 <= check.max_ulp <= 2.5


def test_the_neighbour_is_not_good_enough():
    exact = np.asarray([1.0 + 2.0**-24 * 1.2])  # just above the middle
    up = np.nextafter(np.float32(1.0), np.float32(2.0))
    assert check_constant(np.asarray([up], np.float32), lambda: exact).ok
    assert not check_constant(np.asarray([1.0], np.float32), lambda: exact).ok


def test_float64_needs_something_wider():
    stored = centred(np.longdouble).astype(np.float64)
    assert check_constant(stored, lambda: centred(np.longdouble)).ok
    with pytest.raises(Unsupported, match="no wider"):
        check_constant(stored, lambda: centred(np.float64))


def test_balls_check_float64():
    m = Ball()
    w = W[:4, :6].astype(np.float64)

    def exact():
        x = m.constant(w)
        return x - m.mean(x, (1,), True)

    rounded = (w.astype(np.longdouble) - w.astype(np.longdouble).mean(1, keepdims=True)).astype(np.float64)
    check = check_constant(rounded, exact)
    assert check.ok and check.max_ulp <= 0.5 + 2.0**-10
    rounded[1, 2] = np.nextafter(rounded[1, 2], 9.0)
    assert check_constant(rounded, exact).misrounded == 1


@pytest.mark.parametrize(("scale", "passed"), [(np.float64(np.float16(2 / 3)), True), (2 / 3, False)])
def test_stored_numbers_are_not_read_as_others(scale, passed):
    """0.6665 in a float16 is that, also where the graph is read as if it were 2 / 3."""
    text = """<ir_version: 9, opset_import: ["": 18]> m (float[3] x) => (float[3] y)
    <float[3] w = {{1, 1, 1}}, float s = {{1}}> {{ {} }}"""
    bodies = "f = Mul (w, s) \n y = Mul (x, f)", "y = Mul (x, w)"
    original, other = (as_model(onnx.parser.parse_model(text.format(body))) for body in bodies)
    w = np.float16([0.53, 0.54, 0.59])
    held = {"w": w, "s": np.array(2 / 3, np.float16)}
    made = {"w": (w.astype(np.float64) * scale).astype(np.float16)}
    for model, arrays in ((original, held), (other, made)):
        for name, array in arrays.items():
            model.graph.initializers[name].const_value = ir.tensor(array, name=name)
    expression = Expression((Stored("w"), Stored("s"), Applied(Call("Mul", version=18), (0, 1))))
    leg = constants_leg(original, other, {"w": expression})
    assert leg is not None and leg.passed == passed, leg


def test_special_numbers_and_shapes():
    stored = np.asarray([np.inf, -np.inf, 0.0, np.nan], np.float32)
    assert check_constant(stored, lambda: np.asarray([1e300, -np.inf, 0.0, np.nan])).ok
    assert not check_constant(stored, lambda: np.asarray([1.0, -np.inf, 0.0, np.nan])).ok
    assert not check_constant(stored, lambda: np.zeros(3)).ok
    assert not check_constant(np.zeros(2, np.float32), lambda: np.asarray([0.0, np.nan])).ok


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_ulp_is_the_distance_to_the_neighbour(kind):
    x = np.asarray([1.0, 1.5, 2.0, 1000.0, 1e-7, 0.0, float(format_of(kind).tiny) / 8], kind)
    assert np.array_equal(ulp(x, kind), np.spacing(x).astype(np.float64))
    assert np.array_equal(ulp(-x, kind), ulp(x, kind))


def test_formats_are_those_of_numpy_and_ml_dtypes():
    for name in ("float16", "float32", "float64", "bfloat16"):
        finfo = ml_dtypes.finfo(np.dtype(NARROW.get(name, name)))
        kind = format_of(np.dtype(NARROW.get(name, name)))
        assert kind.roundoff == float(finfo.eps) / 2 and kind.largest == float(finfo.max)
        assert kind.tiny == float(finfo.smallest_normal)
