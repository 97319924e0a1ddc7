"""Kernels over rows and elements on a GPU: checks of all operators; cases of norms, softmax, activations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch

from benchmarks.gpu_case import OURS, Call, Case, Check, Place, relative
from tautomer.codegen.torch.operators import OPERATORS, Signature, backward, forward, operator_of
from tautomer.codegen.triton.configuration import Configuration, configuration
from tautomer.runtime.torch.ops_meaning import meaning
from tautomer.runtime.torch.ops_stock import stock
from tautomer.runtime.triton.launch import run

# how far the norm of the error may be off: a rounding of the results, and for float32 of the sums
LIMITS = {"float32": 2e-6, "float16": 1e-3, "bfloat16": 8e-3}
_SHAPES = {
    "bfloat16": ((67, 768), (9, 4099), (5, 8192)),
    "float32": ((5, 37), (67, 768), (0, 768)),
    "float16": ((2, 3, 1024), (3, 1)),
}
_LONG = ((3, 16384), (5, 32768), (2, 70001), (3, 1 << 17))
_LONG_ROWS = ("softmax", "log_softmax", "rms_norm", "add_layer_norm")
_NUMBER = 0.375
_NORMS = {
    "rms_norm": (768, 2048, 4096, 8192, 16384),
    "layer_norm": (768, 4096, 16384),
    "add_rms_norm": (768, 2048, 4096, 8192, 16384),
    "add_layer_norm": (768, 4096, 16384),
}
_GRADIENTS = {"rms_norm": (768, 4096), "layer_norm": (768, 4096, 8192), "add_rms_norm": (4096,)}


def inputs(
    signature: Signature, shape: tuple[int, ...], dtype: str, device: str, seed: int
) -> list[torch.Tensor]:
    """Random tensors of an operator; rows of several scales, a scale and bias of their own type."""
    torch.manual_seed(seed)
    kind = getattr(torch, dtype)
    found = []
    for of in ("full", *signature.program.kinds):
        size = shape[-1:] if of == "row" else shape
        found.append(torch.randn(size, device=device).to(kind))
    return found


def numbers(signature: Signature) -> list[float]:
    """The parameters: none is the default."""
    return [_NUMBER for _ in signature.program.parameters]


def checks(place: Place) -> list[Check]:
    """Every operator, forward and backward."""
    found = []
    for operator in OPERATORS:
        for signature in (forward(operator), backward(operator)):
            for dtype, shapes in _SHAPES.items():
                if operator.name in _LONG_ROWS and dtype == "bfloat16":
                    shapes += _LONG
                for shape in ((5, 37),) if place.rehearsal else shapes:
                    name = f"{signature.name} {dtype} {'x'.join(map(str, shape))}"
                    columns = shape[-1] if signature.program.rows else 1
                    if configuration(signature.program, columns, 4 if dtype == "float32" else 2) is None:
                        continue
                    error = partial(error_of, signature, shape, dtype, place)
                    found.append(Check(name, error, LIMITS[dtype]))
    for name in ("softmax", "layer_norm", "add_rms_norm"):
        signature = forward(operator_of(name))
        looped = Configuration(2, 16, 1, "loops")
        error = partial(error_of, signature, (5, 37), "float32", place, looped)
        found.append(Check(f"{signature.name} float32 5x37 block by block", error, LIMITS["float32"]))
    return found


def error_of(
    signature: Signature,
    shape: tuple[int, ...],
    dtype: str,
    place: Place,
    chosen: Configuration | None = None,
) -> float:
    """How far a kernel is off in float64's eyes."""
    tensors = inputs(signature, shape, dtype, place.device, seed=1)
    out = run(signature.program, tensors, numbers(signature), chosen=chosen)
    expected = meaning(signature)(*(one.double() for one in tensors), *numbers(signature))
    return relative(out, expected if isinstance(expected, tuple) else (expected,))


def cases(place: Place) -> list[Case]:
    """The sizes that bars are set for, in bfloat16."""
    found = []
    elements = place.size(1 << 26, 1 << 8)
    for name, sizes in _NORMS.items():
        for columns in sizes:
            found.append(
                row_case(name, elements, place.size(columns, 48), place, "90 %, 1.5x eager, inductor")
            )
    for name, sizes in _GRADIENTS.items():
        for columns in sizes:
            found.append(row_case(name, 2 * elements, place.size(columns, 48), place, "", gradient=True))
    for name in ("gelu_tanh", "swiglu", "gelu"):
        found.append(row_case(name, elements, place.size(4096, 64), place, ""))
    return found


def softmax_cases(place: Place) -> list[Case]:
    """From rows that fit into registers to rows that fit nowhere."""
    found = []
    for columns in (1024, 4096, 16384, 32768, 65536, 131072, 262144):
        bar = "90 %" if columns <= 65536 else "85 %"
        elements = max(place.size(1 << 26, 1 << 8), place.size(columns, 64) * place.size(528, 2))
        found.append(row_case("softmax", elements, place.size(columns, 64), place, bar))
    for columns in (32768, 131072):
        elements = max(place.size(1 << 26, 1 << 8), place.size(columns, 64) * place.size(528, 2))
        found.append(row_case("log_softmax", elements, place.size(columns, 64), place, ""))
    for columns in (65536, 262144):
        few = place.size(16 * columns, 128)
        found.append(row_case("softmax", few, place.size(columns, 64), place, "few rows"))
    return found


def row_case(
    name: str, elements: int, columns: int, place: Place, bar: str, *, gradient: bool = False
) -> Case:
    """An operator or its gradient beside eager torch and inductor, on about so many elements of bfloat16."""
    operator = operator_of(name)
    signature = (backward if gradient else forward)(operator)
    rows = max(1, elements // columns)
    full = 1 + len(signature.program.of_kind("full"))
    written = len(signature.program.names) - len(signature.program.totals)
    size = 2 * rows * columns
    sets = 2 if full * size >= 100 << 20 else min(8, -(-(100 << 20) // (full * size)))
    return Case(
        f"{name}{' backward' if gradient else ''}",
        f"{rows} x {columns}",
        partial(_peers, name, signature, (rows, columns), sets, place, gradient),
        sets=1 if place.rehearsal else sets,
        bytes=(full + written) * size,
        graph=not gradient,  # autograd goes back on the streams of the forward pass
        bar=bar,
    )


def _peers(
    name: str, signature: Signature, shape: tuple[int, int], sets: int, place: Place, gradient: bool
) -> Mapping[str, Callable[[], Call]]:
    given = [inputs(signature, shape, "bfloat16", place.device, seed) for seed in range(sets)]
    values = numbers(signature)

    def ours() -> Call:
        return lambda index: run(signature.program, given[index], values)

    if gradient:
        return {OURS: ours, **_backward_peers(name, signature, given, values)}
    function = stock(name)

    def eager() -> Call:
        return lambda index: function(*given[index], *values)

    def inductor() -> Call:
        torch._dynamo.reset()
        compiled = torch.compile(function, dynamic=False, fullgraph=True)
        return lambda index: compiled(*given[index], *values)

    return {OURS: ours, "eager": eager, "inductor": inductor}


def _backward_peers(
    name: str, signature: Signature, given: list[list[torch.Tensor]], values: list[float]
) -> Mapping[str, Callable[[], Call]]:
    """The gradients of torch's own operator, from tensors that its forward pass has kept."""
    program = forward(operator_of(name)).program

    def gradients(function: Callable[..., Any]) -> Call:
        graphs = []
        for tensors in given:
            by_name = dict(zip(("x", *signature.program.operands), tensors, strict=True))
            leaves = [by_name["x"]]
            for one, kind in zip(program.operands, program.kinds, strict=True):
                leaves.append(by_name.get(one, by_name["x" if kind == "full" else "scale"]))
            leaves = [one.detach().clone().requires_grad_() for one in leaves]
            outputs = function(*leaves, *values)
            seeds = [by_name[one] for one in ("gradient", "sum_gradient") if one in by_name]
            graphs.append((outputs if isinstance(outputs, tuple) else (outputs,), leaves, seeds))
        return lambda index: torch.autograd.grad(
            graphs[index][0], graphs[index][1], graphs[index][2], retain_graph=True
        )

    def inductor() -> Call:
        torch._dynamo.reset()
        return gradients(torch.compile(stock(name), dynamic=False, fullgraph=True))

    return {"eager": lambda: gradients(stock(name)), "inductor": inductor}
