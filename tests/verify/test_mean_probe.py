"""How far from zero mean rows are, as float32 has them."""

from __future__ import annotations

import math

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest

from tautomer.errors import InputError
from tautomer.graph.reader import as_model
from tautomer.verify.interpreter import Unsupported
from tautomer.verify.mean_probe import largest_means

CHANNELS = 64


def centred(array: np.ndarray) -> np.ndarray:
    return array - array.mean(-1, keepdims=True)


def model(centre: bool, opset: int = 23) -> ir.Model:
    """A pre-norm block; with `centre`, its stream is made zero-mean by its weights, rounded to float32."""
    rng = np.random.default_rng(2)
    proto = onnx.parser.parse_model(f"""<ir_version: 10, opset_import: ["": {opset}]>
    g (int64[b, s] i) => (float[b, s, {CHANNELS}] y) {{
        h = Gather(table, i)
        n = RMSNormalization <axis = -1> (h, g)
        a = MatMul(n, w)
        f = Add(a, bias)
        x = Add(h, f)
        y = RMSNormalization <axis = -1> (x, g)
        unknown = Bernoulli(y)
    }}""")
    for name, shape in {"table": (30, CHANNELS), "w": (CHANNELS, CHANNELS), "bias": (CHANNELS,)}.items():
        array = rng.standard_normal(shape) + 0.5
        array = (centred(array) if centre else array).astype(np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(CHANNELS, np.float32), "g"))
    return as_model(proto)


TOKENS = {"i": np.arange(12).reshape(3, 4)}


def test_what_is_centred_has_means_of_the_size_of_rounding():
    found = largest_means(model(True), ["h", "x"], TOKENS)
    assert list(found) == ["h", "x"]
    assert 0.0 < found["h"] < 1e-7 and 1e-9 < found["x"] < 1e-6


def test_what_is_not_centred_shows():
    found = largest_means(model(False), ["x", "h"], TOKENS)
    assert list(found) == ["x", "h"] and all(0.1 < mean <= 1.0 for mean in found.values())


def probed(x: np.ndarray, axes: tuple[int, ...] = (-1,)) -> float:
    text = "g (float[a, b, c] x) => (float[a, b, c] y) { h = Identity(x)  y = Neg(h) }"
    one = as_model(onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": 20]>\n{text}'))
    return largest_means(one, ["h"], {"x": x.astype(np.float32)}, axes=axes)["h"]


def test_the_largest_row_counts_whatever_its_size():
    x = centred(np.random.default_rng(0).standard_normal((2, 3, 8))) * 1e6
    assert probed(x) < 1e-6
    x[1, 2] = 1e-6 * np.asarray([3.0, 1.0] * 4)
    assert probed(x) == pytest.approx(2.0 / math.sqrt(5.0), rel=1e-6)
    x[0, 0] = -4.0
    assert probed(x) == 1.0


def test_rows_of_zeros_count_nothing():
    x = np.zeros((2, 3, 8))
    assert probed(x) == 0.0
    x[0, 0] = [1.0, -1.0] * 4
    assert probed(x) == 0.0
    assert probed(np.zeros((0, 3, 8))) == 0.0


@pytest.mark.parametrize("special", [np.inf, -np.inf, np.nan])
def test_a_row_that_is_not_finite_is_infinitely_far(special):
    x = np.zeros((2, 3, 8))
    x[1, 1, 1] = special
    assert probed(x) == math.inf


def test_other_axes_make_other_rows():
    x = np.broadcast_to(np.asarray([1.0, -1.0]).reshape(1, 2, 1), (3, 2, 5))
    assert probed(x) == 1.0
    assert probed(x, (1,)) == 0.0 and probed(x, (-2, -1)) == 0.0


def test_numbers_are_rounded_as_a_runtime_rounds_them():
    """1 + 2^-30 is 1 in float32: the row has no mean that float32 could see."""
    text = "g (float[1, 2] x, float e) => (float[1, 2] y) { s = Add(x, e)  y = Neg(s) }"
    one = as_model(onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": 20]>\n{text}'))
    given = {"x": np.asarray([[1.0, -1.0]], np.float32), "e": np.asarray(2.0**-30, np.float32)}
    assert largest_means(one, ["s"], given) == {"s": 0.0}


def test_only_what_the_names_need_is_run():
    with pytest.raises(Unsupported, match="Bernoulli"):
        largest_means(model(True), ["unknown"], TOKENS)
    assert largest_means(model(True), ["y"], TOKENS)["y"] < 1e-6
    assert largest_means(model(True), [], TOKENS) == {}


@pytest.mark.parametrize(
    ("name", "axes", "message"),
    [("nothing", (-1,), "no such value"), ("i", (-1,), "no tensor of floats"), ("h", (3,), "no axes")],
)
def test_what_cannot_be_probed(name, axes, message):
    with pytest.raises(InputError, match=message):
        largest_means(model(True), [name], TOKENS, axes=axes)
