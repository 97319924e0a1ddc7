"""A file with fused attention in onnxruntime: by kernels, and not where its function is another."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

import tautomer
from benchmarks.attention_text import sigmoid_transformer
from tautomer.graph.reader import as_model
from tautomer.runtime.onnxruntime.kernels import kernels_for
from tautomer.target import KERNELS

TARGET = replace(KERNELS, attention={"sigmoid": ((1, 2.0),)})


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A transformer of one layer, and what it becomes."""
    folder = tmp_path_factory.mktemp("attention")
    before, after = folder / "before.onnx", folder / "after.onnx"
    onnx.save(sigmoid_transformer(1, 16, 2), before)
    done = tautomer.optimize(before, target=TARGET)
    assert done.after["tautomer.ScoreAttention_sigmoid_nnnn"] == 1
    done.save(after)
    return before, after


def test_the_kernel_computes_what_the_model_did(files: tuple[Path, Path]) -> None:
    before, after = files
    assert list(kernels_for(as_model(after)).others) == [("ScoreAttention_sigmoid_nnnn", "FLOAT")]
    stock, ours = onnxruntime.InferenceSession(before), tautomer.session(after)
    for tokens in (1, 7, 65):  # one, a part of a block of keys, a block and one more
        x = np.random.default_rng(tokens).standard_normal((2, tokens, 16)).astype(np.float32)
        # a few hundred products of order 1, in another order
        np.testing.assert_allclose(
            ours.run(None, {"x": x})[0], stock.run(None, {"x": x})[0], rtol=1e-4, atol=1e-4
        )


def test_a_function_that_is_not_ours_keeps_the_kernel_away(files: tuple[Path, Path]) -> None:
    model = as_model(files[1])
    for function in model.functions.values():
        if function.name.startswith("ScoreAttention_"):
            next(node for node in function.graph if node.op_type == "Sigmoid").op_type = "Relu"
    found = kernels_for(model)
    assert not found.others
    assert "its function is not the one" in found.declined["ScoreAttention_sigmoid_nnnn"]
