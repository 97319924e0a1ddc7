"""Our operators inside compiled graphs on a GPU: inductor, CUDA graphs, training, dynamic sizes, autocast."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from typing import Any
from unittest import mock

import torch

from benchmarks.gpu_case import Check, Place, relative
from tautomer.codegen.torch.operators import forward, operator_of
from tautomer.runtime.torch.first_runs import sparse_trial
from tautomer.runtime.torch.ops import kernel
from tautomer.runtime.torch.ops_meaning import meaning
from tautomer.runtime.triton.first_run import SWITCH, first_run

_NUMBERS = {"softmax": (), "swiglu": (1.0,), "gelu_tanh": ()}
_OPERANDS = {"layer_norm": 2, "rms_norm": 1, "add_rms_norm": 2, "add_layer_norm": 3, "swiglu": 1}


def checks(place: Place) -> list[Check]:
    """Every way in which a graph can hold an operator."""
    found = []
    for name in ("rms_norm", "add_layer_norm", "softmax", "swiglu"):
        found.append(Check(f"{name} eager", partial(_error, name, place, None), 1e-5))
    ways: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
        "inductor": (("rms_norm", "add_layer_norm", "softmax"), {"dynamic": False}),
        "CUDA graphs": (("rms_norm",), {"mode": "reduce-overhead"}),
        "inductor with any number of rows": (("add_layer_norm",), {"dynamic": True}),
    }
    for way, (names, settings) in ways.items():
        if place.rehearsal:
            settings = {"backend": "aot_eager", "dynamic": settings.get("dynamic")}
        for name in names:
            found.append(Check(f"{name} in {way}", partial(_error, name, place, settings), 1e-5))
    found.append(Check("autocast", partial(_autocast, place), 8e-3))
    found.append(Check("rows with gaps", partial(_strided, place), 1e-5))
    found.append(Check("first run in another process", partial(_first_run, place), 0.0))
    return found


def _operator(name: str, x: torch.Tensor) -> Callable[..., Any]:
    found = kernel(operator_of(name), x)
    if found is None:
        raise RuntimeError("there is no kernel")
    return found


def _arguments(name: str, rows: int, place: Place) -> list[torch.Tensor]:
    torch.manual_seed(rows)
    kinds = ("full", *forward(operator_of(name)).program.kinds)
    return [
        torch.randn(*(() if kind == "row" else (rows,)), 96, device=place.device, requires_grad=True)
        for kind in kinds
    ]


def _error(name: str, place: Place, settings: dict[str, Any] | None) -> float:
    """Results and gradients at two numbers of rows."""
    torch._dynamo.reset()
    ours = _operator(name, torch.empty(1, 96, device=place.device))
    numbers = _NUMBERS.get(name, (0.375,))

    def function(*tensors: torch.Tensor) -> Any:
        results = ours(*(tensor * 1.0 for tensor in tensors), *numbers)
        results = results if isinstance(results, tuple) else (results,)
        return tuple(one * 2.0 for one in results)

    if settings is not None:
        function = torch.compile(function, fullgraph=True, **settings)
    worst = 0.0
    for rows in (5, 12, 5):
        given = _arguments(name, rows, place)
        wide = [one.detach().double().requires_grad_() for one in given]
        found = _with_gradients(function, given)
        exact = meaning(forward(operator_of(name)))
        expected = _with_gradients(lambda *a, exact=exact: _doubled(exact(*a, *numbers)), wide)
        worst = max(worst, relative(found, expected))
    return worst


def _doubled(results: Any) -> tuple[torch.Tensor, ...]:
    return tuple(2.0 * one for one in (results if isinstance(results, tuple) else (results,)))


def _with_gradients(function: Callable[..., Any], given: list[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    outputs = function(*given)
    weights = [torch.cos(torch.arange(one.numel(), device=one.device)).view(one.shape) for one in outputs]
    loss = sum((one * weight.to(one.dtype)).sum() for one, weight in zip(outputs, weights, strict=True))
    gradients = torch.autograd.grad(loss, given)
    return tuple(one.detach().clone() for one in (*outputs, *gradients))


def _autocast(place: Place) -> float:
    """x and a residual of different types meet in the widest."""
    scale, x = (one.detach() for one in _arguments("rms_norm", 7, place)[::-1])
    ours = _operator("add_rms_norm", x)
    with torch.autocast(place.device, torch.bfloat16):
        y, total = ours(x.bfloat16(), x, scale, 0.375)
    if y.dtype != torch.float32:
        raise RuntimeError(f"the result is {y.dtype}")
    wide = x.double()
    exact = meaning(forward(operator_of("add_rms_norm")))
    return relative((y, total), exact(x.bfloat16().double(), wide, scale.double(), 0.375))


def _strided(place: Place) -> float:
    """Rows that are every second column of a matrix, at an odd address."""
    wide = torch.randn(6, 2 * 96 + 1, device=place.device)
    x = wide[:, 1::2]
    ours = _operator("softmax", x)
    return relative(ours(x), torch.softmax(x.double(), -1))


def _first_run(place: Place) -> float:
    """Kernels of several launches, launched by a child; the answer of an earlier time does not count."""
    device = "cuda:0" if place.device == "cuda" else place.device
    with mock.patch.dict(os.environ, {SWITCH: "1"}):
        reason = first_run("a sparse map", str(time.time()), device, sparse_trial(2, "bfloat16"), off=3e-2)
    if reason:
        raise RuntimeError(reason)
    return 0.0
