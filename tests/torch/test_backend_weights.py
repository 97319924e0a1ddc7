"""Values of weights: computed once in inference, in every training step, and never those of other weights."""

from __future__ import annotations

import copy
import gc
import weakref
from collections.abc import Callable

import pytest
import torch
from backend_models import Block, Stream, close, compiled, perturb, tokens
from torch import nn

from tautomer.runtime.torch import backend, prologue
from tautomer.runtime.torch.prologue import Prologue, refresh

pytestmark = pytest.mark.usefixtures("fresh_dynamo")


@pytest.fixture
def prologues(monkeypatch: pytest.MonkeyPatch) -> list[Prologue]:
    """Those that are made during a test; how often each computes is counted in `runs`."""
    made: list[Prologue] = []
    take = backend.take_weight_values

    def noted(*args: object) -> object:
        taken = take(*args)  # type: ignore[arg-type]
        if taken is not None:
            made.append(taken[0])
        return taken

    monkeypatch.setattr(backend, "take_weight_values", noted)
    return made


def _doubles(weight: nn.Parameter) -> None:
    with torch.no_grad():
        weight.mul_(2.0)


def _replaces_storage(weight: nn.Parameter) -> None:
    weight.data = weight.data * 2.0


def _steps(weight: nn.Parameter) -> None:
    weight.grad = weight.detach().clone()
    torch.optim.SGD([weight], lr=0.5).step()
    weight.grad = None


def _steps_fused(weight: nn.Parameter) -> None:
    weight.grad = weight.detach().clone()
    torch.optim.AdamW([weight], lr=0.5, fused=True).step()
    weight.grad = None


def _steps_foreach(weight: nn.Parameter) -> None:
    weight.grad = weight.detach().clone()
    torch.optim.AdamW([weight], lr=0.5, foreach=True).step()
    weight.grad = None


def _steps_compiled(weight: nn.Parameter) -> None:
    weight.grad = weight.detach().clone()
    optimizer = torch.optim.AdamW([weight], lr=0.5, fused=True)
    torch.compile(lambda: optimizer.step(), backend="aot_eager")()
    weight.grad = None


def _compiled_update(weight: nn.Parameter) -> None:
    with torch.no_grad():
        torch.compile(lambda w: w.mul_(2.0), backend="aot_eager")(weight)


UPDATES = [
    _doubles,
    _replaces_storage,
    _steps,
    _steps_foreach,
    _steps_fused,
    _steps_compiled,
    _compiled_update,
]


@pytest.mark.parametrize("update", UPDATES)
def test_an_update_after_compilation_is_seen(
    update: Callable[[nn.Parameter], None], prologues: list[Prologue]
) -> None:
    model = Stream()
    fast = compiled(model)
    with torch.no_grad():
        close(fast(tokens()), model(tokens()))
    before = model(tokens())
    update(model.blocks[0].down.weight)
    with torch.no_grad():
        close(fast(tokens()), model(tokens()))
        assert not torch.allclose(model(tokens()), before, rtol=1e-2)
    assert len(prologues) == 1


def test_values_are_computed_once(prologues: list[Prologue], monkeypatch: pytest.MonkeyPatch) -> None:
    model = Stream()
    fast = compiled(model)
    with torch.no_grad():
        fast(tokens())
        (made,) = prologues
        monkeypatch.setattr(made, "graph", None)  # computing again would fail
        close(fast(tokens(seed=1)), model(tokens(seed=1)))


def test_data_behind_the_back_of_torch_needs_a_refresh() -> None:
    model = Stream()
    fast = compiled(model)
    with torch.no_grad():
        fast(tokens())
        model.blocks[0].down.weight.data.mul_(2.0)
        assert not torch.allclose(fast(tokens()), model(tokens()), rtol=1e-3)
        refresh()
        close(fast(tokens()), model(tokens()))


def test_load_state_dict_and_changes_of_type_are_seen() -> None:
    model = Stream()
    fast = compiled(model)
    with torch.no_grad():
        close(fast(tokens()), model(tokens()))
        model.load_state_dict({k: v * 1.5 for k, v in model.state_dict().items()})
        close(fast(tokens()), model(tokens()))
        model.bfloat16()
        fast(tokens())
        model.float()  # the old graph is used again, with weights that were rounded
        close(fast(tokens()), model(tokens()))


def test_one_compiled_layer_serves_several(prologues: list[Prologue]) -> None:
    layers = nn.Sequential(*(perturb(nn.Sequential(Block(), nn.LayerNorm(16))) for _ in range(3)))
    for i, layer in enumerate(layers):
        with torch.no_grad():
            layer[0].down.weight.mul_(i + 1.0)
    expected_layers = copy.deepcopy(layers)
    for layer in layers:
        layer.compile(backend=backend.tautomer, options={"then": "aot_eager", "strict": True})
    x = torch.randn(4, 16)
    with torch.no_grad():
        for _ in range(2):
            close(layers(x), expected_layers(x))
        layers[1][0].up.weight.add_(0.25)
        expected_layers[1][0].up.weight.add_(0.25)
        close(layers(x), expected_layers(x))
    assert len(prologues) <= 1


def test_evaluation_training_evaluation() -> None:
    model = Stream()
    expected = copy.deepcopy(model)
    fast = compiled(model)
    optimizers = [torch.optim.SGD(each.parameters(), lr=0.1) for each in (model, expected)]
    for _ in range(2):
        with torch.no_grad():
            close(fast(tokens()), expected(tokens()), 256)
        for run, optimizer in zip((fast, expected), optimizers, strict=True):
            run(tokens()).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()


def test_frozen_weights_are_kept_and_trained_ones_are_not(prologues: list[Prologue]) -> None:
    model = Stream()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("blocks.1" in name)
    expected = copy.deepcopy(model)
    compiled(model)(tokens()).sum().backward()
    expected(tokens()).sum().backward()
    (made,) = prologues
    assert 0 < len(made.positions) < len(list(model.parameters()))
    for a, b in zip(model.parameters(), expected.parameters(), strict=True):
        if b.grad is None:
            assert a.grad is None
        else:
            assert a.grad is not None
            close(a.grad, b.grad, 256)


def test_training_takes_nothing_out(prologues: list[Prologue]) -> None:
    compiled(Stream())(tokens()).sum().backward()
    assert not prologues


def test_tied_weights_stay_tied() -> None:
    model = Stream()
    model.head.weight = model.embed.weight
    fast = compiled(model)
    with torch.no_grad():
        close(fast(tokens()), model(tokens()))
        model.embed.weight.add_(0.1)
        close(fast(tokens()), model(tokens()))
    assert model.head.weight is model.embed.weight


def test_inference_mode_in_every_order() -> None:
    model = Stream()
    fast = compiled(model)
    with torch.inference_mode():
        inside = fast(tokens())
    with torch.no_grad():
        close(fast(tokens()), inside)
        x = torch.nn.Parameter(torch.ones(1))
    (fast(tokens()).sum() * x).backward()
    with torch.inference_mode():
        made_inside = Stream()  # its parameters have no versions
        close(compiled(made_inside)(tokens()), made_inside(tokens()))
        made_inside.embed.weight.mul_(2.0)
        close(compiled(made_inside)(tokens()), made_inside(tokens()))


def test_weights_that_the_graph_writes_to_are_left_alone() -> None:
    model = Stream()

    def moving(x: torch.Tensor) -> torch.Tensor:
        model.blocks[0].down.weight.mul_(0.5)
        return model(x)

    saved = copy.deepcopy(model.state_dict())
    fast, results = compiled(moving), []
    with torch.no_grad():
        for run in (moving, fast):
            model.load_state_dict(saved)
            results.append([run(tokens()) for _ in range(3)])
    for a, b in zip(*results, strict=True):
        close(b, a)


def test_nothing_keeps_a_model_alive(prologues: list[Prologue]) -> None:
    model = Stream()
    fast = compiled(model)
    with torch.no_grad():
        fast(tokens())
    (made,) = prologues
    gone = weakref.ref(model.blocks[0].down.weight)
    assert made._kept
    del fast, model
    torch._dynamo.reset()
    gc.collect()
    assert gone() is None
    assert not made._kept
    del made
    prologues.clear()
    gc.collect()
    assert not [each for each in prologue._alive if each._kept]
