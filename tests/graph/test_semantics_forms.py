"""What ONNX's newest test cases do not reach: older opsets, integers, refusals, special values, erf."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from tautomer.graph.call import Call
from tautomer.graph.semantics.mathematics import Float64
from tautomer.graph.semantics.table import Unsupported, evaluate, meaning_of, primitives

M = Float64()
X = np.arange(24, dtype=np.float64).reshape(2, 3, 4) - 7.0


def one(op: str, *inputs: Any, version: int = 0, domain: str = "", outputs: int = 1, **named: Any) -> Any:
    results = evaluate(M, Call(op, domain, version, named, outputs), inputs)
    return results[0] if outputs == 1 else results


def test_table_holds_the_primitives_and_no_named_operation() -> None:
    assert len(primitives()) >= 105
    assert meaning_of("ai.onnx", "Add") is meaning_of("", "Add") is not None
    for op in ("LayerNormalization", "Softmax", "Gelu", "Attention", "Softplus"):
        assert meaning_of("", op) is None


def test_erf_to_one_unit_in_the_last_place() -> None:
    x = np.concatenate([np.linspace(-7, 7, 20001), 10.0 ** np.linspace(-300, 2, 2001), [0.0, -0.0]])
    exact = np.array([math.erf(t) for t in x])
    assert np.all(np.abs(M.erf(x) - exact) <= np.spacing(np.abs(exact)))
    special = M.erf(np.array([np.nan, np.inf, -np.inf, -0.0]))
    assert np.isnan(special[0]) and special[1] == 1.0 and special[2] == -1.0 and np.signbit(special[3])


def test_sigmoid_keeps_its_small_end() -> None:
    np.testing.assert_allclose(
        M.sigmoid(np.array([-700.0, -40.0, 0.0, 800.0])), [np.exp(-700), np.exp(-40), 0.5, 1]
    )


def test_special_values_pass_without_a_warning() -> None:
    x = M.constant(np.array([0.0, -1.0, np.inf, np.nan], np.float32))
    zero = M.constant(0.0)
    for op in ("Exp", "Log", "Sqrt", "Reciprocal", "Erf", "Tanh", "Sigmoid", "Sin", "Round", "Sinh"):
        assert one(op, x).shape == (4,)
    np.testing.assert_array_equal(one("Div", x, zero), [np.nan, -np.inf, np.inf, np.nan])
    np.testing.assert_array_equal(
        one("ReduceLogSumExp", np.full((2, 3), -np.inf), np.array([1])), [[-np.inf]] * 2
    )


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div", "Pow"])
def test_axis_of_a_broadcast_below_opset_7(op: str) -> None:
    y = np.array([1.0, 2.0, 3.0])
    modern = one(op, X, y[:, None], version=13)
    np.testing.assert_array_equal(one(op, X, y, version=6, axis=1, broadcast=1), modern)


def test_integers_stay_integers() -> None:
    a, b = np.array([7, -7, 7, -7], np.int32), np.array([2, 2, -2, -2], np.int32)
    np.testing.assert_array_equal(one("Div", a, b), [3, -3, -3, 3])
    np.testing.assert_array_equal(one("Mod", a, b), [1, 1, -1, -1])
    np.testing.assert_array_equal(one("Mod", a, b, fmod=1), [1, -1, 1, -1])
    np.testing.assert_array_equal(one("Pow", a, np.array(2, np.int64)), [49] * 4)
    np.testing.assert_array_equal(one("ReduceMean", a.reshape(2, 2), axes=[0], version=13), [[7, -7]])
    for op in ("Add", "Sub", "Mul", "Div", "Mod", "Pow", "Max", "Min", "MatMul"):
        result = one(op, a, b) if op != "Pow" else one(op, a, np.abs(b))
        assert result.dtype == np.int32, op
    for op in ("ReduceSum", "ReduceProd", "ReduceMax", "ReduceL1", "ReduceL2", "Relu", "Abs", "Neg", "Sign"):
        assert one(op, a).dtype == np.int32, op
    assert isinstance(one("Add", np.int64(2) + np.zeros((), np.int64), np.array(3)), np.ndarray)


def test_movement_of_older_opsets_takes_attributes() -> None:
    np.testing.assert_array_equal(one("Slice", X, version=9, starts=[1], ends=[-1], axes=[2]), X[:, :, 1:-1])
    np.testing.assert_array_equal(one("Squeeze", X[None], version=11, axes=[0]), X)
    np.testing.assert_array_equal(one("Unsqueeze", X, version=11, axes=[0, 4])[0, ..., 0], X)
    first, second = one("Split", X, version=11, axis=2, split=[1, 3], outputs=2)
    np.testing.assert_array_equal(np.concatenate([first, second], 2), X)
    np.testing.assert_array_equal(one("Reshape", X, version=1, shape=[0, -1]), X.reshape(2, 12))
    np.testing.assert_array_equal(one("Pad", X, version=2, pads=[0, 0, 1, 0, 0, -1], value=5.0)[:, :, 0], 5.0)
    np.testing.assert_array_equal(one("ReduceSum", X, version=11, axes=[-1], keepdims=0), X.sum(-1))
    np.testing.assert_array_equal(one("Clip", X, version=6, min=0.0, max=5.0), np.clip(X, 0, 5))
    assert one("TopK", X, version=1, k=2, outputs=2)[0].shape == (2, 3, 2)


def test_slices_clamp_as_onnx_says() -> None:
    far = np.iinfo(np.int64)
    begin, end, axis = np.array([-1]), np.array([far.min]), np.array([1])
    np.testing.assert_array_equal(one("Slice", X, begin, end, axis, np.array([-1])), X[:, ::-1])
    np.testing.assert_array_equal(one("Slice", X, np.array([1]), np.array([far.max]), axis), X[:, 1:])


def test_scatter_of_repeated_positions_adds_each() -> None:
    updates = np.array([1.0, 2.0, 4.0])
    result = one("ScatterND", np.zeros(3), np.array([[1], [1], [0]]), updates, reduction="add")
    np.testing.assert_array_equal(result, [4.0, 3.0, 0.0])


def test_convolution_of_a_large_image_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(2, 4, 9, 8)), rng.normal(size=(6, 2, 3, 2))
    whole = one("Conv", x, w, group=2, pads=[1, 0, 1, 1], strides=[2, 1], dilations=[1, 2])
    monkeypatch.setattr("tautomer.graph.semantics.windows._COLUMN_ELEMENTS", 1)
    pieces = one("Conv", x, w, group=2, pads=[1, 0, 1, 1], strides=[2, 1], dilations=[1, 2])
    np.testing.assert_allclose(pieces, whole, rtol=1e-12, atol=1e-12)


def test_norms_of_groups_have_their_own_scales_below_opset_21() -> None:
    rng = np.random.default_rng(2)
    x, scale, bias = rng.normal(size=(2, 4, 3, 5)), rng.normal(size=2), rng.normal(size=2)
    older = one("GroupNormalization", x, scale, bias, version=18, num_groups=2)
    newer = one("GroupNormalization", x, scale.repeat(2), bias.repeat(2), version=21, num_groups=2)
    np.testing.assert_allclose(older, newer, atol=1e-12)
    alone = one("GroupNormalization", x, scale.repeat(2), bias.repeat(2), version=21, num_groups=4)
    np.testing.assert_allclose(alone, one("InstanceNormalization", x, scale.repeat(2), bias.repeat(2)))


@pytest.mark.parametrize("p", [1, 2])
def test_a_row_of_zeros_stays_zero(p: int) -> None:
    x = np.array([[3.0, -4.0], [0.0, 0.0], [np.inf, 1.0]])
    result = one("LpNormalization", x, p=p)
    np.testing.assert_allclose(result[0], x[0] / (7.0 if p == 1 else 5.0))
    assert result[1].tolist() == [0.0, 0.0] and np.isnan(result[2, 0]) and result[2, 1] == 0.0


def test_transposed_convolution_is_the_transpose() -> None:
    rng = np.random.default_rng(3)
    settings = {"group": 2, "pads": [1, 0, 2, 1], "strides": [2, 3], "dilations": [2, 1]}
    image, w = rng.normal(size=(2, 4, 9, 8)), rng.normal(size=(6, 2, 3, 2))
    y = rng.normal(size=(2, 6, 4, 3))
    assert one("Conv", image, w, **settings).shape == y.shape
    back = one("ConvTranspose", y, w, **settings, output_padding=[1, 1])
    assert back.shape == image.shape
    np.testing.assert_allclose((one("Conv", image, w, **settings) * y).sum(), (image * back).sum())


def test_transposed_convolution_of_a_given_shape() -> None:
    x, w = np.ones((1, 1, 3)), np.arange(1.0, 5.0).reshape(1, 1, 4)
    whole = one("ConvTranspose", x, w, strides=[2])
    assert whole.tolist() == [[[1, 2, 4, 6, 4, 6, 3, 4]]]
    for auto, low in (("SAME_UPPER", 1), ("SAME_LOWER", 2), ("NOTSET", 2)):
        cut = one("ConvTranspose", x, w, strides=[2], output_shape=[5], auto_pad=auto)
        np.testing.assert_array_equal(cut, whole[..., low : low + 5])
    longer = one("ConvTranspose", x, w, strides=[2], output_shape=[9])
    assert longer.tolist() == [[[1, 2, 4, 6, 4, 6, 3, 4, 0]]]
    with pytest.raises(Unsupported, match="longer than the window"):
        one("ConvTranspose", x, w, strides=[5], auto_pad="SAME_UPPER")


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("bij,bjk->bik", [(2, 3, 4), (2, 4, 5)]),
        ("bhid,bhjd->bhij", [(2, 2, 3, 4), (2, 2, 5, 4)]),
        ("...ij,...jk->...ik", [(2, 3, 4), (4, 5)]),
        ("...ij,...jk", [(1, 3, 4), (2, 4, 5)]),
        ("ij,ij->j", [(3, 4), (3, 4)]),
        ("ii->i", [(3, 3)]),
        ("ij->", [(3, 4)]),
        ("ji,j", [(3, 4), (3,)]),
        ("a,b,c->cba", [(2,), (3,), (4,)]),
        ("iij,jkk->ik", [(2, 2, 3), (3, 4, 4)]),
    ],
)
def test_einsum_as_numpy_does(equation: str, shapes: list[tuple[int, ...]]) -> None:
    rng = np.random.default_rng(1)
    xs = [rng.normal(size=shape) for shape in shapes]
    np.testing.assert_allclose(one("Einsum", *xs, equation=equation), np.einsum(equation, *xs), atol=1e-12)


def test_casts_lift_and_lower() -> None:
    assert M.is_value(one("Cast", np.array([True, False]), to=1))
    lowered = one("Cast", M.constant(np.array([-1.7, 2.9])), to=7)
    assert lowered.dtype == np.int64 and lowered.tolist() == [-1, 2]
    assert one("Cast", M.constant(np.array([-1.7, 0.0])), to=9).tolist() == [True, False]
    assert one("Cast", X, to=10) is X
    with pytest.raises(Unsupported, match="STRING"):
        one("Cast", X, to=8)


def test_fused_matrix_product_of_onnxruntime() -> None:
    result = one("FusedMatMul", X, X, domain="com.microsoft", transB=1, alpha=0.5)
    np.testing.assert_allclose(result, 0.5 * X @ X.transpose(0, 2, 1))


def test_refusals_name_the_operator() -> None:
    with pytest.raises(Unsupported) as refusal:
        one("Softmax", X)
    assert refusal.value.op == "Softmax" and refusal.value.reason
    with pytest.raises(Unsupported, match="training"):
        one("Dropout", X, None, np.array(True), version=13)


@pytest.mark.parametrize(
    ("op", "inputs", "attributes"),
    [
        ("Add", (X,), {}),
        ("Add", (X, None), {}),
        ("Exp", (X, X), {}),
        ("Add", (X, np.zeros(5)), {}),
        ("Gather", (X, np.array([9])), {}),
        ("Reshape", (X, np.array([5, -1])), {}),
        ("Cast", (X,), {}),
        ("Squeeze", (X, np.array([1])), {}),
        ("MaxPool", (X,), {"kernel_shape": [9]}),
    ],
)
def test_inputs_that_do_not_fit_are_value_errors(
    op: str, inputs: tuple[Any, ...], attributes: dict[str, Any]
) -> None:
    with pytest.raises(ValueError):
        one(op, *inputs, **attributes)
