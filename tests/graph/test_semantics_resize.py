"""Resize and Upsample against onnxruntime and ONNX's reference, and their weights in exact arithmetic."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from tautomer.graph.call import Call
from tautomer.graph.semantics.mathematics import Float64
from tautomer.graph.semantics.table import Unsupported, evaluate
from tautomer.verify.ball import Ball
from tautomer.verify.ball import agree as balls_agree
from tautomer.verify.field.domain import JetField, TwoPrime
from tautomer.verify.field.value import agree

M = Float64()
Array = np.ndarray[Any, Any]
IMAGE = np.random.default_rng(0).normal(size=(1, 1, 5, 8)).astype(np.float32)
CUBIC = {"mode": "cubic", "coordinate_transformation_mode": "half_pixel"}


@dataclass
class Case:
    """A Resize of the image.

    Attributes:
        scales, sizes: of height and width, or of the axes that are named.
        attributes: of the node.
        roi: of tf_crop_and_resize, first the starts.
        opset: that of the node.
        by: what answers: "ort", "onnx" or both.
    """

    scales: tuple[float, ...] = ()
    sizes: tuple[int, ...] = ()
    attributes: dict[str, Any] = field(default_factory=dict)
    roi: tuple[float, ...] = ()
    opset: int = 19
    by: str = "ort onnx"

    def __str__(self) -> str:
        settings = "-".join(str(value) for value in self.attributes.values())
        return f"{self.opset}-{settings}-{self.scales or self.sizes}"

    def operands(self) -> list[Array]:
        """The inputs after the image."""
        whole = "axes" not in self.attributes
        scales = np.array([1.0, 1.0, *self.scales] if whole else self.scales, np.float32)
        if self.opset < 11:
            return [scales]
        roi = np.array(self.roi, np.float32) if self.roi else np.zeros(0, np.float32)
        if self.scales:
            return [roi, scales]
        return [roi, np.zeros(0, np.float32), np.array([1, 1, *self.sizes] if whole else self.sizes)]

    def found(self, m: Any, x: Any) -> Any:
        operands = [a if a.dtype.kind == "i" else m.constant(a) for a in self.operands()]
        (y,) = evaluate(m, Call("Resize", "", self.opset, self.attributes), [x, *operands])
        return y

    def expected(self, by: str) -> Array:
        names = ["x", "roi", "scales", "sizes"] if self.opset >= 11 else ["x", "scales"]
        given = [(n, a) for n, a in zip(names[1:], self.operands(), strict=False) if a.size]
        present = {"x", *(name for name, _ in given)}
        while names[-1] not in present:
            names.pop()
        named = [name if name in present else "" for name in names]
        graph = helper.make_graph(
            [helper.make_node("Resize", named, ["y"], **self.attributes)],
            "resize",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, IMAGE.shape)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
            [numpy_helper.from_array(a, n) for n, a in given],
        )
        opsets = [helper.make_opsetid("", max(self.opset, 13) if self.opset >= 11 else self.opset)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
        if by == "onnx":
            return np.asarray(ReferenceEvaluator(model).run(None, {"x": IMAGE})[0])
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        return np.asarray(session.run(None, {"x": IMAGE})[0])


def _with(mode: str, places: str, **others: Any) -> dict[str, Any]:
    return {"mode": mode, "coordinate_transformation_mode": places, **others}


CROP = _with("linear", "tf_crop_and_resize", extrapolation_value=9.5)
CASES = [
    *(
        Case(sizes=sizes, attributes=_with(mode, places), opset=opset)
        for mode in ("nearest", "linear", "cubic")
        for places in ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric")
        for sizes, opset in (((9, 20), 19), ((3, 5), 19), ((5, 11), 13), ((7, 4), 11))
    ),
    *(
        Case((2.0, scale), attributes=_with("nearest", "half_pixel", nearest_mode=rounding), by=by)
        for scale, by in ((0.75, "ort onnx"), (0.7, "ort"))  # 3.5 / 0.7 - 0.5 is 4.5 when rounded to float32
        for rounding in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
    ),
    Case((2.3, 0.75), attributes=_with("linear", "half_pixel")),
    Case((2.3, 0.7), attributes=_with("linear", "half_pixel_symmetric")),
    Case((2.6, 0.7), attributes=_with("linear", "align_corners"), by="ort"),  # by the length as it is
    Case((1.5, 3.0), attributes=_with("nearest", "tf_half_pixel_for_nn"), opset=11, by="ort"),
    Case(sizes=(1, 1), attributes=_with("linear", "pytorch_half_pixel")),
    Case((2.0, 0.8), attributes={**CUBIC, "cubic_coeff_a": -0.5}),
    Case((2.0, 0.8), attributes={**CUBIC, "exclude_outside": 1}),
    Case((0.5, 0.6), attributes={**CUBIC, "antialias": 1}),
    Case((0.6, 0.3), attributes=_with("linear", "half_pixel", antialias=1)),
    Case((0.6, 0.3), attributes=_with("linear", "half_pixel", antialias=1, exclude_outside=1)),
    Case(sizes=(7, 4), attributes=CROP, roi=(0, 0, 0.2, 0.4, 1, 1, 0.7, 0.9)),
    Case(sizes=(3, 6), attributes=CROP, roi=(0, 0, -0.2, 0.4, 1, 1, 0.7, 1.3)),
    Case(sizes=(3, 6), attributes={**CROP, "mode": "nearest"}, roi=(0, 0, -0.2, 0.4, 1, 1, 0.7, 1.3)),
    Case(sizes=(1, 1), attributes=CROP, roi=(0, 0, 0.2, 0.5, 1, 1, 0.7, 0.9)),
    Case(sizes=(5, 6), attributes=CROP, roi=(0, 0, 0.25, 0, 1, 1, 0.75, 1), by="onnx"),
    Case(sizes=(12, 7), attributes=_with("linear", "half_pixel", axes=[3, 2])),
    Case((1.5, 2.5), attributes=_with("cubic", "half_pixel", axes=[-2, -1]), by="ort"),
    *(
        Case(sizes=(3, 6), attributes=_with(mode, "half_pixel", axes=[2, 3], keep_aspect_ratio_policy=policy))
        for mode in ("nearest", "linear")
        for policy in ("not_larger", "not_smaller")
    ),
    *(
        Case(scales, attributes={"mode": mode}, opset=10, by="ort")
        for mode in ("nearest", "linear")
        for scales in ((2.0, 1.5), (0.6, 0.5))
    ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_as_others_resize(case: Case) -> None:
    got = case.found(M, M.constant(IMAGE))
    for by in case.by.split():
        expected = case.expected(by)
        # coordinates are rounded to float32 by some, and the slope of the image is about 1
        np.testing.assert_allclose(got, expected, rtol=0, atol=4e-6, err_msg=by, strict=False)
        assert got.shape == expected.shape


@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_upsample_is_the_older_name(mode: str) -> None:
    resized = Case((2.0, 1.5), attributes={"mode": mode}, opset=10).found(M, M.constant(IMAGE))
    scales = [1.0, 1.0, 2.0, 1.5]
    older = evaluate(M, Call("Upsample", "", 7, {"mode": mode, "scales": scales}), [M.constant(IMAGE)])
    newer = evaluate(M, Call("Upsample", "", 9, {"mode": mode}), [M.constant(IMAGE), M.constant(scales)])
    np.testing.assert_array_equal(older[0], resized)
    np.testing.assert_array_equal(newer[0], resized)


WEIGHTED = [
    Case((2.6, 0.7), attributes=_with("linear", "half_pixel")),
    Case(sizes=(3, 11), attributes=_with("linear", "align_corners")),
    Case(sizes=(7, 3), attributes=CUBIC),
    Case((0.3, 0.3), attributes={**CUBIC, "antialias": 1, "exclude_outside": 1}),
    Case(
        sizes=(3, 6),
        attributes={**CROP, "extrapolation_value": 3.0},
        roi=(0, 0, -0.2, 0.4, 1, 1, 0.7, 1.3),
    ),
]


@pytest.mark.parametrize("domain", [lambda: Ball(256), lambda: JetField(1), lambda: TwoPrime(1)])
@pytest.mark.parametrize("case", WEIGHTED, ids=str)
def test_exact_domains_take_the_same_weights(case: Case, domain: Any) -> None:
    m = domain()
    same: Any = balls_agree if isinstance(m, Ball) else agree
    flat = case.found(m, m.constant(np.full(IMAGE.shape, 3.0)))
    assert same(flat, m.constant(np.full(m.shape(flat), 3.0))).equal  # weights sum to one, without rounding
    whole = np.rint(IMAGE * 4.0).astype(np.float64)
    a, b = m.constant(whole), m.constant(whole[..., ::-1])
    left, right = case.found(m, a + b), case.found(m, a) + case.found(m, b)
    if "extrapolation_value" not in case.attributes:
        assert same(left, right).equal
    if isinstance(m, Ball):
        np.testing.assert_allclose(m.concrete(case.found(m, a)), case.found(M, whole), atol=1e-12)


def test_what_is_only_picked_may_be_integers() -> None:
    x = np.arange(6).reshape(1, 1, 2, 3)
    (y,) = evaluate(M, Call("Resize", "", 13), [x, None, M.constant([1.0, 1.0, 2.0, 2.0])])
    assert y.dtype == x.dtype
    np.testing.assert_array_equal(y, x.repeat(2, 2).repeat(2, 3))
    with pytest.raises(Unsupported, match="integers"):
        evaluate(M, Call("Resize", "", 13, {"mode": "linear"}), [x, None, M.constant([1.0, 1.0, 2.0, 2.0])])


def test_a_size_is_the_product_in_float32() -> None:
    x = M.constant(np.arange(10.0).reshape(1, 10))
    (y,) = evaluate(M, Call("Resize", "", 13), [x, None, M.constant(np.array([1, 0.7], np.float32))])
    assert y.shape == (1, 7)  # although float32's 0.7 is less than 0.7


@pytest.mark.parametrize(
    "attributes",
    [
        {"mode": "lanczos"},
        _with("linear", "polar"),
        {"nearest_mode": "up"},
        {"keep_aspect_ratio_policy": "both"},
    ],
)
def test_forms_that_nobody_knows(attributes: dict[str, Any]) -> None:
    with pytest.raises(Unsupported, match="Resize"):
        Case(sizes=(7, 9), attributes=attributes).found(M, M.constant(IMAGE))


def test_what_does_not_say_a_size() -> None:
    with pytest.raises(ValueError, match="neither"):
        evaluate(M, Call("Resize", "", 13), [M.constant(IMAGE)])
    with pytest.raises(Unsupported, match="opset 1"):
        evaluate(M, Call("Upsample", "", 1, {"height_scale": 2.0, "width_scale": 2.0}), [M.constant(IMAGE)])
