"""Every definition: its ONNX function body runs and computes it, and a malformed one does not build."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import parser

import tautomer
from tautomer.errors import InputError
from tautomer.patterns.attention.recognise import score_attention
from tautomer.patterns.onnx_body import DOMAIN, DOMAIN_VERSION, function_of
from tautomer.patterns.operation import FULL_OPERANDS, Definition, Scalar, definitions, forget, operation
from tautomer.patterns.recognition.evaluation import FLOAT64
from tautomer.patterns.rows import apply_all

ALL = [definition for definition in definitions() if definition.rows != "folded"]
ROWS, LENGTH = 5, 7


def _inputs(definition: Definition) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    inputs = {"x": (rng.standard_normal((ROWS, LENGTH)) * 2).astype(np.float32)}
    for name in definition.operands:
        shape = (ROWS, LENGTH) if name in FULL_OPERANDS else (LENGTH,)
        inputs[name] = rng.uniform(0.5, 2.0, shape).astype(np.float32)
    return inputs


def _model(definition: Definition, version: int, dtype: int) -> bytes:
    inputs = _inputs(definition)
    attributes = {**definition.attributes, **definition.parameters}
    if definition.rows:
        attributes["axis"] = -1
    node = onnx.helper.make_node(definition.op, list(inputs), definition.results, domain=DOMAIN, **attributes)
    infos = [onnx.helper.make_tensor_value_info(k, dtype, v.shape) for k, v in inputs.items()]
    outputs = [onnx.helper.make_tensor_value_info(k, dtype, (ROWS, LENGTH)) for k in definition.results]
    model = onnx.helper.make_model(
        onnx.helper.make_graph([node], "g", infos, outputs),
        opset_imports=[
            onnx.helper.make_opsetid("", version),
            onnx.helper.make_opsetid(DOMAIN, DOMAIN_VERSION),
        ],
        functions=[ir.to_proto(function_of(definition, version))],
        ir_version=8,
    )
    onnx.checker.check_model(model)
    return model.SerializeToString()


@pytest.mark.parametrize("version", [15, 18, 21])
@pytest.mark.parametrize("definition", ALL, ids=lambda definition: definition.key)
def test_function_body_runs_on_onnxruntime_and_computes_the_definition(
    definition: Definition, version: int
) -> None:
    inputs = _inputs(definition)
    session = onnxruntime.InferenceSession(
        _model(definition, version, onnx.TensorProto.FLOAT), providers=["CPUExecutionProvider"]
    )
    found = session.run(None, inputs)
    x, *operands = (value.astype(np.float64) for value in inputs.values())
    expected = apply_all(
        definition,
        FLOAT64,
        x,
        axes=(1,) if definition.rows else (),
        operands=dict(zip(definition.operands, operands, strict=True)),
    )
    # a dozen roundings of float32, some of them where 1 + tanh cancels
    for one, right in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, right, rtol=2e-5, atol=2e-6)


def test_function_bodies_take_half_precision_and_compute_in_float32() -> None:
    definition = next(one for one in ALL if one.key == "RMSNormalization")
    data = _model(definition, 18, onnx.TensorProto.FLOAT16)
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    inputs = {name: value.astype(np.float16) for name, value in _inputs(definition).items()}
    (found,) = session.run(None, inputs)
    x, scale = (value.astype(np.float64) for value in inputs.values())
    expected = x / np.sqrt((x * x).mean(1, keepdims=True) + 1e-5) * scale
    assert found.dtype == np.float16
    np.testing.assert_allclose(found, expected, rtol=2.0**-10)  # one rounding to half precision


def test_a_definition_without_a_formula_does_not_build() -> None:
    with pytest.raises(InputError, match="must begin with the formula"):

        @operation("Nameless")
        def nameless(m, x):
            return x


def test_a_parameter_without_a_default_does_not_build() -> None:
    with pytest.raises(InputError, match="needs ': Scalar = default'"):

        @operation("Unset")
        def unset(m, x, *, alpha: Scalar):
            """alpha * x."""
            return alpha * x


def test_an_unknown_operand_does_not_build() -> None:
    with pytest.raises(InputError, match="operand weight is none of"):

        @operation("Weighted")
        def weighted(m, x, weight):
            """weight * x."""
            return weight * x


def test_too_many_scalars_of_rows_do_not_build() -> None:
    with pytest.raises(InputError, match="more than 2 scalars of rows"):

        @operation("Many", rows="trailing")
        def many(m, x, *, a: Scalar = 1.0, b: Scalar = 2.0, c: Scalar = 3.0):
            """(x + a) / (sqrt(mean(x^2) + b) + c)."""
            return (x + a) / (m.sqrt(m.mean(x * x) + b) + c)


def test_two_scalars_of_rows_are_found() -> None:
    @operation("Bounded", domain="tautomer", rows="trailing")
    def bounded(m, x, *, epsilon: Scalar = 1e-5, offset: Scalar = 1.0):
        """x / (sqrt(mean(x^2) + epsilon) + offset)."""
        return x / (m.sqrt(m.mean(x * x) + epsilon) + offset)

    try:
        model = parser.parse_model(
            """<ir_version: 9, opset_import: ["": 18]>
            g (float[4,16] x) => (float[4,16] y)
            <int64[1] last = {-1}, float two = {2.0}, float e = {0.001}, float o = {0.25}> {
                s = Pow(x, two)
                m = ReduceMean <keepdims = 1> (s, last)
                a = Add(m, e)
                r = Sqrt(a)
                d = Add(o, r)
                y = Div(x, d)
            }"""
        )
        (found,) = tautomer.inspect(model)
    finally:
        forget("Bounded")
    assert found.op == "Bounded"
    assert found.attributes["epsilon"] == pytest.approx(0.001)
    assert found.attributes["offset"] == 0.25


def test_a_second_definition_of_the_same_operation_does_not_build() -> None:
    with pytest.raises(InputError, match="defined twice"):

        @operation("Relu")
        def relu(m, x):
            """max(x, 0)."""
            return m.maximum(x, 0.0)


@pytest.mark.parametrize(
    ("score", "weights"),
    [
        ("softmax", lambda s: np.exp(s) / np.exp(s).sum(-1, keepdims=True)),
        ("softmax1", lambda s: np.exp(s) / (1.0 + np.exp(s).sum(-1, keepdims=True))),
        ("sigmoid", lambda s: 1.0 / (1.0 + np.exp(-s))),
        ("relu", lambda s: np.maximum(s, 0.0)),
        ("relu2", lambda s: np.maximum(s, 0.0) ** 2),
    ],
)
def test_attention_is_its_score_function_between_two_products(score, weights) -> None:
    rng = np.random.default_rng(2)
    q, k, v = (rng.standard_normal((2, 3, rows, 4)) for rows in (5, 6, 6))
    expected = weights(q @ np.swapaxes(k, -1, -2) * 0.5) @ v
    found = score_attention(FLOAT64, q, k, v, score=score, scale=0.5)
    np.testing.assert_allclose(found, expected, rtol=1e-12)  # a dozen roundings of float64
