"""Constants that another tool folded are told from wrong ones, as far as the outputs can tell."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pytest
from mutants import ORIGINAL, build
from onnx import helper, numpy_helper

import tautomer
from tautomer.verify import exact

CHANNELS = 6


def _model(nodes, stored, shape, dtype=np.float32):
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    ends = [[helper.make_tensor_value_info(name, kind, shape)] for name in "xy"]
    held = [numpy_helper.from_array(np.asarray(array, dtype), name) for name, array in stored.items()]
    graph = helper.make_graph([helper.make_node(*one[:3], **one[3]) for one in nodes], "g", *ends, held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _conv(dtype=np.float32):
    rng = np.random.default_rng(5)
    return {
        "w": rng.normal(0, 0.3, (CHANNELS, CHANNELS, 3, 3)).astype(dtype),
        "scale": rng.normal(1, 0.3, CHANNELS).astype(dtype),
        "shift": rng.normal(0, 0.3, CHANNELS).astype(dtype),
        "mean": rng.normal(0, 0.5, CHANNELS).astype(dtype),
        "var": rng.uniform(0.3, 3, CHANNELS).astype(dtype),
    }


CONV = ("Conv", ["x", "w"], ["c"], {"pads": [1] * 4})
NORM = ("BatchNormalization", ["c", "scale", "shift", "mean", "var"], ["n"], {"epsilon": 1e-5})
FOLDED = ("Conv", ["x", "w2", "b2"], ["n"], {"pads": [1] * 4})
END = ("Relu", ["n"], ["y"], {})
IMAGE = [2, CHANNELS, 4, 4]


def _folded(held, wide, gain=1.0, bias=0.0):
    s = {name: array.astype(np.float64 if wide else array.dtype) for name, array in held.items()}
    one = np.asarray(np.float32(1e-5), s["var"].dtype)  # as the attribute holds it
    factor = s["scale"] * np.asarray(gain, one.dtype) / np.sqrt(s["var"] + one)
    kernel = s["w"] * factor[:, None, None, None]
    return {"w2": kernel, "b2": s["shift"] - s["mean"] * factor + np.asarray(bias, one.dtype)}


def _verified(held, other, dtype=np.float32):
    first = _model([CONV, NORM, END], held, IMAGE, dtype)
    return tautomer.verify(first, _model([FOLDED, END], other, IMAGE, dtype))


@pytest.mark.parametrize("wide", [False, True], ids=["float32 steps", "rounded once"])
def test_a_batch_norm_folded_by_hand_is_equal_up_to_rounding_and_says_so(wide) -> None:
    verdict = _verified(_conv(), _folded(_conv(), wide))
    assert verdict.verdict == "EQUAL"
    assert "up to the rounding of 7 constants" in verdict.reason
    algebra = verdict.legs["algebra"].detail
    assert algebra["rounded"]["worst_ratio"] < 2
    assert algebra["random_weights"].startswith("not done: ")
    assert any("7 constants of one model only were taken for rounded" in one for one in verdict.assumptions)


@pytest.mark.parametrize("change", [{"gain": 1 + 1e-5}, {"bias": 1e-4}, {"gain": 1.1}])
def test_a_batch_norm_folded_wrong_is_different(change) -> None:
    verdict = _verified(_conv(), _folded(_conv(), True, **change))
    assert verdict.verdict == "DIFFERENT"
    assert "times what the rounding of 7 constants of one model only explains" in verdict.reason


def test_another_epsilon_in_the_folded_norm_is_different() -> None:
    held = _conv()
    assert (
        _verified(held, _folded({**held, "var": held["var"] + np.float32(1e-5)}, True)).verdict == "DIFFERENT"
    )


@pytest.mark.parametrize("gain", [1.0, 1.0 + 2e-15])
def test_double_weights_are_told_in_ball_arithmetic(gain) -> None:
    held = _conv(np.float64)
    verdict = _verified(held, _folded(held, True, gain), np.float64)
    assert verdict.legs["algebra"].detail["rounded"]["method"] == "float64 and ball arithmetic"
    assert verdict.verdict == ("EQUAL" if gain == 1.0 else "DIFFERENT")


@pytest.mark.parametrize("tool", ["onnxsim", "onnxslim"])
def test_what_another_tool_folds_is_equal_up_to_rounding(tool, tmp_path: Path) -> None:
    if find_spec(tool) is None:
        pytest.skip("not installed")
    source, target = tmp_path / "model.onnx", tmp_path / "simple.onnx"
    onnx.save(_model([CONV, NORM, END], _conv(), IMAGE), source)
    if tool == "onnxsim":
        import onnxsim

        onnx.save(onnxsim.simplify(onnx.load(source))[0], target)
    else:
        import onnxslim

        onnx.save(onnxslim.slim(str(source)), target)
    assert "BatchNormalization" not in {node.op_type for node in onnx.load(target).graph.node}
    verdict = tautomer.verify(source, target)
    assert verdict.verdict == "EQUAL" and "up to the rounding of" in verdict.reason


@pytest.mark.parametrize(("gain", "equal"), [(1.0, True), (1.05, False)])
def test_half_precision_is_judged_by_its_own_ulp(gain, equal) -> None:
    rng = np.random.default_rng(2)
    w, g, b = (rng.normal(0, 0.4, shape).astype(np.float16) for shape in ((6, 6), (6,), (6,)))
    first = [
        ("MatMul", ["x", "w"], ["h"], {}),
        ("Mul", ["h", "g"], ["s"], {}),
        ("Add", ["s", "b"], ["y"], {}),
    ]
    second = [("MatMul", ["x", "wg"], ["s"], {}), ("Add", ["s", "b"], ["y"], {})]
    original = _model(first, {"w": w, "g": g, "b": b}, [4, 6], np.float16)
    scaled = {"wg": w.astype(np.float64) * g * gain, "b": b}
    verdict = tautomer.verify(original, _model(second, scaled, [4, 6], np.float16))
    assert verdict.legs["algebra"].passed is equal
    assert verdict.verdict == ("EQUAL" if equal else "DIFFERENT")


def test_where_rounding_moves_everything_nothing_is_said() -> None:
    rng = np.random.default_rng(2)
    w, g = (rng.normal(0, 1, shape).astype(np.float32) for shape in ((6, 6), (6,)))
    product, ends = (
        ("MatMul", ["x", "w"], ["h"], {}),
        [("Mul", ["h", "large"], ["l"], {}), ("Sin", ["l"], ["y"], {})],
    )
    large = {"large": np.full(6, 1e7)}
    first = _model(
        [product, ("Mul", ["h", "g"], ["s"], {}), ("Mul", ["s", "large"], ["l"], {}), ends[1]],
        {"w": w, "g": g, **large},
        [4, 6],
    )
    second = _model([product, *ends], {"w": w.astype(np.float64) * g, **large}, [4, 6])
    verdict = tautomer.verify(first, second)
    assert verdict.legs["algebra"].passed is None
    assert verdict.verdict != "EQUAL"


def test_a_model_that_only_lost_a_constant_holds_nothing_rounded() -> None:
    nodes = [CONV, ("Add", ["c", "b"], ["n"], {}), END]
    small = np.full((CHANNELS, 1, 1), 3e-9)
    first = _model(nodes, {"w": _conv()["w"], "b": small}, IMAGE)
    second = _model([(*CONV[:2], ["n"], CONV[3]), END], {"w": _conv()["w"]}, IMAGE)
    verdict = tautomer.verify(first, second)
    assert verdict.verdict == "DIFFERENT" and "rounded" not in verdict.legs["algebra"].detail


@pytest.fixture(scope="module")
def recentred(tmp_path_factory) -> tuple[Path, Path]:
    """A transformer, and its form with RMSNormalization saved without the certificate."""
    folder = tmp_path_factory.mktemp("recentred")
    source, made, away = folder / "model.onnx", folder / "rms.onnx", folder / "away.onnx"
    onnx.save(build(ORIGINAL, "random"), source)
    tautomer.optimize(source, norm="rms", target="onnx").save(made)
    assert "RMSNormalization" in {node.op_type for node in onnx.load(made).graph.node}
    shutil.copy(made, away)
    return source, away


def _changed(recentred, tmp_path: Path, change):
    model = onnx.load(recentred[1])
    for one in model.graph.initializer:
        array = numpy_helper.to_array(one).copy()
        if array.dtype == np.float32:
            one.CopyFrom(numpy_helper.from_array(change(one.name, array).astype(np.float32), one.name))
    onnx.save(model, tmp_path / "changed.onnx")
    return tautomer.verify(recentred[0], tmp_path / "changed.onnx")


def _off(name: str, by):
    return lambda own, array: by(array) if own == name else array


def _one_element(ulps: int):
    def change(array):
        array.reshape(-1)[1] += ulps * np.spacing(array.reshape(-1)[1])
        return array

    return change


def test_a_recentred_model_without_its_certificate_is_equal_up_to_rounding(recentred) -> None:
    for pair in (recentred, recentred[::-1]):
        verdict = tautomer.verify(*pair)
        assert verdict.verdict == "EQUAL" and "up to the rounding of" in verdict.reason


@pytest.mark.parametrize(("gain", "verdict"), [(1.0, "EQUAL"), (1 + 1e-6, "DIFFERENT")])
def test_a_wide_model_is_judged_alike(recentred, tmp_path: Path, monkeypatch, gain, verdict) -> None:
    monkeypatch.setattr(exact, "_MOST_WEIGHTS", 100)
    found = _changed(recentred, tmp_path, _off("final/gain", lambda array: array * gain))
    assert "prime field" in found.legs["algebra"].detail["checks"][0]["method"]
    assert found.verdict == verdict and "the rounding of" in found.reason


def test_one_bias_left_uncentred_is_different(recentred, tmp_path: Path) -> None:
    stored = {one.name: numpy_helper.to_array(one) for one in onnx.load(recentred[0]).graph.initializer}
    bias = stored["layer1/proj/bias"]
    centred = {
        one.name
        for one in onnx.load(recentred[1]).graph.initializer
        if list(one.dims) == [8] and np.allclose(numpy_helper.to_array(one), bias - bias.mean(), atol=1e-6)
    }
    assert len(centred) == 1
    assert _changed(recentred, tmp_path, _off(centred.pop(), lambda array: bias)).verdict == "DIFFERENT"


@pytest.mark.parametrize("name", ["layer0/norm1/gain", "final/gain"])
def test_a_gain_off_by_a_millionth_is_different(recentred, tmp_path: Path, name) -> None:
    assert _changed(recentred, tmp_path, _off(name, lambda array: array * (1 + 1e-6))).verdict == "DIFFERENT"


@pytest.mark.parametrize(("ulps", "verdict"), [(4, "EQUAL"), (1000, "DIFFERENT")])
def test_one_element_shows_only_where_it_outweighs_the_others(
    recentred, tmp_path: Path, ulps, verdict
) -> None:
    # some hundred rounded elements move each output, and the one among them by no more than they all do
    found = _changed(recentred, tmp_path, _off("tautomer/folded_5", _one_element(ulps)))
    assert found.verdict == verdict
