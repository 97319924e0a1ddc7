"""tautomer.optimize, explain and inspect of a torch module, and what can be done with the result."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from backend_models import Stream, tokens
from fx_models import close
from test_fx_traps import TOKENS, WIDTH, Block
from torch import nn
from torch.utils.checkpoint import checkpoint

import tautomer
from tautomer.errors import CheckFailedError, InputError
from tautomer.graph.fx import table
from tautomer.runtime.torch import ops_gains
from tautomer.runtime.torch.ops_use import use_kernels

_BATCH = ({0: torch.export.Dim("batch", min=1, max=64)},)


def test_a_module_becomes_a_module_with_folded_weights() -> None:
    block = Block()
    state = {name: held.clone() for name, held in block.state_dict().items()}
    result = tautomer.optimize(block, (TOKENS,), target="inductor", dynamic_shapes=_BATCH)
    assert result.changed and result.verification["verdict"] == "EQUAL"
    assert result.before["aten.layer_norm.default"] == 2
    assert result.after["aten.rms_norm.default"] == 2 and "aten.mean.dim" not in result.after
    for given in (TOKENS, TOKENS[:1], TOKENS.repeat(3, 1)):
        assert close(block(given), result.model(given))
    assert all(torch.equal(held, state[name]) for name, held in block.state_dict().items())
    with pytest.raises(RuntimeError):  # the weights of the one are not those of the other
        result.model.load_state_dict(state)


def test_the_program_is_saved_and_loaded(tmp_path: Path) -> None:
    block = Block()
    result = tautomer.optimize(block, (TOKENS,), target="inductor", export=True)
    assert isinstance(result.model, torch.export.ExportedProgram)
    result.save(tmp_path / "block.pt2")
    assert [path.name for path in tmp_path.iterdir()] == ["block.pt2"]
    assert close(block(TOKENS), torch.export.load(tmp_path / "block.pt2").module()(TOKENS))
    with pytest.raises(InputError, match="the file exists"):
        result.save(tmp_path / "block.pt2")


def test_a_program_is_taken_too() -> None:
    block = Block()
    with torch.no_grad():
        program = torch.export.export(block, (TOKENS,))
    result = tautomer.optimize(program, target="inductor")
    assert result.after["aten.rms_norm.default"] == 2
    assert close(block(TOKENS), result.model(TOKENS))


def test_the_program_is_packaged_with_operators_of_ours(
    kernels: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By AOTInductor, which compiles C++ for ten seconds: the smallest model that has both."""
    monkeypatch.setattr(ops_gains, "_LEAST", {"float32": {"rms_norm": (1, 1)}})
    model, x = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8)).eval(), torch.randn(3, 8)
    result = tautomer.optimize(model, (x,), target="inductor", norm="rms")
    with torch.no_grad(), warnings.catch_warnings():
        assert [remark.kind for remark in use_kernels(result.model)] == ["passed"]
        program = torch.export.export(result.model, (x,))
        warnings.simplefilter("ignore", FutureWarning)  # of torch, about torch
        package = torch._inductor.aoti_compile_and_package(
            program,
            package_path=str(tmp_path / "model.pt2"),
            inductor_configs={"aot_inductor.compile_wrapper_opt_level": "O0"},
        )
        assert close(model(x), torch._inductor.aoti_load_package(package)(x))


def test_activation_checkpoints_are_traced_through() -> None:
    class Checkpointed(Stream):
        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            x = self.embed(tokens)
            for block in self.blocks:
                x = checkpoint(block, x, use_reentrant=False)
            return self.head(self.norm(x))

    model = Checkpointed().eval()
    result = tautomer.optimize(model, (tokens(),), target="inductor")
    assert result.after["aten.rms_norm.default"] == 3
    assert close(model(tokens()), result.model(tokens()))


def test_torch_by_itself_keeps_its_layer_norm() -> None:
    result = tautomer.optimize(Block(), (TOKENS,))
    assert not result.changed and isinstance(result.model, Block)
    reasons = [remark.reason for remark in result.remarks if remark.rule == "recentre"]
    assert reasons == ["nothing stands in the way, but the target torch would gain nothing from it"] * 2


def test_explain_and_inspect_a_module() -> None:
    operations = tautomer.inspect(Block(), (TOKENS,))
    assert [op.op for op in operations if "Norm" in op.op][:2] == ["LayerNormalization"] * 2
    remarks = tautomer.explain(Block(), (TOKENS,), target="inductor")
    assert sum(remark.rule == "recentre" and remark.kind == "passed" for remark in remarks) == 2


class _Branches(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 1 if x.sum() > 0 else x - 1


def _quantized() -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.quantize_per_tensor(torch.ones(2), 1.0, 0, torch.qint8)


@pytest.mark.parametrize(
    ("module", "example", "message"),
    [
        (Block().train(), (TOKENS,), "is in training mode"),
        (Block(), None, "needs example inputs"),
        (Block(), TOKENS, "needs example inputs"),
        (nn.Linear(2, 2, device="meta").eval(), (torch.ones(1, 2),), "'weight': is on the meta device"),
        (nn.Linear(2, 2, dtype=torch.complex64).eval(), (torch.ones(1, 2),), "'weight': is complex"),
        (nn.Identity().eval(), (_quantized(),), "quantized"),
        (_Branches().eval(), (torch.ones(2),), "torch.export cannot export the module"),
        (Block(), (TOKENS, TOKENS), "torch.export cannot export the module"),
    ],
)
def test_what_cannot_be_rewritten_is_refused_and_left_alone(
    module: nn.Module, example: object, message: str
) -> None:
    state = dict(module.state_dict())
    with pytest.raises(InputError, match=message), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tautomer.optimize(module, example)  # type: ignore[arg-type]
    assert all(held is not None for held in state.values()) and list(module.state_dict()) == list(state)


def test_unknown_targets_and_choices_are_refused() -> None:
    with pytest.raises(InputError, match="unknown target 'onnxruntime' of a torch module"):
        tautomer.optimize(Block(), (TOKENS,), target="onnxruntime")


def test_half_precision_is_folded_in_float64_and_rounded_once() -> None:
    block = Block().to(torch.bfloat16)
    result = tautomer.optimize(block, (TOKENS,), target="inductor")
    assert result.after["aten.rms_norm.default"] == 2
    table = block.e.weight.detach().double()
    centred = (table - table.mean(-1, keepdim=True)).to(torch.bfloat16)
    stored = dict(result.model.named_parameters())
    assert any(held.shape == (50, WIDTH) and torch.equal(held, centred) for held in stored.values())


def test_where_every_node_has_a_meaning_the_whole_is_compared_exactly() -> None:
    result = tautomer.optimize(Block(), (TOKENS,), target="inductor")
    legs = result.verification["legs"]
    assert legs["algebra"]["status"] == legs["constants"]["status"] == "passed"
    assert (
        legs["constants"]["checked"] >= 4
    )  # the table, the writer and its bias, the reader of the last norm


def test_a_rule_that_is_wrong_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mutant: the bias of the writer is forgotten."""
    from tautomer.passes.streams import centring_plan

    centre = centring_plan._centre_constant

    def forgetful(work: object, node: object, index: int, digits: object) -> None:
        if getattr(node, "op_type", "") != "Add":
            centre(work, node, index, digits)  # type: ignore[arg-type]

    monkeypatch.setattr(centring_plan, "_centre_constant", forgetful)
    with pytest.raises(CheckFailedError, match=r"the mean of 'add' is|an error of"):
        tautomer.optimize(Block(), (TOKENS,), target="inductor", norm="rms")
    result = tautomer.optimize(Block(), (TOKENS,), target="inductor")
    assert result.after.get("aten.rms_norm.default", 0) == 0
    assert any("taken back" in remark.reason for remark in result.remarks)


def test_an_operator_of_low_accuracy_is_taken_back_where_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    """A torch whose softplus is the identity from 2 on: an error of e^-2 there."""

    class Inexact(table.Row):
        def write(self, emit: object, node: object) -> object:
            (x,) = node.inputs  # type: ignore[attr-defined]
            return emit.call(self.aten, emit.operand(x), beta=1, threshold=2)  # type: ignore[attr-defined]

    class Model(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5)
            return torch.log(1 + torch.exp(3 * y)) + x * torch.sigmoid(x)

    (row,) = table._ROWS["Softplus"]
    monkeypatch.setitem(table._ROWS, "Softplus", [Inexact(**vars(row))])
    x = torch.randn(4, WIDTH, generator=torch.Generator().manual_seed(0))
    result = tautomer.optimize(Model().eval(), (x,), target="inductor")
    passed = [remark.op for remark in result.remarks if remark.kind == "passed"]
    assert passed == ["RMSNormalization", "Swish"]
    (missed,) = [remark for remark in result.remarks if remark.op == "Softplus"]
    assert missed.node == "log" and "times what rounding explains" in missed.reason
    assert not any("whole streams" in remark.reason for remark in result.remarks)
