"""Gates of mixtures of experts as transformers writes them in torch: read, named, rewritten when asked."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import tautomer


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
