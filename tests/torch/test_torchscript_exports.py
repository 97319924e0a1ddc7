"""Adapters, KAN bases and masks in TorchScript exports: cast to their own type, tied by Identity."""

from __future__ import annotations

import io
import warnings
from collections import Counter
from collections.abc import Callable

import onnx
import pytest
import torch
from adapters import Dora, Lora, pissa
from test_fx_activations import Function, Written
from torch import nn

import tautomer
from benchmarks.adapted_layers import Gaussians, Relus, Spline

IN, OUT = 8, 10


def exported(module: nn.Module, x: torch.Tensor) -> onnx.ModelProto:
    """The exporter that takes no torch.export; its removal is announced, and it works in torch 2.13."""
    file = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(module.eval(), (x,), file, dynamo=False, opset_version=17)
    return onnx.load_from_string(file.getvalue())


# the module, and how many operators of each kind are left of what it computes
MODULES: dict[str, tuple[Callable[[], nn.Module], dict[str, int]]] = {
    "lora": (lambda: Lora(nn.Linear(IN, OUT), 3), {"Gemm": 1, "MatMul": 0}),
    "two adapters": (lambda: Lora(nn.Linear(IN, OUT), 3, 2, rank_stabilised=True), {"Gemm": 1, "MatMul": 0}),
    "dora": (lambda: Dora(nn.Linear(IN, OUT), 3), {"Gemm": 1, "MatMul": 0, "EyeLike": 0}),
    "pissa": (lambda: pissa(nn.Linear(IN, OUT), 3), {"Gemm": 1, "MatMul": 0}),
    "splines": (lambda: Spline(IN), {"Rowwise": 2, "And": 0, "Div": 0}),
    "gaussians": (lambda: Gaussians(IN), {"Rowwise": 2, "Exp": 0}),
    "relus": (lambda: Relus(IN), {"Rowwise": 1, "Relu": 0}),
    "a mask as a factor": (lambda: Function(lambda x: x * (x >= 0.25)), {"Rowwise": 1, "Cast": 0}),
    "a masked write": (Written, {"Rowwise": 1, "ScatterND": 0, "Cast": 0}),
}


@pytest.mark.parametrize("name", MODULES)
def test_it_is_rewritten_as_in_other_exports(name: str) -> None:
    torch.manual_seed(0)
    build, left = MODULES[name]
    module, x = build(), torch.randn(6, IN)
    source = exported(module, x)
    result = tautomer.optimize(source, target="kernels")
    found = Counter(node.op_type.split("_")[0] for node in result.model.graph)
    assert result.verification["verdict"] == "EQUAL"
    assert {op: found[op] for op in left} == left
