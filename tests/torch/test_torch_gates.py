"""Gates of mixtures of experts as transformers writes them in torch: read, named, rewritten when asked."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import tautomer
from tautomer.runtime.torch import backend
from tautomer.runtime.torch.gate_library import attach_gate, gate_operator


class Gate(nn.Module):
    """A router, and the experts it chooses added up."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.form, self.experts = form, nn.Parameter(torch.linspace(-1.0, 1.0, 6 * 8).reshape(6, 8).cos())
        self.router = nn.Linear(8, 6, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        logits = self.router(x)
        if self.form == "gpt-oss":
            values, chosen = torch.topk(logits, 2, dim=-1)
            values = functional.softmax(values, dim=1, dtype=values.dtype)
        else:
            values, chosen = torch.topk(functional.softmax(logits, dtype=torch.float, dim=-1), 2, dim=-1)
            if self.form == "in place":
                values /= values.sum(dim=-1, keepdim=True)
            elif self.form == "Mixtral":
                values = values / values.sum(dim=-1, keepdim=True)
        return (values.to(x.dtype).unsqueeze(-1) * self.experts[chosen]).sum(1)


def made(form: str) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    return Gate(form).eval(), torch.randn(5, 8)


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ("Mixtral", "logits tell them apart"),
        ("in place", "logits tell them apart"),
        ("not renormalised", "not renormalised"),
        ("gpt-oss", "softmax of the chosen experts alone"),
    ],
)
def test_a_gate_is_read_and_named(form: str, said: str) -> None:
    module, x = made(form)
    found = [one.reason for one in tautomer.explain(module, (x,)) if one.rule == "select experts"]
    assert len(found) == 1 and said in found[0]


@pytest.mark.parametrize("form", ["Mixtral", "in place"])
def test_a_gate_chooses_by_logits_when_asked(form: str) -> None:
    module, x = made(form)
    result = tautomer.optimize(module, (x,), choose_by_logits=True)
    assert result.verification["verdict"] == "EQUAL"
    assert result.after["aten.topk.default"] == result.after["aten.softmax.int"] == 1
    assert "aten.div_.Tensor" not in result.after and "aten.div.Tensor" not in result.after
    torch.testing.assert_close(result.model(x), module(x))


def test_a_write_to_a_result_that_somebody_else_reads_stays() -> None:
    class Shared(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            pair = torch.topk(torch.softmax(x, -1), 2)
            view = pair[0].view(-1)
            pair[0].div_(pair[0].sum(-1, keepdim=True))
            return view * 2.0

    x = torch.randn(3, 6)
    result = tautomer.optimize(Shared().eval(), (x,), choose_by_logits=True)
    assert not any(one.kind == "passed" for one in result.remarks if one.rule == "select experts")
    torch.testing.assert_close(result.model(x), Shared()(x))


@pytest.mark.usefixtures("kernels", "fresh_dynamo")
@pytest.mark.parametrize("form", ["in place", "not renormalised", "gpt-oss"])
def test_torch_compile_runs_a_gate_by_its_kernel(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, _ = made(form)
    x = torch.randn(70, 8)
    graphs: list[torch.fx.GraphModule] = []
    monkeypatch.setattr(backend, "trace_graph", lambda when, graph: graphs.append(graph))
    with torch.no_grad():
        done = torch.compile(module, backend="tautomer", options={"then": "eager"})(x)
        torch.testing.assert_close(done, module(x))
    called = [str(node.target) for node in graphs[-1].graph.nodes]
    assert "tautomer.expert_gate_v1.default" in called and "aten.topk.default" not in called


@pytest.mark.usefixtures("kernels", "fresh_dynamo")
def test_a_gate_that_is_trained_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    module, x = made("in place")
    said: list[tautomer.Remark] = []
    monkeypatch.setattr(backend, "trace_remarks", said.extend)
    loss = torch.compile(module, backend="tautomer", options={"then": "eager"})(x).sum()
    loss.backward()
    assert any("gradients flow" in one.reason for one in said) and module.router.weight.grad is not None


@pytest.mark.usefixtures("kernels")
def test_the_operator_refuses_what_it_cannot_do() -> None:
    assert attach_gate() == ""
    gate = gate_operator()
    for x, k in ((torch.randn(3, 6).double(), 2), (torch.randn(3, 6), 7), (torch.randn(2, 600), 2)):
        with pytest.raises(RuntimeError, match="tautomer"):
            gate(x, k, 0)
    x = torch.randn(4, 6, 5).transpose(1, 2)  # not contiguous
    weights, experts = gate(x, 3, 0)
    values, places = torch.topk(torch.softmax(x, -1), 3)
    torch.testing.assert_close(weights, values)
    assert torch.equal(experts, places) and gate(torch.randn(0, 6), 2, 0)[1].shape == (0, 2)
    torch.library.opcheck(gate, (torch.randn(3, 6), 2, 1), test_utils=("test_schema", "test_faketensor"))
