"""Gates of mixtures of experts by their kernel: the choice and weights of onnxruntime, at every size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx.parser
import onnx_ir as ir
import pytest
from numpy.typing import NDArray

import tautomer
from tautomer.codegen.gate_kernel import FORMS, gate_kernel
from tautomer.codegen.isa import PORTABLE
from tautomer.graph.reader import read_bytes
from tautomer.graph.writer import write_model
from tautomer.patterns.expert_gate import (
    LOGITS,
    MOST_CHOSEN,
    MOST_EXPERTS,
    PROBABILITIES,
    SHARES,
    function_of_gate,
)
from tautomer.runtime import compiler
from tautomer.runtime.onnxruntime import gate as ort_gate
from tautomer.runtime.onnxruntime.kernels import kernels_for

onnxruntime = pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.usefixtures("real_compiler")
RANDOM = np.random.default_rng(0)
OFF = 2e-6  # of a weight: a sum of up to 1024 numbers in float32, an exponential and two factors


def model() -> ir.Model:
    """The three gates of one input, of any size."""
    outputs = ", ".join(f"float[n, m] w{i}, int64[n, m] i{i}" for i in range(3))
    nodes = "\n".join(f"w{i}, i{i} = tautomer.{op} (x, k)" for i, op in enumerate(FORMS))
    made = read_bytes(
        onnx.parser.parse_model(f"""
            <ir_version: 9, opset_import: ["" : 18, "tautomer" : 1]>
            m (float[n, e] x, int64[1] k) => ({outputs}) {{ {nodes} }}
        """).SerializeToString()
    )
    for op in FORMS:
        function = function_of_gate(op, 18)
        made.functions[function.identifier()] = function
    return made


@pytest.fixture(scope="module")
def sessions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """With our kernels on two threads, and by the functions in the file."""
    path = tmp_path_factory.mktemp("gates") / "m.onnx"
    write_model(model(), path)
    assert len(kernels_for(model()).others) == 3
    return tautomer.session(path, intra_op_num_threads=2), onnxruntime.InferenceSession(str(path))


def run(session: Any, x: NDArray[Any], k: int) -> dict[str, tuple[NDArray[Any], NDArray[Any]]]:
    """Weights and experts by operator."""
    found = session.run(None, {"x": x.astype(np.float32), "k": np.array([k])})
    return {op: (found[2 * i], found[2 * i + 1]) for i, op in enumerate(FORMS)}


def apart(rows: int, experts: int) -> NDArray[np.float32]:
    """Scores that no rounding of their softmax exchanges."""
    return RANDOM.permuted(np.tile(np.arange(experts, dtype=np.float32) / 16, (rows, 1)), axis=1)


SIZES = [(0, 8, 2), (1, 1, 1), (1, 8, 8), (5, 7, 2), (3, 9, 9), (64, 16, 4), (300, 64, 8)]
LARGE = [(9, 32, 32), (7, 33, 5), (2, 255, 8), (2, 256, 1), (11, MOST_EXPERTS, 4)]


@pytest.mark.parametrize(("tokens", "experts", "k"), [*SIZES, *LARGE])
def test_every_size_chooses_what_onnxruntime_chooses(
    sessions: Any, tokens: int, experts: int, k: int
) -> None:
    x = apart(tokens, experts)
    ours, theirs = (run(session, x, k) for session in sessions)
    for op in FORMS:
        assert ours[op][0].shape == ours[op][1].shape == (tokens, k)
        assert np.array_equal(ours[op][1], theirs[op][1])
        np.testing.assert_allclose(ours[op][0], theirs[op][0], rtol=OFF)


@pytest.mark.parametrize("experts", [8, 37, 64])
def test_of_equals_the_first_is_chosen(sessions: Any, experts: int) -> None:
    x = np.zeros((24, experts), np.float32)
    x[1] = np.arange(experts) % 3
    x[2, ::2] = -np.inf  # masked: probability 0, and chosen last
    x[3] = -np.arange(experts) % 2 * 0.0  # 0 and -0 are equal
    x[16:20] = x[:4]
    for k in (3, min(experts, MOST_CHOSEN)):
        ours, theirs = (run(session, x, k) for session in sessions)
        for op in FORMS:
            assert np.array_equal(ours[op][1], theirs[op][1]), (op, k)
            np.testing.assert_allclose(ours[op][0], theirs[op][0], rtol=OFF)


def test_probabilities_that_vanish_are_equal(sessions: Any) -> None:
    """All but one are zero in float32; by logits they differ."""
    x = np.array([[200, -1, -2, 5, -300, 0]], np.float32)
    found = run(sessions[0], x, 3)
    assert found[SHARES][1].tolist() == found[PROBABILITIES][1].tolist() == [[0, 1, 2]]
    assert found[LOGITS][1].tolist() == [[0, 3, 5]]
    assert found[SHARES][0].tolist() == [[1.0, 0.0, 0.0]]


def test_rows_without_probabilities(sessions: Any) -> None:
    """All weights are NaN, and the order is that of x; NaN among logits is above all."""
    x = apart(4, 11)
    x[0, 4], x[1, 10], x[2] = np.nan, np.inf, -np.inf
    x[3, 2] = -np.float32(np.nan)
    found = run(sessions[0], np.tile(x, (5, 1)), 3)  # by vectors, and the last rows each alone
    for op in (SHARES, PROBABILITIES):
        assert np.isnan(found[op][0]).all() and (found[op][1] == [0, 1, 2]).all()
    weights, experts = found[LOGITS]
    assert np.isnan(weights).all() and experts[:, 0].tolist() == [4, 10, 0, 2] * 5


@pytest.mark.parametrize(("k", "experts", "said"), [(9, 8, "9 of 8"), (1, MOST_EXPERTS + 1, "513 experts")])
def test_what_cannot_be_chosen_is_an_error(sessions: Any, k: int, experts: int, said: str) -> None:
    with pytest.raises(Exception, match=said):
        run(sessions[0], apart(2, experts), k)


def test_another_function_under_the_name_is_run_as_it_stands(tmp_path: Path) -> None:
    changed = model()
    function = changed.functions["tautomer", SHARES, ""]
    next(node for node in function if node.op_type == "Div").op_type = "Mul"
    found = kernels_for(changed)
    assert [one.op for one in found.others] == [op for op in FORMS if op != SHARES]
    assert "not the one that its name says" in found.declined[SHARES]


WRONG_KERNELS = {
    "the last of equals": ("before = key > keys[n - 1]", "before = key >= keys[n - 1]"),
    "larger than the last is not larger": ("I larger = key > keys[count - 1]", "I larger = key > keys[0]"),
    "what was larger is forgotten": ("keys[n] = before ? keys[n - 1] :", "keys[n] = before ? key :"),
    "places stay behind": ("places[n] = before ? places[n - 1] :", "places[n] = before ? place :"),
    "no order of negative numbers": ("ordered = bits ^ ((bits >> 31) & INT32_MAX)", "ordered = bits"),
    "NaN below all": ("ordered : I{} + INT32_MAX", "ordered : I{} + INT32_MIN"),
    "no shares": ("if (form != SHARES) return;", "return;"),
    "shares where none are": ("if (form != SHARES) return;", ""),
    "a sum without its tail": ("for (; j < count; ++j) sums[0] +=", "for (; j < count; ++j)"),
    "the rows of a vector in one": ("one[r] = x[r * columns + j]", "one[r] = x[j]"),
    "of equals in two lanes the last": ("its_place < best_place", "its_place > best_place"),
    "a lane that is exhausted": ("if (next[lane] == most) continue;", ""),
    "shares of a vector": ("if (across) sum = all(total(sum));\n  for", "for"),
}


@pytest.mark.parametrize("name", WRONG_KERNELS)
def test_a_wrong_kernel_does_not_pass_its_first_run(name: str, tmp_path: Path) -> None:
    kernel, (right, wrong) = gate_kernel(PORTABLE), WRONG_KERNELS[name]
    assert right in kernel.text
    compiler.compile(kernel.text.replace(right, wrong), (*kernel.flags, "-O0"), tmp_path / "kernel.so")
    assert ort_gate.check(tmp_path / "kernel.so", kernel.symbol, "FLOAT") is not None
