"""Rewrites that are done when asked for, on torch graphs: shorter rows, merged products, deferred scales."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from backend_models import close, compiled, perturb, tokens
from fx_models import calls
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx

import tautomer
from tautomer.passes.pipeline import Choices
from tautomer.remarks import Remark
from tautomer.runtime.torch.rewriting import rewrite_graph

WIDTH, HEADS = 16, 2
BATCH = ({0: torch.export.Dim("batch", min=1, max=64)},)
# what is asked, the rule that does it, how often, and how many norms of torch's are left
ASKED: list[tuple[dict[str, Any], str, int, int]] = [
    ({"norm": "crms"}, "compress", 2, 0),
    ({"norm": "crms-orthonormal"}, "compress", 2, 0),
    ({"norm": "ln", "merge_products": True}, "merge products", 1, 2),
    ({"norm": "ln", "defer_scale": True}, "defer scale", 2, 0),
    ({"norm": "rms", "merge_products": True, "defer_scale": True}, "defer scale", 2, 0),
]
each_choice = pytest.mark.parametrize(("asked", "rule", "times", "norms"), ASKED)


class Layer(nn.Module):
    """Attention with fewer keys than queries, in front of a norm and a head."""

    def __init__(self, after: Callable[[torch.Tensor], torch.Tensor] = nn.Identity()) -> None:  # noqa: B008
        super().__init__()
        self.embed, self.place = nn.Embedding(32, WIDTH), nn.Parameter(torch.zeros(5, WIDTH))
        self.norm, self.last = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.q, self.k, self.v = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 8), nn.Linear(WIDTH, 8)
        self.out, self.head, self.after = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 32), after
        perturb(self)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embed(tokens) + self.place
        y = self.norm(x)
        q, k, v = (each(y).unflatten(-1, (-1, 8)).transpose(1, 2) for each in (self.q, self.k, self.v))
        weights = torch.softmax(q @ k.transpose(-2, -1) / 8**0.5, -1)
        x = x + self.out((weights @ v).transpose(1, 2).flatten(2))
        head: torch.Tensor = self.head(self.after(self.last(x)))
        return head


def _passed(remarks: list[Remark], rule: str) -> list[Remark]:
    return [one for one in remarks if one.rule == rule and one.kind == "passed"]


def _norms(module: torch.fx.GraphModule) -> int:
    return calls(module, "layer_norm") + calls(module, "rms_norm")


@each_choice
def test_a_module(asked: dict[str, Any], rule: str, times: int, norms: int) -> None:
    model = Layer().eval()
    result = tautomer.optimize(model, (tokens(),), target="inductor", dynamic_shapes=BATCH, **asked)
    assert result.verification["verdict"] == "EQUAL"
    assert result.verification["legs"]["algebra"]["status"] == "passed"
    assert len(_passed(result.remarks, rule)) == times and _norms(result.model) == norms
    for rows in (1, 3, 4):
        close(result.model(tokens(rows)), model(tokens(rows)))


@each_choice
def test_weights_that_come_with_the_call(asked: dict[str, Any], rule: str, times: int, norms: int) -> None:
    """Their values are not looked at: the graph computes what it needs of them, and gradients flow."""
    model = Layer().eval()
    names = [name for name, _ in model.named_parameters()]

    def call(*given: torch.Tensor) -> Any:
        return torch.func.functional_call(model, dict(zip(names, given[:-1], strict=True)), given[-1])

    values = [*model.parameters(), tokens()]
    graph = make_fx(call, pre_dispatch=True, tracing_mode="fake")(*values)
    done = rewrite_graph(graph, values, asked=Choices(**asked))
    assert len(_passed(done.remarks, rule)) == times and _norms(done.module) == norms
    others = [(parameter.detach() * 1.5).requires_grad_() for parameter in model.parameters()]
    results = [each(*others, tokens()) for each in (done.module, call)]
    close(*results)
    one, other = (torch.autograd.grad(each.square().mean(), others) for each in results)
    largest = max(float(each.abs().max()) for each in other)
    for a, b in zip(one, other, strict=True):
        # a few dozen roundings of the largest gradient: that of a key's bias is zero but for them
        assert float((a - b).abs().max()) <= 64 * 2.0**-23 * largest


@pytest.mark.usefixtures("fresh_dynamo")
def test_the_backend_has_options_for_them(caplog: pytest.LogCaptureFixture) -> None:
    model = Layer()
    plain = copy.deepcopy(model)
    run = compiled(model, then="eager", norm="crms", merge_products=True)
    with torch.no_grad(), caplog.at_level(logging.INFO, logger="tautomer.torch"):
        close(run(tokens()), plain(tokens()))
        for one in (model, plain):
            one.q.weight.mul_(1.5)
        close(run(tokens()), plain(tokens()))
    said = [record.getMessage() for record in caplog.records]
    for reason, times in (("15 numbers hold its rows of 16", 2), ("3 products of one tensor became one", 1)):
        assert sum(line.startswith("passed") and reason in line for line in said) == times


def test_the_program_is_saved_and_loaded(tmp_path: Path) -> None:
    model = Layer().eval()
    result = tautomer.optimize(model, (tokens(),), export=True, norm="crms")
    result.save(tmp_path / "layer.pt2")
    close(torch.export.load(tmp_path / "layer.pt2").module()(tokens()), model(tokens()))


@pytest.mark.parametrize("asked", [{"norm": "crms"}, {"defer_scale": True}, {"merge_products": True}])
def test_half_precision(asked: dict[str, Any]) -> None:
    """Accepted by the criterion of the numerics, which is that of half precision."""
    result = tautomer.optimize(Layer().eval().to(torch.bfloat16), (tokens(),), target="inductor", **asked)
    assert result.verification["verdict"] == "EQUAL" and result.changed


@pytest.mark.parametrize(
    ("asked", "rule", "reason"),
    [
        ({"norm": "crms"}, "compress", "'relu' (Relu) reads it and is not linear"),
        ({"norm": "ln", "defer_scale": True}, "defer scale", "'relu' (Relu) reads it and is not linear"),
    ],
)
def test_a_norm_with_another_reader_stays(asked: dict[str, Any], rule: str, reason: str) -> None:
    model = Layer(after=nn.ReLU()).eval()
    result = tautomer.optimize(model, (tokens(),), **asked)
    (missed,) = {
        one.reason for one in result.remarks if one.rule == rule and one.kind == "missed" and one.node
    }
    assert missed.endswith(reason) and _norms(result.model) >= 1
    close(result.model(tokens()), model(tokens()))


def test_products_of_which_one_has_no_bias_stay() -> None:
    model = Layer()
    model.k = nn.Linear(WIDTH, 8, bias=False)
    result = tautomer.optimize(model.eval(), (tokens(),), norm="ln", merge_products=True)
    (missed,) = [one.reason for one in result.remarks if one.rule == "merge products"]
    assert "some of the linear maps that read its tensor have a bias and some have none" in missed
    assert not result.changed
