"""A converted model that is kept centred follows the trajectory of the model that it was made of."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from convert_cases import Stream, distance, family, tokens
from torch import nn

from tautomer.errors import InputError
from tautomer.torch import Conversion, convert

STEPS = 20
# Float64, 20 steps: rounding of the two spellings, which training amplifies a thousandfold at most.
SAME = 1e-10

Make = Callable[[Any], torch.optim.Optimizer]
EXACT: dict[str, Make] = {
    "SGD": lambda parameters: torch.optim.SGD(parameters, lr=0.05),
    "SGD, momentum and decay": lambda parameters: torch.optim.SGD(
        parameters, lr=0.02, momentum=0.9, nesterov=True, weight_decay=0.1
    ),
    "Adam": lambda parameters: torch.optim.Adam(parameters, lr=1e-3),
    "AdamW": lambda parameters: torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.1),
}


def _losses(model: nn.Module, optimizer: torch.optim.Optimizer, clip: float | None = None) -> torch.Tensor:
    model.train()
    losses = []
    for step in range(STEPS):
        torch.manual_seed(step)  # of dropout
        x = tokens(step)
        loss = nn.functional.cross_entropy(model(x).flatten(0, 1), x.roll(-1, 1).flatten())
        optimizer.zero_grad()
        loss.backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        losses.append(loss.detach())
    return torch.stack(losses)


@cache
def _made(tied: bool, dropout: float) -> tuple[nn.Module, nn.Module, Conversion]:
    original = Stream(tied=tied, dropout=dropout).double()
    converted = copy.deepcopy(original)
    return original, converted, convert(converted, example_inputs=tokens())


def _pair(tied: bool = False, dropout: float = 0.0) -> tuple[nn.Module, nn.Module, Conversion]:
    original, converted, report = _made(tied, dropout)
    return copy.deepcopy(original), copy.deepcopy(converted), report


def _distance_of_weights(original: nn.Module, converted: nn.Module, report: Conversion) -> float:
    """Between the converted weights and the original ones with their means taken out."""
    state = {key: value.clone() for key, value in original.state_dict().items()}
    for centring in report.centrings:
        centring.apply(state[centring.name])
    return max(distance(value, converted.state_dict()[key]) for key, value in state.items())


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("tied", [False, True])
def test_the_trajectory_is_the_original_s(name: str, tied: bool) -> None:
    original, converted, report = _pair(tied=tied)
    optimizer = EXACT[name](converted.parameters())
    report.keep_centred(converted, optimizer)
    expected = _losses(original, EXACT[name](original.parameters()))
    got = _losses(converted, optimizer)
    assert expected[-1] < 0.99 * expected[0]  # it learns something
    assert distance(expected, got) < SAME
    assert _distance_of_weights(original, converted, report) < SAME


def test_clipped_gradients_change_nothing() -> None:
    original, converted, report = _pair()
    optimizer = EXACT["AdamW"](converted.parameters())
    report.keep_centred(converted, optimizer)
    expected = _losses(original, EXACT["AdamW"](original.parameters()), clip=0.5)
    assert distance(expected, _losses(converted, optimizer, clip=0.5)) < SAME


def test_with_dropout_the_trajectory_is_another_but_evaluation_stays_right() -> None:
    original, converted, report = _pair(dropout=0.3)
    assert [converted.get_submodule(name).centre_in_training for name in report.converted] == [
        False,
        True,
        True,
    ]
    optimizer = EXACT["AdamW"](converted.parameters())
    with pytest.raises(InputError, match="there is dropout in the stream"):
        report.keep_centred(converted, optimizer)
    report.keep_centred(converted, optimizer, exact=False)
    _losses(converted, optimizer)
    original.load_state_dict(converted.state_dict())
    with torch.no_grad():
        assert distance(original.eval()(tokens(99)), converted.eval()(tokens(99))) < SAME


def test_without_it_the_trajectory_is_another() -> None:
    original, converted, _ = _pair()
    expected = _losses(original, EXACT["AdamW"](original.parameters()))
    assert distance(expected, _losses(converted, EXACT["AdamW"](converted.parameters()))) > 1e-6


def test_a_gpt2_follows() -> None:
    model, inputs = family("gpt2")
    original = model.double()
    for module in original.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    converted = copy.deepcopy(original)
    report = convert(converted, example_inputs=inputs)
    losses = []
    for each in (original, converted):
        optimizer = torch.optim.AdamW(each.train().parameters(), lr=1e-3)
        if each is converted:
            report.keep_centred(each, optimizer)
        found = []
        for step in range(STEPS):
            torch.manual_seed(step)
            loss = each(**inputs, labels=inputs["input_ids"]).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            found.append(loss.detach())
        losses.append(torch.stack(found))
    assert distance(*losses) < SAME


def test_gradients_accumulate_over_several_batches() -> None:
    original, converted, report = _pair()
    for model in (original, converted):
        optimizer = EXACT["AdamW"](model.parameters())
        if model is converted:
            report.keep_centred(model, optimizer)
        for _ in range(3):
            for seed in (1, 2):
                model(tokens(seed)).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
    assert _distance_of_weights(original, converted, report) < SAME


def test_frozen_weights_are_left_alone() -> None:
    original, converted, report = _pair()
    for model in (original, converted):
        model.blocks[0].down.requires_grad_(False)
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = EXACT["SGD"](trained)
        if model is converted:
            report.keep_centred(model, optimizer)
        model(tokens()).square().mean().backward()
        optimizer.step()
    assert _distance_of_weights(original, converted, report) < SAME


def test_the_hooks_can_be_removed() -> None:
    _, converted, report = _pair()
    optimizer = EXACT["SGD"](converted.parameters())
    report.keep_centred(converted, optimizer).remove()
    converted(tokens()).square().mean().backward()
    optimizer.step()
    weight = converted.blocks[0].down.weight.detach()
    assert float(weight.mean(0).abs().max()) > 1e-8


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda parameters: torch.optim.Adam(parameters, weight_decay=0.1),
        lambda parameters: torch.optim.RMSprop(parameters, weight_decay=0.1),
        lambda parameters: torch.optim.Adafactor(parameters),
    ],
)
def test_optimizers_that_look_at_weights_are_refused(optimizer: Make) -> None:
    _, converted, report = _pair()
    with pytest.raises(InputError, match="not follow the original's trajectory"):
        report.keep_centred(converted, optimizer(converted.parameters()))


def test_what_is_refused_goes_astray() -> None:
    original, converted, report = _pair()
    made = [torch.optim.Adam(each.parameters(), lr=1e-3, weight_decay=0.1) for each in (original, converted)]
    report.keep_centred(converted, made[1], exact=False)
    assert distance(_losses(original, made[0]), _losses(converted, made[1])) > 1e-6
