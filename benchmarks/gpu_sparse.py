"""Sparse linear maps of a step of decoding on a GPU, beside dense ones: checks and cases."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch.nn.functional import linear

from benchmarks.gpu_case import OURS, Call, Case, Check, Place, relative
from tautomer.codegen.torch.sparse import NAMES
from tautomer.runtime.torch.sparse_cuda import attach_sparse_cuda, gated, plain
from tautomer.runtime.torch.sparse_library import sparse_operator

LIMITS = {"float32": 2e-6, "float16": 1e-3, "bfloat16": 8e-3}
_LARGE, _SMALL = (11008, 4096), (3072, 768)  # neurons, and channels before and behind them
_OUT_OF_CACHE = 100 << 20  # bytes of weights that are taken in turns
Tensors = dict[str, torch.Tensor]


def checks(place: Place) -> list[Check]:
    """Both operators in every type, at odd sizes, with nothing and with everything met."""
    found = []
    sizes = ((77, 45),) if place.rehearsal else (_LARGE, _SMALL, (1000, 333))
    for dtype, limit in LIMITS.items():
        for size in sizes:
            for rows, density in ((1, 0.1), (4, 0.1), (2, 0.0), (1, 1.0))[: 2 if place.rehearsal else 4]:
                for name in NAMES:
                    error = partial(_error, name, size, rows, density, dtype, place)
                    label = f"{name} {dtype} {size[0]}x{size[1]} {rows} rows, {density:g} not zero"
                    found.append(Check(label, error, limit))
    for name in NAMES if not place.rehearsal else ():
        found.append(Check(f"{name} in inductor", partial(_compiled_error, name, place), LIMITS["bfloat16"]))
    return found


def given(
    size: tuple[int, int], rows: int, density: float, dtype: str, place: Place, seed: int = 0
) -> Tensors:
    """What the operators take; a linear map's weight as torch keeps it, too."""
    torch.manual_seed(seed)
    neurons, channels = size

    def numbers(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, device=place.device, dtype=torch.float32).to(getattr(torch, dtype))

    h = numbers(rows, neurons) * (torch.rand(rows, neurons, device=place.device) < density)
    found = {"h": h, "x": numbers(rows, channels), "up": numbers(neurons, channels), "c": numbers(neurons)}
    found |= {"rows": numbers(neurons, channels), "b": numbers(channels)}
    found["finite"] = torch.tensor(True, device=place.device)
    return found | {"weight": found["rows"].t().contiguous()}


def sparse(name: str, one: Tensors, finite: torch.Tensor | None = None) -> torch.Tensor:
    """By our kernels."""
    finite = one["finite"] if finite is None else finite
    if name == NAMES[0]:
        return plain(one["h"], one["rows"], one["b"], finite)
    return gated(one["x"], one["h"], one["up"], one["c"], one["rows"], one["b"], finite)


def dense(name: str, one: Tensors) -> torch.Tensor:
    """By linear maps of torch."""
    h = one["h"] if name == NAMES[0] else one["h"] * linear(one["x"], one["up"], one["c"])
    return linear(h, one["weight"], one["b"])


def _error(name: str, size: tuple[int, int], rows: int, density: float, dtype: str, place: Place) -> float:
    one = given(size, rows, density, dtype, place)
    wide = {key: tensor.double() for key, tensor in one.items()}
    return relative(sparse(name, one), dense(name, wide))


def _compiled_error(name: str, place: Place) -> float:
    """The operator in a graph of inductor, which launches its kernels itself."""
    one = given(_SMALL, 2, 0.1, "bfloat16", place)
    reason = attach_sparse_cuda(one["h"])
    if reason:
        raise RuntimeError(reason)
    operator = sparse_operator(gated=name != NAMES[0])
    head = [one["h"]] if name == NAMES[0] else [one["x"], one["h"], one["up"], one["c"]]

    def function(*tensors: torch.Tensor) -> torch.Tensor:
        return operator(*tensors) * 2.0

    torch._dynamo.reset()
    with torch.no_grad():
        compiled = torch.compile(function, fullgraph=True, dynamic=False)
        y = compiled(*head, one["rows"], one["b"], one["finite"])
    return relative(y, 2.0 * dense(name, {key: tensor.double() for key, tensor in one.items()}))


def cases(place: Place) -> list[Case]:
    """By how many numbers are not zero, and by rows."""
    found = [_case(NAMES[0], _LARGE, 1, density, place) for density in (1.0, 0.5, 0.1, 0.03)]
    found += [_case(NAMES[0], _LARGE, rows, 0.1, place) for rows in (2, 4)]
    found += [_case(NAMES[0], _SMALL, 1, density, place) for density in (0.5, 0.1)]
    found += [_case(NAMES[1], _LARGE, 1, density, place) for density in (0.5, 0.1, 0.03)]
    found.append(_case(NAMES[1], _LARGE, 4, 0.1, place))
    return found[1::8] if place.rehearsal else found


def _case(name: str, size: tuple[int, int], rows: int, density: float, place: Place) -> Case:
    neurons, channels = (place.size(one, 64) for one in size)
    weights = 1 if name == NAMES[0] else 2
    sets = 1 if place.rehearsal else max(2, -(-_OUT_OF_CACHE // (2 * weights * neurons * channels)))
    met = 1.0 - (1.0 - density) ** rows
    return Case(
        name.removesuffix("_v1"),
        f"{rows} x {neurons} x {channels}, {density:g} not zero",
        partial(_peers, name, (neurons, channels), rows, density, sets, place),
        sets=sets,
        bytes=int(2 * met * weights * neurons * channels),
    )


def _peers(
    name: str, size: tuple[int, int], rows: int, density: float, sets: int, place: Place
) -> Mapping[str, Callable[[], Call]]:
    all_given = [given(size, rows, density, "bfloat16", place, seed) for seed in range(sets)]
    no = torch.tensor(False, device=place.device)

    def inductor() -> Call:
        torch._dynamo.reset()
        compiled = torch.compile(partial(dense, name), fullgraph=True, dynamic=False)
        return lambda index: compiled(all_given[index])

    return {
        OURS: lambda: lambda index: sparse(name, all_given[index]),
        "F.linear": lambda: lambda index: dense(name, all_given[index]),
        "inductor": inductor,
        "ours, nothing left out": lambda: lambda index: sparse(name, all_given[index], no),
    }
