"""Modules exported to ONNX: operators of ours carry their functions, and stock onnxruntime runs them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from fx_models import close
from test_fx_traps import TOKENS, Block
from torch import nn
from torch.nn import functional

import tautomer
import tautomer.torch
from tautomer.codegen.torch.operators import operator_of
from tautomer.errors import InputError
from tautomer.runtime.torch import ops_gains
from tautomer.runtime.torch.ops_library import attach
from tautomer.runtime.torch.ops_use import use_kernels

ort = pytest.importorskip("onnxruntime")
WIDTH = 24
_ROWS = ({0: torch.export.Dim("rows", min=1, max=64)},)


def run(path: Path, x: torch.Tensor) -> torch.Tensor:
    """Stock onnxruntime, without our kernels."""
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {session.get_inputs()[0].name: x.numpy()})[0])


class Spelled(nn.Module):
    """A block in torch's own operators."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.bias = nn.Parameter(torch.rand(WIDTH) + 0.5), nn.Parameter(torch.rand(WIDTH))
        self.linear = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.tanh(
            x
        )  # of finfo.min, the squares in our bodies and in onnxruntime's norm overflow differently
        y = self.linear(functional.rms_norm(x, (WIDTH,), None, 1e-6))
        total = y + x
        normed = functional.layer_norm(total, (WIDTH,), self.scale, self.bias, 1e-5)
        gated = functional.gelu(normed) * y + functional.gelu(normed, approximate="tanh") * total
        return torch.softmax(functional.layer_norm(gated, (WIDTH,), self.scale) + total, -1)


class Called(Spelled):
    """The same in operators of ours."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        ours: Any = torch.ops.tautomer
        x = torch.tanh(x)
        y = self.linear(ours.rms_norm_v1(x, None, 1e-6))
        normed, total = ours.add_layer_norm_v1(y, x, self.scale, self.bias, 1e-5)
        gated = ours.geglu_v1(normed, y) + ours.geglu_tanh_v1(normed, total)
        return ours.softmax_v1(ours.layer_norm_v1(gated, self.scale, None, 1e-5) + total)


def test_operators_of_ours_carry_their_functions(kernels: None, tmp_path: Path) -> None:
    for name in ("rms_norm", "add_layer_norm", "geglu", "geglu_tanh", "softmax", "layer_norm"):
        assert attach(operator_of(name), "float32") == ""
    torch.manual_seed(0)
    spelled, called, x = Spelled().eval(), Called().eval(), torch.randn(5, WIDTH)
    called.load_state_dict(spelled.state_dict())
    plain, ours = tmp_path / "plain.onnx", tmp_path / "ours.onnx"
    tautomer.torch.export_onnx(spelled, (x,), plain, dynamic_shapes=_ROWS, output_names=["y"])
    model = tautomer.torch.export_onnx(called, (x,), ours, dynamic_shapes=_ROWS, output_names=["y"])
    names = [node.op_type for node in model.graph if node.domain == "tautomer"]
    assert names == ["RMSNormalization", "AddLayerNormalizationWithSum", "GeGLU", "GeGLU"]
    assert {node.op_identifier() for node in model.graph if node.domain} == set(model.functions)
    # the opset has these
    assert {"LayerNormalization", "Softmax"} < {node.op_type for node in model.graph if not node.domain}
    for rows in (1, 5, 9):
        given = torch.randn(rows, WIDTH)
        assert close(run(ours, given), spelled(given))
    assert tautomer.verify(plain, ours).verdict == "EQUAL"
    with pytest.raises(InputError, match="exists"):
        tautomer.torch.export_onnx(called, (x,), ours)


def test_a_graph_with_kernels_is_exported(
    kernels: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ops_gains, "_LEAST", {"float32": {"rms_norm": (1, 1)}})
    block = Block()
    result = tautomer.optimize(block, (TOKENS,), target="inductor")
    with torch.no_grad():
        placed = use_kernels(result.model)
    assert sum(remark.kind == "passed" for remark in placed) == 2
    tautomer.torch.export_onnx(block, (TOKENS,), tmp_path / "plain.onnx", output_names=["y"])
    model = tautomer.torch.export_onnx(
        result.model, (TOKENS,), tmp_path / "ours.onnx", input_names=["tokens"], output_names=["y"]
    )
    assert [node.op_type for node in model.graph if node.domain] == ["RMSNormalization"] * 2
    assert close(block(TOKENS), run(tmp_path / "ours.onnx", TOKENS))
    assert tautomer.verify(tmp_path / "plain.onnx", tmp_path / "ours.onnx").verdict == "EQUAL"


def test_the_program_is_exported(tmp_path: Path) -> None:
    block = Block()
    program = tautomer.optimize(block, (TOKENS,), target="inductor", export=True).model
    tautomer.torch.export_onnx(program, path=tmp_path / "block.onnx", opset_version=23)
    assert close(block(TOKENS), run(tmp_path / "block.onnx", TOKENS))


def test_an_opset_that_is_too_old() -> None:
    with pytest.raises(InputError, match="opset 14 is too old"):
        tautomer.torch.export_onnx(Spelled().eval(), (torch.ones(2, WIDTH),), opset_version=14)
