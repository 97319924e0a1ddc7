"""Sparse linear maps in onnxruntime: right at every size, for special values, and what they leave out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest
from numpy.typing import NDArray
from onnx.numpy_helper import from_array

import tautomer
from tautomer.graph.reader import read_bytes
from tautomer.graph.writer import write_model
from tautomer.patterns.sparse_linear import INPUTS, function_of_sparse
from tautomer.runtime.onnxruntime.kernels import kernels_for, library_for
from tautomer.target import KERNELS

pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.usefixtures("real_compiler")

TYPES: dict[str, Any] = {"FLOAT": np.float32, "BFLOAT16": ml_dtypes.bfloat16, "FLOAT16": np.float16}
# sums of products of normal numbers in float32; of the others, the rounding of the result
OFF = {"FLOAT": 3e-6, "BFLOAT16": 8e-3, "FLOAT16": 1e-3}
Run = Callable[..., Any]
RANDOM = np.random.default_rng(0)
AXES = {"x": "[a, k]", "gate": "[a, n]", "U": "[n, k]", "c": "[q]", "W": "[n, m]", "b": "[r]"}


def model(element_type: str) -> ir.Model:
    """A model of both operators, everything an input in float32 and of any size."""
    to = getattr(onnx.TensorProto, element_type)
    inputs = ", ".join(f"float{axes} {name}" for name, axes in AXES.items())
    casts = "\n".join(f"{name}_t = Cast <to = {to}> ({name})" for name in AXES)
    text = f"""
        <ir_version: 8, opset_import: ["" : 17, "tautomer" : 1]>
        m ({inputs}) => (float[a, m] y, float[a, m] z) {{
            {casts}
            y_t = tautomer.SparseLinear (gate_t, W_t, b_t)
            z_t = tautomer.SparseGatedLinear (x_t, gate_t, U_t, c_t, W_t, b_t)
            y = Cast <to = {onnx.TensorProto.FLOAT}> (y_t)
            z = Cast <to = {onnx.TensorProto.FLOAT}> (z_t)
        }}
    """
    ours = read_bytes(onnx.parser.parse_model(text).SerializeToString())
    for op in INPUTS:
        function = function_of_sparse(op, 17)
        ours.functions[function.identifier()] = function
    return ours


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Run]:
    """Both operators of a type, by a session with our kernels on two threads."""
    made: dict[str, Run] = {}

    def run_of(element_type: str) -> Run:
        if element_type not in made:
            path = tmp_path_factory.mktemp("sparse") / "m.onnx"
            write_model(model(element_type), path)
            session = tautomer.session(path, intra_op_num_threads=2)
            made[element_type] = lambda **given: session.run(
                None, {name: np.asarray(one, np.float32) for name, one in given.items()}
            )
        return made[element_type]

    return run_of


def plain(run: Run, h: NDArray[Any], weight: NDArray[Any], bias: NDArray[Any]) -> NDArray[Any]:
    """h W + b."""
    y: NDArray[Any] = run(
        x=np.zeros((len(h), 1)), gate=h, U=np.zeros((h.shape[1], 1)), c=np.zeros(1), W=weight, b=bias
    )[0]
    return y


def stored(element_type: str, array: NDArray[Any]) -> NDArray[np.float64]:
    """What becomes of numbers in a type."""
    return array.astype(TYPES[element_type]).astype(np.float64)


def numbers(element_type: str, *shape: int) -> NDArray[np.float64]:
    return stored(element_type, RANDOM.standard_normal(shape))


def zeros_in(element_type: str, rows: int, neurons: int, density: float) -> NDArray[np.float64]:
    return np.where(RANDOM.random((rows, neurons)) < density, numbers(element_type, rows, neurons), 0.0)


def close(y: NDArray[Any], expected: NDArray[Any], element_type: str, roundings: int = 1) -> bool:
    scale = np.abs(expected).max(-1, keepdims=True, initial=0) + 1
    return y.shape == expected.shape and bool(
        np.all(np.abs(y - expected) <= roundings * OFF[element_type] * scale)
    )


SIZES = [(0, 3, 5), (1, 1, 1), (7, 0, 8), (8, 9, 7), (9, 32, 9), (64, 33, 65), (301, 8, 4097), (17, 100, 600)]


@pytest.mark.parametrize("element_type", TYPES)
@pytest.mark.parametrize("rows", [0, 1, 2, 3, 4, 5, 9, 41, 200])
def test_products_at_every_size(runs: Any, element_type: str, rows: int) -> None:
    run = runs(element_type)
    for neurons, inputs, outputs in SIZES if rows < 41 else SIZES[1:6]:
        for density in (0.0, 0.1, 1.0) if outputs < 4000 else (0.1,):
            gate = zeros_in(element_type, rows, neurons, density)
            up = stored(element_type, numbers(element_type, neurons, inputs) / max(1, inputs) ** 0.5)
            weight = stored(element_type, numbers(element_type, neurons, outputs) / max(1, neurons) ** 0.5)
            x = numbers(element_type, rows, inputs)
            above, bias = numbers(element_type, neurons), numbers(element_type, outputs)
            if density == 1.0:
                above, bias = np.zeros(1), np.zeros(1)
            y, z = run(x=x, gate=gate, U=up, c=above, W=weight, b=bias)
            assert close(y, gate @ weight + bias, element_type), (neurons, outputs, density)
            # the hidden numbers are rounded where many rows are done at once
            expected = (gate * (x @ up.T + above)) @ weight + bias
            assert close(z, expected, element_type, roundings=4), (neurons, outputs, density)


def test_rows_without_a_factor_are_not_read(runs: Any) -> None:
    """NaN there shows it: the function gives NaN, the kernel does not."""
    h = zeros_in("FLOAT", 2, 100, 0.1)
    h[:, 0], h[0, 3], h[1, 5] = 0.0, 1.0, 0.0
    weight = numbers("FLOAT", 100, 70)
    spoilt = np.where((h == 0).all(0)[:, None], np.nan, weight)
    y = plain(runs("FLOAT"), h, spoilt, np.zeros(1))
    assert close(y, h @ weight, "FLOAT")
    x, up = numbers("FLOAT", 2, 33), np.where((h == 0).all(0)[:, None], np.nan, numbers("FLOAT", 100, 33))
    _, y = runs("FLOAT")(x=x, gate=h, U=up, c=np.zeros(1), W=spoilt, b=np.zeros(1))
    assert close(y, (h * np.nan_to_num(x @ up.T)) @ weight, "FLOAT")


@pytest.mark.parametrize("rows", [1, 4, 41])
def test_special_factors(runs: Any, rows: int) -> None:
    run, weight = partial(plain, runs("FLOAT")), numbers("FLOAT", 50, 20)
    h = np.zeros((rows, 50))
    h[0, 7] = np.nan
    y = run(h, weight, np.ones(1))
    assert np.isnan(y[0]).all()
    assert (y[1:] == 1.0).all()
    h[0, 7] = np.inf
    assert (np.sign(weight[7]) * np.inf == run(h, weight, np.ones(1))[0]).all()
    h[0, 7] = -0.0
    assert (run(h, weight, np.ones(1)) == 1.0).all()
    h[0, 7] = tiny = 2.0**-140  # denormal in float32, and no zero
    assert np.array_equal(
        run(h, weight * 2.0**120, np.zeros(1))[0], (tiny * weight[7] * 2.0**120).astype("f4")
    )


@pytest.mark.parametrize("rows", [1, 4, 41])
@pytest.mark.parametrize("special", [np.nan, np.inf, 3e38])
def test_a_gate_of_zero_hides_no_infinity(runs: Any, rows: int, special: float) -> None:
    """0 * (x . u) is NaN where x . u is not finite, in a layer as in its sparse form."""
    x, gate = numbers("FLOAT", rows, 30), zeros_in("FLOAT", rows, 40, 0.2)
    up, weight = numbers("FLOAT", 40, 30) + 4.0, numbers("FLOAT", 40, 25)
    x[0] = special
    gate[0, :5] = 0.0
    _, y = runs("FLOAT")(x=x, gate=gate, U=up, c=np.zeros(1), W=weight, b=np.zeros(1))
    assert np.isnan(y[0]).all()
    assert np.isfinite(y[1:]).all()


def test_few_and_many_rows_of_one_model(tmp_path: Path) -> None:
    """The kernel of a node in a branch is found, and from five rows on the product is the model's own."""
    layer = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17]> m (float[a, 6] x) => (float[a, 6] y) {
            g = MatMul (x, w1)  h = Relu (g)  y = MatMul (h, w2)
        }
    """)
    weights = {"w1": numbers("FLOAT", 6, 40), "w2": numbers("FLOAT", 40, 6)}
    layer.graph.initializer.extend(from_array(one.astype("f4"), name) for name, one in weights.items())
    done = tautomer.optimize(layer, target=replace(KERNELS, sparse_from=1), verify=False)
    assert kernels_for(done.model).others == {("SparseLinear", "FLOAT"): None}
    done.save(tmp_path / "m.onnx")
    session = tautomer.session(tmp_path / "m.onnx")
    for rows in (0, 1, 4, 5, 41):
        x = numbers("FLOAT", rows, 6)
        (y,) = session.run(None, {"x": x.astype("f4")})
        assert close(y, np.maximum(x @ weights["w1"], 0.0) @ weights["w2"], "FLOAT"), rows


def test_nodes_that_do_not_fit_run_their_function() -> None:
    ours = model("DOUBLE")
    found = library_for(ours, "portable")
    assert "not one that kernels are written for" in found.reason  # type: ignore[union-attr]


@pytest.mark.parametrize(("wrong", "said"), [("h", "do not fit"), ("b", "has not one number for each row")])
def test_sizes_that_do_not_fit_are_an_error(runs: Any, wrong: str, said: str) -> None:
    given = {"h": np.ones((2, 5)), "W": np.ones((5, 4)), "b": np.ones(4)}
    given[wrong] = np.ones((2, 6)) if wrong == "h" else np.ones(3)
    with pytest.raises(Exception, match=said):
        plain(runs("FLOAT"), *given.values())
