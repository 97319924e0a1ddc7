"""Bases of KAN layers become one kernel each; knots that coincide or vary keep them as they are."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
from kan_models import DEGREE, IN, OUT, WIDTH, b_spline, guarded_b_spline, knots, layer, positions
from residual_models import residual_model

import tautomer
from tautomer.passes import basis_functions
from tautomer.passes.movement import basis_ranges
from tautomer.passes.workspace import Workspace
from tautomer.patterns.recognition.recognise import recognise
from tautomer.runtime.evidence import Witness
from tautomer.target import target_of

GAUSSIANS = """
    u = Unsqueeze (x, last)
    d = Sub (u, centres)
    q = Div (d, h)
    p = Pow (q, two)
    n = Neg (p)
    b = Exp (n)
"""
RELUS = """
    u = Unsqueeze (x, last)
    v = Expand (u, row)
    d = Sub (v, low)
    e = Sub (high, v)
    f = Relu (d)
    g = Relu (e)
    m = Mul (f, g)
    r = Mul (m, scale)
    b = Mul (r, r)
"""
BASES = {"b-spline": (b_spline(), f"b{DEGREE}"), "gaussians": (GAUSSIANS, "b"), "relus": (RELUS, "b")}


def model(body: str, inputs: str = f"float[batch, {IN}] x", outputs: str = "", **replace: Any) -> ir.Model:
    low = np.tile(np.arange(WIDTH) * 0.3 - 1.5, (IN, 1)).astype(np.float32)
    constants = {
        **positions(),
        "grid": knots(),
        "row": np.array([1, 1, WIDTH]),
        "rows": np.array([-1, IN * WIDTH]),
        "centres": np.linspace(-2, 2, WIDTH).astype(np.float32),
        "h": np.float32(0.57),
        "two": np.float32(2.0),
        "low": low,
        "high": low + np.float32(0.8),
        "scale": np.float32(6.25),
        **replace,
    }
    weights = {name: np.shape(array) for name, array in constants.items()}
    weights |= {"ws": (IN * WIDTH, OUT), "wb": (IN, OUT)}
    weights = {name: shape for name, shape in weights.items() if f"] {name}" not in inputs}
    return residual_model(
        body, weights=weights, inputs=inputs, outputs=f"float[batch, {OUT}] y{outputs}", replace=constants
    )


def told(result: tautomer.Result, kind: str) -> list[str]:
    return [r.reason for r in result.remarks if (r.rule, r.kind) == ("basis functions", kind)]


ALL = {**BASES, "b-spline": (guarded_b_spline(), f"b{DEGREE}")}  # guards and all that it has without them


@pytest.mark.parametrize("basis", ALL)
def test_a_basis_is_one_kernel(basis: str) -> None:
    source = model(layer(*ALL[basis]))
    result = tautomer.optimize(source, target="kernels")
    found = Counter(node.op_type.split("_")[0] for node in result.model.graph)
    assert told(result, "passed") and result.verification["verdict"] == "EQUAL"
    assert found["Rowwise"] >= 1 and found["And"] == found["Exp"] == found["Relu"] == found["Mul"] == 0
    assert found["IsNaN"] == found["Where"] == found["Less"] == 0


def test_the_kernel_computes_what_the_recursion_does(tmp_path: Path) -> None:
    source = model(layer(*ALL["b-spline"]))
    result = tautomer.optimize(source, target="kernels", verify=False)
    result.save(tmp_path / "kan.onnx")
    edges = np.concatenate([knots()[0], np.nextafter(knots()[0], np.float32(-9)), [np.nan, np.inf, -7.0]])
    x = np.tile(edges[:, None], (1, IN)).astype(np.float32)
    before = onnxruntime.InferenceSession(ir.to_proto(source).SerializeToString()).run(None, {"x": x})[0]
    after = tautomer.session(tmp_path / "kan.onnx").run(None, {"x": x})[0]
    np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-5)  # sums of a few numbers near 1, reordered


def test_a_neighbour_too_far_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mutant of the rule: its slices begin one knot later."""
    begin = basis_ranges.Ranges._begin
    monkeypatch.setattr(basis_ranges.Ranges, "_begin", lambda ranges, node: max(begin(ranges, node) - 1, 0))
    source = model(layer(*BASES["b-spline"]))
    evidence = Witness(source, source.clone)
    work = Workspace.of(source, recognise(source), evidence)
    remark, *others = basis_functions.BasisFunctions(target_of("kernels"))(work)
    assert not others and "differ in exact arithmetic" in remark.reason


def test_without_kernels_it_stays() -> None:
    assert not told(tautomer.optimize(model(layer(*BASES["gaussians"]))), "passed")


SPLINE, LAST = BASES["b-spline"]
MISSES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "knots that coincide": (SPLINE, "two knots coincide", {"grid": knots(coincide=True)}),
    "knots of each call": (
        SPLINE, "varies, and is no constant knot", {"inputs": f"float[batch, {IN}] x, float[{IN}, 9] grid"}
    ),
    "a guard that writes 1": (guarded_b_spline("one"), "varies, and is no constant knot", {}),
    "a degree read elsewhere": (SPLINE, "'b1' is read outside of it", {"outputs": f", float[b, {IN}, 7] b1"}),
}  # fmt: skip


@pytest.mark.parametrize("miss", MISSES)
def test_near_misses_stay_and_say_why(miss: str) -> None:
    body, said, options = MISSES[miss]
    result = tautomer.explain(model(layer(body, LAST), **options), target="kernels")
    missed = [r.reason for r in result if (r.rule, r.kind) == ("basis functions", "missed")]
    assert missed and said in missed[0]
