"""Attention operators in onnxruntime: layouts, masks, free sizes, threads, and what does not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

import tautomer
from tautomer.codegen.attention.kernel import attention_kernel
from tautomer.graph.reader import read_model
from tautomer.patterns.attention.form import AttentionForm, attend
from tautomer.patterns.attention.operators import LAYOUTS, AttentionOperator
from tautomer.patterns.recognition.evaluation import FLOAT64
from tautomer.runtime import attention_check
from tautomer.runtime.onnxruntime.kernels import isa_of, kernels_for, library_for

BATCH, HEADS, KV_HEADS, ROWS, COLUMNS, DEPTH, WIDTH = 2, 4, 2, 70, 90, 24, 16
CLOSE = {"rtol": 1e-4, "atol": 2e-5}  # what kernels are held to is in tests/codegen
CASES = {
    "plain": AttentionOperator(AttentionForm()),
    "positions first": AttentionOperator(AttentionForm("sigmoid", causal="end"), "nnnn"),
    "keys transposed": AttentionOperator(AttentionForm("softplus_reweighted", power=3, empty="zero"), "htnn"),
    "everything": AttentionOperator(
        AttentionForm(
            "softmax1",
            mask="boolean",
            causal="end",
            window=True,
            lengths=True,
            alibi=True,
            softcap=True,
            sink=True,
        ),
        "nthh",
    ),
    "additive": AttentionOperator(AttentionForm(mask="additive"), "hnnh"),
}
NUMBERS = {"scale": 0.25, "bias": -0.5, "softcap": 3.0, "window": 40, "free": 3}


def feeds_of(operator: AttentionOperator, columns: int = COLUMNS) -> dict[str, NDArray[Any]]:
    """Inputs with axes in the formula's order."""
    random, form = np.random.default_rng(0), operator.form
    shapes = {"q": (HEADS, ROWS, DEPTH), "k": (KV_HEADS, columns, DEPTH), "v": (KV_HEADS, columns, WIDTH)}
    feeds = {name: random.standard_normal((BATCH, *s)).astype(np.float32) for name, s in shapes.items()}
    if form.mask:
        mask = random.standard_normal((BATCH, 1, 1, columns)).astype(np.float32)
        feeds["mask"] = mask if form.mask == "additive" else mask > -0.5
    if form.lengths:
        feeds["lengths"] = np.array([columns // 2, columns])
    if form.alibi:
        feeds["slopes"] = np.float32([0.5, 0.25, 0.125, 0.0625])
    if form.sink:
        feeds["sink"] = random.standard_normal(HEADS).astype(np.float32)
    return feeds


def given_to(operator: AttentionOperator, feeds: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The same with axes in the operator's order."""
    turned = dict(feeds)
    for name, layout in zip("qkv", operator.layouts, strict=False):
        turned[name] = np.ascontiguousarray(feeds[name].transpose(LAYOUTS[layout]))
    return turned


def expected_of(operator: AttentionOperator, feeds: dict[str, NDArray[Any]]) -> NDArray[Any]:
    wide = {n: x if x.dtype in (bool, np.int64) else x.astype(np.float64) for n, x in feeds.items()}
    numbers = {name: NUMBERS[name] for name in operator.attributes}
    found = np.asarray(attend(FLOAT64, operator.form, **wide, **numbers))  # type: ignore[arg-type]
    return found.transpose(LAYOUTS[operator.layouts[3]])


def model_of(
    operator: AttentionOperator,
    feeds: dict[str, NDArray[Any]],
    path: Path,
    *,
    sized: bool = True,
    **changed: Any,
) -> Path:
    numbers = {name: kind(NUMBERS[name]) for name, kind in operator.attributes.items()} | changed
    node = onnx.helper.make_node(operator.name, list(operator.inputs), ["y"], domain="tautomer", **numbers)
    infos = [
        onnx.helper.make_tensor_value_info(
            name,
            onnx.helper.np_dtype_to_tensor_dtype(feeds[name].dtype),
            feeds[name].shape if sized else [f"{name}{axis}" for axis in range(feeds[name].ndim)],
        )
        for name in operator.inputs
    ]
    y = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [None] * 4)
    opsets = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("tautomer", 1)]
    graph = onnx.helper.make_graph([node], "g", infos, [y])
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


@pytest.mark.parametrize("sized", [True, False], ids=["sized", "free"])
@pytest.mark.parametrize("case", CASES)
def test_computes_its_formula(tmp_path: Path, case: str, sized: bool) -> None:
    operator = CASES[case]
    feeds = feeds_of(operator)
    given = given_to(operator, feeds)
    session = tautomer.session(model_of(operator, given, tmp_path / "m.onnx", sized=sized))
    (found,) = session.run(None, given)
    np.testing.assert_allclose(found, expected_of(operator, feeds), **CLOSE)


def test_one_query_and_many_keys_and_any_number_of_threads(tmp_path: Path) -> None:
    operator = CASES["plain"]
    feeds = feeds_of(operator, 3000)
    feeds["q"] = feeds["q"][:1, :, :1]
    feeds["k"], feeds["v"] = feeds["k"][:1], feeds["v"][:1]
    path = model_of(operator, feeds, tmp_path / "m.onnx", sized=False)
    results = []
    for threads in (1, 2):
        session = tautomer.session(path, intra_op_num_threads=threads)
        results += [session.run(None, feeds)[0] for _ in range(2)]
    np.testing.assert_allclose(results[0], expected_of(operator, feeds), **CLOSE)
    assert all((one == results[0]).all() for one in results)


def test_no_queries_and_no_keys(tmp_path: Path) -> None:
    operator = CASES["plain"]
    feeds = feeds_of(operator)
    session = tautomer.session(model_of(operator, feeds, tmp_path / "m.onnx", sized=False))
    assert session.run(None, feeds | {"q": feeds["q"][:, :, :0]})[0].shape == (BATCH, HEADS, 0, WIDTH)
    (found,) = session.run(None, feeds | {"k": feeds["k"][:, :, :0], "v": feeds["v"][:, :, :0]})
    assert not found.any()


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("q", lambda x: x[..., :7]),
        ("k", lambda x: x[:, :5]),
        ("v", lambda x: x[:1]),
        ("q", lambda x: x[:, :3]),
        ("mask", lambda x: x[..., :5]),
    ],
    ids=["head dimension", "keys", "batch", "heads", "mask"],
)
def test_what_does_not_fit_is_an_error_and_no_crash(tmp_path: Path, name: str, change: Any) -> None:
    operator = CASES["additive"]
    given = given_to(operator, feeds_of(operator))
    session = tautomer.session(model_of(operator, given, tmp_path / "m.onnx", sized=False))
    with pytest.raises(Exception, match="ScoreAttention_softmax_additive_hnnh"):
        session.run(None, given | {name: np.ascontiguousarray(change(given[name]))})


@pytest.mark.parametrize(
    ("changed", "reason"),
    [({"scale": 1}, "scale is missing, or not of its type"), ({"bias": None}, "bias is missing")],
    ids=["whole scale", "no bias"],
)
def test_nodes_without_their_attributes_are_declined(
    tmp_path: Path, changed: dict[str, Any], reason: str
) -> None:
    operator = CASES["plain"]
    path = model_of(operator, feeds_of(operator), tmp_path / "m.onnx", **changed)
    declined = kernels_for(read_model(path)).declined[operator.name]
    assert reason in declined


def test_a_wrong_kernel_is_found_in_its_first_run(tmp_path: Path) -> None:
    """One that is right for another form: each of these differs from its neighbour in one thing only."""
    right = AttentionForm(causal="end")
    wrong = (AttentionForm(causal="start"), AttentionForm("softmax1", causal="end"), AttentionForm())
    operator = AttentionOperator(right)
    path = model_of(operator, feeds_of(operator), tmp_path / "m.onnx")
    library = library_for(read_model(path))
    assert isinstance(library, Path)
    symbol = attention_kernel(right, isa_of("native")).symbol
    copied = tmp_path / "library.so"
    copied.write_bytes(library.read_bytes())
    assert attention_check.check(copied, symbol, right) is None
    for other in wrong:
        reason = attention_check.check(copied, symbol, other)
        assert reason is not None and "off by" in reason
