"""Cross-entropy of a linear map without its logits: values, gradients, memory, and where it is used."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from tautomer.errors import InputError
from tautomer.runtime.torch import cross_entropy_use
from tautomer.runtime.torch import linear_cross_entropy as implementation
from tautomer.runtime.torch.cross_entropy_use import use_cross_entropy
from tautomer.torch import linear_cross_entropy

WORDS, WIDTH = 50, 16
# of the largest element: a few roundings of sums of 50 terms, and of bfloat16's logits one
TOLERANCE = {torch.float32: 3e-6, torch.float64: 1e-13, torch.bfloat16: 2e-2}


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(implementation, "BUFFER", 7 * WORDS * 4)  # seven rows of float32, three of float64
    monkeypatch.setattr(implementation, "_BLOCK", 2 * WORDS)
    monkeypatch.setattr(cross_entropy_use, "LEAST", 1)


def operands(dtype: torch.dtype = torch.float32, rows: int = 27) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    x, weight, bias = (
        torch.randn(*shape, generator=generator) for shape in ((rows, WIDTH), (WORDS, WIDTH), (WORDS,))
    )
    target = torch.randint(WORDS, (rows,), generator=generator)
    target[1:4] = -100
    return *(one.to(dtype).requires_grad_() for one in (x, weight, bias)), target


def reference(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    target: torch.Tensor,
    reduction: str,
    smoothing: float,
    z: float,
) -> torch.Tensor:
    logits = functional.linear(x, weight, bias)
    losses = functional.cross_entropy(logits, target, reduction="none", label_smoothing=smoothing)
    losses = losses + z * logits.logsumexp(-1).square() * (target != -100)
    return {"none": losses, "sum": losses.sum(), "mean": losses.sum() / (target != -100).sum()}[reduction]


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(
    ("reduction", "smoothing", "z"), list(itertools.product(("mean", "sum", "none"), (0.0, 0.1), (0.0, 1e-2)))
)
def test_it_is_the_loss_and_the_gradient_that_torch_has(
    dtype: torch.dtype, reduction: str, smoothing: float, z: float
) -> None:
    x, weight, bias, target = operands(dtype)
    loss = linear_cross_entropy(
        x, weight, target, bias, label_smoothing=smoothing, z_loss=z, reduction=reduction
    )
    upstream = torch.ones_like(loss) * 1.5
    found = [loss, *torch.autograd.grad(loss, (x, weight, bias), upstream)]
    wide = [one.detach().double().requires_grad_() for one in (x, weight, bias)]
    exact = reference(*wide, target, reduction, smoothing, z)
    expected = [exact, *torch.autograd.grad(exact, wide, upstream.double())]
    for one, other in zip(found, expected, strict=True):
        one, other = one.detach().double(), other.detach()
        assert float((one - other).abs().max()) <= TOLERANCE[dtype] * float(other.abs().max())


@pytest.mark.parametrize("rows", [0, 1, 7, 8])
def test_any_number_of_rows(rows: int) -> None:
    x, weight, bias, target = operands(rows=rows)
    ours, torchs = (
        linear_cross_entropy(x, weight, target, bias),
        reference(x, weight, bias, target, "mean", 0.0, 0.0),
    )
    torch.testing.assert_close(ours, torchs, equal_nan=True)
    for one, other in zip(*(torch.autograd.grad(loss, (x, weight)) for loss in (ours, torchs)), strict=True):
        torch.testing.assert_close(one, torch.zeros_like(one) if not rows else other)


def test_rows_that_are_ignored_are_not_looked_at() -> None:
    x, weight, bias, target = operands()
    with torch.no_grad():
        x[1:4] = torch.nan
    loss = linear_cross_entropy(x, weight, target, bias)
    loss.backward()
    assert loss.isfinite() and x.grad is not None and weight.grad is not None
    assert not x.grad[1:4].any() and weight.grad.isfinite().all()
    assert linear_cross_entropy(
        x, weight, torch.full_like(target, -100)
    ).isnan()  # as torch: a mean of nothing


def test_a_second_backward_pass_gives_the_same_gradient() -> None:
    x, weight, bias, target = operands(torch.float64)
    loss = 3.0 * linear_cross_entropy(x, weight, target, bias)
    first = torch.autograd.grad(loss, (x, weight, bias), retain_graph=True)
    for one, other in zip(first, torch.autograd.grad(loss, (x, weight, bias)), strict=True):
        torch.testing.assert_close(one, other)


def test_it_is_an_operator_that_torch_can_compile() -> None:
    x, weight, _, target = operands(torch.float64)
    numbers = 0.1, -100, 0.01, True, 1, [True, True, False]
    checks = "test_schema", "test_autograd_registration", "test_faketensor"
    operator = torch.ops.tautomer.linear_cross_entropy_v1
    torch.library.opcheck(operator, (x, weight, target, None, *numbers), test_utils=checks)


class Largest(TorchDispatchMode):
    """The most elements of a tensor that an operator makes."""

    elements = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = function(*args, **(kwargs or {}))
        for one in found if isinstance(found, tuple) else (found,):
            self.elements = max(self.elements, one.numel() if isinstance(one, torch.Tensor) else 0)
        return found


def test_no_tensor_has_all_logits() -> None:
    x, weight, _, target = operands(rows=200)
    with Largest() as seen, torch.no_grad():
        ones, wanted = torch.ones(200), [True, True, False]
        implementation._chunked(x, weight, target, None, ones, None, 0.0, -100, 0.0, wanted)
    assert seen.elements == max(x.numel(), weight.numel()) < 200 * WORDS // 3


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"reduction": "median"}, "no reduction 'median'"),
        ({"target": torch.zeros(3, dtype=torch.int64)}, "not one index for each row"),
        ({"target": torch.zeros(27)}, "probabilities need the logits"),
        ({"weight": torch.zeros(WORDS, 3)}, "has no product"),
        ({"bias": torch.zeros(3)}, "not one number for each row of the weight"),
        ({"label_smoothing": 1.5}, "between 0 and 1"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, Any], said: str) -> None:
    x, weight, _, target = operands()
    with pytest.raises(InputError, match=said):
        linear_cross_entropy(**{"x": x, "weight": weight, "target": target, **change})


def with_z_loss(logits: torch.Tensor, target: torch.Tensor, reduction: str = "mean") -> torch.Tensor:
    """As training code writes it: z-loss counts targets that are ignored."""
    shifted = logits.view(-1, WORDS)
    loss = functional.cross_entropy(shifted, target.view(-1), reduction=reduction)
    squares = torch.logsumexp(shifted, dim=-1).pow(2)
    return loss + 1e-2 * (squares.sum() if reduction == "sum" else squares.mean())


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_a_z_loss_of_all_rows_counts_those_that_are_ignored(reduction: str) -> None:
    x, weight, bias, target = operands(torch.float64)
    loss = linear_cross_entropy(x, weight, target, bias, z_loss=1e-2, z_of_all=True, reduction=reduction)
    exact = with_z_loss(functional.linear(x, weight, bias), target, reduction)
    torch.testing.assert_close(loss, exact, rtol=1e-13, atol=0)
    expected = torch.autograd.grad(exact, (x, weight, bias))
    for _ in range(2):  # the second pass computes its gradient anew
        found = torch.autograd.grad(loss, (x, weight, bias), retain_graph=True)
        torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-13)
    nothing = torch.full_like(target, -100)
    assert linear_cross_entropy(x, weight, nothing, z_loss=1e-2, z_of_all=True).isnan()  # as torch


class Head(torch.nn.Module):
    """A language model's head, whose loss is that of the next token."""

    def __init__(self, after: Callable[..., torch.Tensor]) -> None:
        super().__init__()
        self.head = torch.nn.Linear(WIDTH, WORDS)
        self.after = after

    def forward(self, x: torch.Tensor, tokens: torch.Tensor) -> Any:
        return self.after(self.head(x), tokens)


def next_token(logits: torch.Tensor, tokens: torch.Tensor, **options: Any) -> torch.Tensor:
    shifted = logits[..., :-1, :].contiguous().view(-1, WORDS)
    return functional.cross_entropy(shifted, tokens[..., 1:].reshape(-1), **options)


def test_a_training_step_has_the_loss_and_gradients_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    placed: list[Any] = []
    watched = use_cross_entropy

    def use(*args: Any) -> Any:
        placed.extend(watched(*args))
        return placed

    monkeypatch.setattr("tautomer.runtime.torch.backend.use_cross_entropy", use)
    torch.compiler.reset()
    model, x = (
        Head(next_token),
        torch.randn(2, 9, WIDTH, generator=torch.Generator().manual_seed(2)).requires_grad_(),
    )
    tokens = torch.randint(WORDS, (2, 9), generator=torch.Generator().manual_seed(3))
    found = []
    for step in (torch.compile(model, backend="tautomer", options={"then": "aot_eager"}), model):
        loss = step(x, tokens)
        found.append([loss, *torch.autograd.grad(loss, (x, *model.parameters()))])
    assert [remark.kind for remark in placed] == ["passed"]
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


Z_LOSSES: dict[str, Callable[..., torch.Tensor]] = {
    "mean": with_z_loss,
    "sum": lambda y, t: with_z_loss(y, t, "sum"),
    "product, of logits before they are shaped": lambda y, t: (
        ((z := torch.logsumexp(y, -1)) * z * (2.0 / 100)).mean()
        + functional.cross_entropy(y.view(-1, WORDS), t.view(-1), label_smoothing=0.1)
    ),
    "with alpha": lambda y, t: torch.add(
        functional.cross_entropy(y.view(-1, WORDS), t.view(-1)), y.logsumexp(2).square().mean(), alpha=0.1
    ),
}


@pytest.mark.parametrize("name", Z_LOSSES)
def test_a_z_loss_is_computed_with_its_cross_entropy(name: str) -> None:
    generator = torch.Generator().manual_seed(4)
    x, tokens = torch.randn(2, 9, WIDTH, generator=generator), torch.arange(18).view(2, 9)
    tokens[0, :4] = -100
    graph = torch.export.export(Head(Z_LOSSES[name]), (x, tokens)).module()
    parameters = tuple(graph.parameters())
    expected = graph(x, tokens)
    gradients = torch.autograd.grad(expected, parameters)
    (remark,) = use_cross_entropy(graph, ())
    assert (
        remark.kind == "passed" and "logsumexp" not in graph.code and "cross_entropy_loss" not in graph.code
    )
    loss = graph(x, tokens)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(torch.autograd.grad(loss, parameters), gradients)


LOG_PROBABILITIES: dict[str, Callable[..., torch.Tensor]] = {
    "nll loss": lambda y, t: functional.nll_loss(functional.log_softmax(y.view(-1, WORDS), -1), t.view(-1)),
    "chosen tokens": lambda y, t: torch.log_softmax(y, 2).gather(-1, t.unsqueeze(-1)).squeeze(-1),
}


@pytest.mark.parametrize("name", LOG_PROBABILITIES)
def test_chosen_log_probabilities_need_no_logits_in_inference(name: str) -> None:
    example = torch.randn(2, 9, WIDTH), torch.arange(18).view(2, 9)
    graph = torch.export.export(Head(LOG_PROBABILITIES[name]), example).module()
    with torch.no_grad():
        expected = graph(*example)
        (remark,) = use_cross_entropy(graph, ())
        assert remark.kind == "passed" and "log_softmax" not in graph.code
        torch.testing.assert_close(graph(*example), expected)


MISSES: dict[str, tuple[Callable[..., Any], str]] = {
    "logits are returned": (lambda y, t: (next_token(y, t), y), "are read elsewhere"),
    "a soft cap": (lambda y, t: next_token(torch.tanh(y), t), "(aten.tanh.default) stands between"),
    "another type": (lambda y, t: next_token(y.double(), t), "stands between"),
    "weights of classes": (
        lambda y, t: next_token(y, t, weight=torch.ones(WORDS)),
        "its classes have weights",
    ),
    "probabilities": (
        lambda y, t: functional.cross_entropy(y.view(-1, WORDS), torch.ones(18, WORDS) / WORDS),
        "no list of indices",
    ),
    "losses by row, in training": (lambda y, t: next_token(y, t, reduction="none"), "need the logits twice"),
    "part of the vocabulary": (
        lambda y, t: functional.cross_entropy(y[0, :, :40], t[0] % 40),
        "stands between",
    ),
}


def z_of(logits: torch.Tensor) -> torch.Tensor:
    return 1e-2 * torch.logsumexp(logits, -1).square().mean()


def beside(z: Callable[[torch.Tensor, torch.Tensor], Any]) -> Callable[..., Any]:
    """A cross-entropy with something of its logits added to it."""

    def after(logits: torch.Tensor, tokens: torch.Tensor) -> Any:
        rows = logits.view(-1, WORDS)
        return functional.cross_entropy(rows, tokens.view(-1)) + z(rows, tokens.view(-1))

    return after


MISSES |= {
    "a z-loss of rows that are shifted away": (lambda y, t: next_token(y, t) + z_of(y), "takes rows that it"),
    "a z-loss that is read elsewhere": (
        lambda y, t: (functional.cross_entropy(w := y.view(-1, WORDS), t.view(-1)) + (z := z_of(w)), z),
        "of its z-loss is read elsewhere",
    ),
    "a normaliser of columns": (beside(lambda y, t: y.logsumexp(0).square().mean()), "no square of a log"),
    "a normaliser that is not squared": (beside(lambda y, t: y.logsumexp(-1).mean()), "no square of a log"),
    "a sum beside a mean": (beside(lambda y, t: y.logsumexp(-1).square().sum()), "reduced in another way"),
    "a z-loss of targets that count": (
        beside(lambda y, t: (y.logsumexp(-1).square() * (t != -100)).mean()), "read elsewhere"
    ),
    "a factor that is given": (beside(lambda y, t: z_of(y) * t.sum()), "read elsewhere"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISSES)
def test_near_misses_are_left_with_the_reason(name: str) -> None:
    after, reason = MISSES[name]
    example = torch.randn(2, 9, WIDTH), torch.zeros(2, 9, dtype=torch.int64)
    graph = torch.export.export(Head(after), example).module()
    (remark,) = use_cross_entropy(graph, ())
    assert remark.kind == "missed" and reason in remark.reason


def test_few_logits_are_left_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cross_entropy_use, "LEAST", 1 << 24)
    example = torch.randn(2, 9, WIDTH), torch.zeros(2, 9, dtype=torch.int64)
    (remark,) = use_cross_entropy(torch.export.export(Head(next_token), example).module(), ())
    assert remark.reason == "it has 900 logits: from 16777216 on it gains"
