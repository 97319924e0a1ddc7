"""Sparse linear maps in Triton's interpreter: cases of the program `interpreted.py`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.nn.functional import linear

from tautomer.codegen.triton.sparse import SparseTile
from tautomer.runtime.torch.sparse_cuda import gated, plain
from tautomer.runtime.triton.sparse import sparse_gated_linear, sparse_linear

# of the largest element: sums of some hundred numbers in another order; the interpreter cuts digits off
# where a device rounds
OFF = {"float32": 3e-6, "float16": 2.0**-10, "bfloat16": 2.0**-7}
SMALL = SparseTile(16, 8, 16)  # so that a few hundred neurons are many chunks of many turns
NEURONS, OUTPUTS, INPUTS = 37, 21, 21
YES, NO = torch.tensor(True), torch.tensor(False)
# density, or what h holds
ZEROS = {"all zero": 0.0, "one in ten": 0.1, "half": 0.5, "all not zero": 1.0}
# what a chunk, the neurons of a turn and a block are at their edges
NEURON_COUNTS = {"1": 1, "chunk - 1": 15, "chunk": 16, "chunk + 1": 17}
OUTPUT_COUNTS = {"1": 1, "block - 1": 15, "block": 16, "block + 1": 17}


def numbers(*shape: int, dtype: str = "float32", density: float = 1.0) -> torch.Tensor:
    """Random numbers, of which some are 0."""
    found = torch.randn(shape) * (torch.rand(shape) < density)
    return found.to(getattr(torch, dtype))


def off(y: torch.Tensor, exact: torch.Tensor, dtype: str) -> str:
    """Where NaN and infinities are, and how far the rest is off."""
    if y.shape != exact.shape or y.dtype != getattr(torch, dtype):
        return f"{y.dtype} {tuple(y.shape)}, not {tuple(exact.shape)}"
    special = ~exact.isfinite()
    if not torch.equal(y[special].double().nan_to_num(7.0), exact[special].nan_to_num(7.0)):
        return "NaN or infinity elsewhere"
    error = (y[~special].double() - exact[~special]).abs().max() if (~special).any() else torch.zeros(())
    size = exact[~special].abs().max() if (~special).any() else torch.ones(())
    return "" if error <= OFF[dtype] * size else f"off by {float(error / size):.1e}"


def product(
    rows: int = 1,
    neurons: int = NEURONS,
    outputs: int = OUTPUTS,
    density: float = 0.3,
    dtype: str = "float32",
    tile: SparseTile | None = SMALL,
    bias: bool = True,
    finite: torch.Tensor = YES,
    h: Callable[[torch.Tensor], Any] = lambda _: None,
    weight: Callable[[torch.Tensor, torch.Tensor], Any] = lambda w, unmet: None,
) -> str:
    """h W + b, beside float64; `h` and `weight` change what is given, `weight` knowing what is not met."""
    torch.manual_seed(rows + neurons + outputs)
    x, w = numbers(rows, neurons, dtype=dtype, density=density), numbers(neurons, outputs, dtype=dtype)
    h(x)
    b = numbers(outputs, dtype=dtype) if bias else None
    wide = None if b is None else b.double()
    clean = w.clone()
    weight(w, (x == 0).all(0))
    exact = linear(x.double(), (clean if finite else w).double().t(), wide)
    return off(sparse_linear(x, w, b, finite, tile=tile), exact, dtype)


def layer(
    rows: int = 1,
    neurons: int = NEURONS,
    inputs: int = INPUTS,
    dtype: str = "float32",
    tiles: tuple[SparseTile | None, SparseTile | None] = (SMALL, SMALL),
    bias: bool = True,
    finite: torch.Tensor = YES,
    x: Callable[[torch.Tensor], Any] = lambda _: None,
    spoil: float | None = None,
) -> str:
    """A gated layer beside float64; the rows of U and W that are not met may be spoilt."""
    torch.manual_seed(rows + neurons + inputs)
    given = numbers(rows, inputs, dtype=dtype)
    x(given)
    gate = numbers(rows, neurons, dtype=dtype, density=0.3)
    up, down = numbers(neurons, inputs, dtype=dtype), numbers(neurons, OUTPUTS, dtype=dtype)
    c, b = (numbers(neurons, dtype=dtype), numbers(OUTPUTS, dtype=dtype)) if bias else (None, None)
    wide = [None if one is None else one.double() for one in (given, gate, up, c, down, b)]
    hidden = wide[1] * linear(wide[0], wide[2], wide[3])
    exact = linear(hidden, wide[4].t(), wide[5])
    if spoil is not None:
        up[(gate == 0).all(0)] = down[(gate == 0).all(0)] = spoil
    if finite is NO:
        exact = torch.full_like(exact, torch.nan)
    return off(sparse_gated_linear(given, gate, up, c, down, b, finite, tiles=tiles), exact, dtype)


def set_to(value: float) -> Callable[[torch.Tensor], Any]:
    """Changes one number of the first row."""

    def change(h: torch.Tensor) -> None:
        h[0, 7] = value

    return change


def spoilt(w: torch.Tensor, unmet: torch.Tensor) -> None:
    """Makes NaN of what is not to be read."""
    w[unmet] = torch.nan


def operators() -> str:
    """As torch calls them: more rows than the kernels are for, other types, nothing at all."""
    for h, w in (
        (numbers(2, 3, 9), numbers(9, 5)),
        (numbers(2, 2, 9), numbers(9, 5)),
        (numbers(2, 9).double(), numbers(9, 5).double()),
        (numbers(0, 9), numbers(9, 5)),
        (numbers(3, 0), numbers(0, 5)),
        (numbers(3, 9), numbers(9, 0)),
    ):
        b = numbers(w.shape[1]).to(w.dtype)
        if not torch.allclose(plain(h, w, b, YES), linear(h, w.t(), b), atol=1e-5):
            return f"plain {tuple(h.shape)} {h.dtype}"
        x, up = numbers(*h.shape[:-1], 4).to(w.dtype), numbers(len(w), 4).to(w.dtype)
        if not torch.allclose(
            gated(x, h, up, None, w, b, YES), linear(h * linear(x, up), w.t(), b), atol=1e-5
        ):
            return f"gated {tuple(h.shape)} {h.dtype}"
    return ""


def twice() -> str:
    """The order of a sum is that of the chunks, so that the same call gives the same bits."""
    h, w = numbers(2, 40, density=0.4), numbers(40, 16)
    first, second = (sparse_linear(h, w, None, YES, tile=SMALL) for _ in range(2))
    return "" if torch.equal(first, second) else "other bits"


def cases() -> dict[str, Callable[[], str]]:
    """All of them, by name."""
    found: dict[str, Callable[[], str]] = {}
    for name, density in ZEROS.items():
        found[f"h is {name}"] = partial(product, density=density)
    found["h of 4 rows is half"] = partial(product, 4, density=0.5)
    for name, count in NEURON_COUNTS.items():
        found[f"{name} neurons"] = partial(product, 2, neurons=count, density=1.0)
        found[f"{name} neurons of a gated layer"] = partial(layer, neurons=count)
    for name, count in OUTPUT_COUNTS.items():
        found[f"{name} outputs"] = partial(product, 2, outputs=count)
        found[f"{name} inputs"] = partial(layer, inputs=count)
    for rows in (1, 4):
        found[f"a gated layer of {rows} rows"] = partial(layer, rows)
    for dtype in ("float16", "bfloat16"):
        found[f"{dtype}, the usual tile"] = partial(product, 2, 70, 300, dtype=dtype, tile=None)
        found[f"a gated layer, {dtype}"] = partial(layer, 2, dtype=dtype, tiles=(None, None), bias=False)
    found["no bias"] = partial(product, bias=False)
    found["what is not met is not read"] = partial(product, 2, weight=spoilt)
    found["what is not met is not read, gated"] = partial(layer, 2, spoil=torch.nan)
    found["weights that are not finite are all read"] = partial(product, finite=NO, weight=spoilt)
    found["weights that are not finite are all read, gated"] = partial(layer, finite=NO, spoil=torch.inf)
    for value in (torch.nan, torch.inf):
        found[f"h holds {value}"] = partial(product, 2, h=set_to(value))
        found[f"x holds {value}"] = partial(layer, x=set_to(value))
    found["h holds -0.0"] = partial(product, h=lambda h: h.masked_fill_(h == 0, -0.0), weight=spoilt)
    found["as torch calls them"], found["the same bits"] = operators, twice
    return found
