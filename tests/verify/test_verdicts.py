"""The three verdicts, each for its reason, and the certificate."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

import tautomer
from tautomer.errors import BadModelError, CheckFailedError, InputError

DEMO = Path(__file__).parents[2] / "examples" / "models" / "llama_tiny.onnx"

MLP = """<ir_version: 8, opset_import: ["" : 17]>
g (float[batch, 6] x) => (float[batch, 6] y)
<float[6, 6] w = {{{weights}}}, float[6] b = {{{bias}}}, float half = {{0.5}}, float one = {{1}}> {{
    h = MatMul (x, w)
    a = Add (h, b)
    {body}
}}"""
TANH = "u = Mul (a, half) t = Tanh (u) p = Add (t, one) s = Mul (p, half) y = Mul (a, s)"
SIGMOID = "s = Sigmoid (a) y = Mul (s, a)"


def _mlp(body: str, bias: str = "0, 0, 0, 0, 0, 0") -> onnx.ModelProto:
    weights = ", ".join(f"{np.sin(i + 1.0):.6f}" for i in range(36))
    return parser.parse_model(MLP.format(weights=weights, bias=bias, body=body))


def test_two_spellings_of_one_function_are_equal() -> None:
    verdict = tautomer.verify(_mlp(TANH), _mlp(SIGMOID))
    assert verdict.verdict == "EQUAL"
    assert verdict.legs["algebra"].passed
    assert verdict.legs["numerics"].passed
    assert verdict.legs["numerics"].detail["self_test"] < 1e-5


def test_a_difference_is_found_and_its_place_named() -> None:
    verdict = tautomer.verify(
        _mlp(TANH), _mlp(SIGMOID.replace("Sigmoid (a)", "Sigmoid (h)"), "1, 2, 3, 4, 5, 6")
    )
    assert verdict.verdict == "DIFFERENT"
    assert verdict.first_divergence is not None


LAYER = """<ir_version: 8, opset_import: ["" : 17]> g (float[2, 6] x) => (float[2, 6] y)
    <float[6] w = {1, 2, 3, 4, 5, 6}, int64[2] shape = {2, 6}> {
    r = Tanh (x) t = Transpose (r) s = Reshape (r, shape)
    n = LayerNormalization <epsilon: float = 0.001> (s, w) y = Neg (n) }"""


@pytest.mark.parametrize(
    ("old", "new", "clue"),
    [
        ("5, 6}", "5, 7}", "its constant 'w' is not in the second model"),
        ("0.001", "0.002", "its epsilon is 0.001, and 0.002 in the second model"),
        (
            "Reshape (r, shape)",
            "Reshape (t, shape)",
            "the elements of 's' are in another order in the second model",
        ),
        ("(s, w) y = Neg", "(s, w) y = Abs", ""),
    ],
    ids=["constant", "attribute", "order", "none"],
)
def test_what_differs_there_is_said_where_it_can_be_told(old: str, new: str, clue: str) -> None:
    found = tautomer.verify(*map(parser.parse_model, (LAYER, LAYER.replace(old, new)))).first_divergence
    assert found is not None
    assert found["clue"] == clue


def test_a_dropped_bias_that_happens_to_be_zero_is_found_by_random_weights() -> None:
    verdict = tautomer.verify(_mlp(SIGMOID), _mlp(SIGMOID.replace("(a)", "(h)").replace("(s, a)", "(s, h)")))
    assert verdict.verdict == "DIFFERENT"
    assert "random weights" in verdict.reason
    assert [check["weights"] for check in verdict.legs["algebra"].detail["checks"]][-1] == "random"


def test_an_epsilon_that_no_tolerance_would_notice_is_found_by_algebra() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
    g (float[batch, 6] x) => (float[batch, 6] y) <float[6] w = {1, 2, 3, 4, 5, 6}, float big = {1000}> {
        z = Mul (x, big)  y = LayerNormalization <epsilon: float = EPS> (z, w) }"""
    a, b = (parser.parse_model(text.replace("EPS", eps)) for eps in ("1e-5", "1e-6"))
    verdict = tautomer.verify(a, b)
    assert verdict.verdict == "DIFFERENT"
    assert not verdict.legs["algebra"].passed


def test_an_operator_without_a_meaning_is_not_verified_and_named() -> None:
    verdict = tautomer.verify(_mlp("y = Det2 (a)".replace("Det2", "Gelu2")), _mlp("y = Gelu2 (a)"))
    assert verdict.verdict == "NOT VERIFIED"
    assert "Gelu2" in verdict.reason


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: setattr(m.graph.input[0], "name", "z"), "input 'x'"),
        (lambda m: setattr(m.graph.input[0].type.tensor_type, "elem_type", 11), "FLOAT in the first model"),
        (lambda m: m.graph.input[0].type.tensor_type.shape.dim.add(), "2 axes in the first model and 3"),
    ],
    ids=["name", "type", "rank"],
)
def test_models_that_cannot_be_compared_say_why(change, message: str) -> None:
    other = _mlp(SIGMOID)
    change(other)
    if "'x'" in message:
        other.graph.node[0].input[0] = "z"
    with pytest.raises(InputError, match=message):
        tautomer.verify(_mlp(SIGMOID), other)


def test_given_inputs_are_used(tmp_path: Path) -> None:
    file = tmp_path / "inputs.npz"
    np.savez(file, x=np.zeros((3, 6), np.float32))
    verdict = tautomer.verify(_mlp(SIGMOID), _mlp(TANH), inputs=file)
    assert verdict.verdict == "EQUAL"
    assert verdict.legs["algebra"].detail["checks"][0]["outputs"]["y"]["elements"] == 18
    np.savez(file, z=np.zeros((3, 6), np.float32))
    with pytest.raises(InputError):
        tautomer.verify(_mlp(SIGMOID), _mlp(TANH), inputs=file)


@pytest.fixture
def certified(tmp_path: Path) -> tuple[Path, Path, Path]:
    """An original, its optimized form and the certificate."""
    original, fast = tmp_path / "model.onnx", tmp_path / "fast.onnx"
    original.write_bytes(DEMO.read_bytes())
    tautomer.optimize(original).save(fast)
    return original, fast, tmp_path / "fast.onnx.certificate.json"


def test_a_certificate_holds_when_nothing_was_changed(certified: tuple[Path, Path, Path]) -> None:
    original, fast, certificate = certified
    assert tautomer.verify(original, fast, certificate=certificate).verdict == "EQUAL"
    document = json.loads(certificate.read_text())
    assert document["verification"]["verdict"] == "EQUAL"
    assert len([one for one in document["rewrites"] if one["rule"] == "raise"]) == 5
    assert str(original.parent) not in certificate.read_text()


@pytest.mark.parametrize("which", [0, 1])
def test_a_changed_byte_in_a_model_is_found(certified: tuple[Path, Path, Path], which: int) -> None:
    model = onnx.load(certified[which])
    weight = next(one for one in model.graph.initializer if one.raw_data and len(one.dims) == 2)
    array = numpy_helper.to_array(weight).copy()
    array.reshape(-1)[0] = np.nextafter(array.reshape(-1)[0], np.inf)
    weight.raw_data = array.tobytes()
    onnx.save(model, certified[which])
    with pytest.raises(CheckFailedError, match="has been changed since"):
        tautomer.verify(certified[0], certified[1], certificate=certified[2])


def test_a_changed_byte_in_the_certificate_is_found(certified: tuple[Path, Path, Path]) -> None:
    text = certified[2].read_text()
    certified[2].write_text(text.replace('"RMSNormalization"', '"RMSNormalizatiom"', 1))
    with pytest.raises(CheckFailedError, match="has been changed since it was written"):
        tautomer.verify(*certified[:2], certificate=certified[2])


def test_a_certificate_of_another_model_is_refused(
    certified: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    other = tmp_path / "other.onnx"
    onnx.save(_mlp(SIGMOID), other)
    with pytest.raises(CheckFailedError, match="is not the original model"):
        tautomer.verify(other, certified[1], certificate=certified[2])


def test_what_is_no_certificate_is_refused(certified: tuple[Path, Path, Path]) -> None:
    certified[2].write_text("{}")
    with pytest.raises(BadModelError, match="is not in the format"):
        tautomer.verify(*certified[:2], certificate=certified[2])


def test_arrays_that_are_given_are_checked_as_those_of_a_file_are() -> None:
    model = parser.parse_model(LAYER)
    with pytest.raises(InputError, match="input 'x': it holds float64, the model takes float32"):
        tautomer.verify(model, model, inputs={"x": np.zeros((2, 6))})
    with pytest.raises(InputError, match="'z': the model has no such input"):
        tautomer.verify(model, model, inputs={"z": np.zeros((2, 6), np.float32)})


def test_results_and_verdicts_print_as_a_line() -> None:
    model = parser.parse_model(LAYER)
    other = parser.parse_model(LAYER.replace("0.001", "0.002"))
    shown = str(tautomer.verify(model, other))
    assert shown.startswith("DIFFERENT: ") and shown.endswith(
        "its epsilon is 0.001, and 0.002 in the second model"
    )
    assert repr(tautomer.optimize(model)).startswith("<Result: EQUAL, 5 -> ")


def test_a_form_of_norms_that_does_not_exist_is_refused() -> None:
    with pytest.raises(InputError, match="unknown form of norms 'batch'; choose one of auto, ln"):
        tautomer.optimize(parser.parse_model(LAYER), norm="batch")
