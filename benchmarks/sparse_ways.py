"""Products with zeros in their left factor, gated layers, a step of a language model: who computes them."""

from __future__ import annotations

import itertools
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import nn
from torch.nn import functional

import tautomer
from benchmarks.timing import load
from tautomer.runtime.torch.sparse_library import attach_sparse, sparse_operator

MASKS = 24  # in turns, so that no cache has what one of them leaves
SELDOM = {0.5: 0.0, 0.1: 1.2816, 0.03: 1.8808}  # a normal number is larger in that share
OURS, DENSE = "ours", "own dense"
Ways = dict[str, Callable[[], Any]]


def cycled(call: Callable[[Any], Any], given: Iterable[Any]) -> Callable[[], Any]:
    """A call with the next of its arguments each time."""
    turns = itertools.cycle(given)
    return lambda: call(next(turns))


def down(neurons: int, outputs: int, rows: int, density: float, dtype: torch.dtype) -> Ways:
    """The product of rows with so many numbers that are not zero and a matrix."""
    name = str(dtype).removeprefix("torch.")
    if reason := attach_sparse(name):
        raise RuntimeError(reason)
    torch.manual_seed(0)
    weight = (torch.randn(outputs, neurons) / neurons**0.5).to(dtype)
    turned, run = weight.t().contiguous(), sparse_operator(gated=False)
    zeros = [torch.rand(rows, neurons) >= density for _ in range(MASKS)]
    given = [torch.rand(rows, neurons).add(0.1).masked_fill(mask, 0.0).to(dtype) for mask in zeros]
    yes, no = torch.tensor(True), torch.tensor(False)
    ways: Ways = {
        OURS: cycled(lambda h: run(h, turned, None, yes), given),
        DENSE: cycled(lambda h: run(h, turned, None, no), given),
        "F.linear": cycled(lambda h: functional.linear(h, weight), given),
    }
    if dtype == torch.float32:
        session = load(_product(turned.numpy(), rows))
        arrays = [{"h": one.numpy()} for one in given]
        ways["onnxruntime"] = cycled(lambda feed: session.run(None, feed), arrays)
    exact = given[0].double() @ weight.double().t()
    found = run(given[0], turned, None, yes).double()
    if not (found - exact).abs().max() <= exact.abs().max() * 1e-2:
        raise RuntimeError("the product is wrong")
    return ways


def _product(weight: np.ndarray[Any, Any], rows: int) -> bytes:
    neurons, outputs = weight.shape
    graph = onnx.parser.parse_graph(
        f"m (float[{rows},{neurons}] h) => (float[{rows},{outputs}] y) {{ y = MatMul(h, w) }}"
    )
    graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
    return bytes(model.SerializeToString())


class ReGLU(nn.Module):
    """max(x G + b, 0) * (x U) W, whose bias decides how many are zero."""

    def __init__(self, width: int, neurons: int, density: float) -> None:
        super().__init__()
        self.gate, self.up = nn.Linear(width, neurons), nn.Linear(width, neurons, bias=False)
        self.down = nn.Linear(neurons, width, bias=False)
        with torch.no_grad():
            self.gate.bias.copy_(-SELDOM[density] * self.gate.weight.norm(dim=1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.down(functional.relu(self.gate(x)) * self.up(x))
        return result


def layer(width: int, neurons: int, density: float) -> Ways:
    """A gated layer at batch 1."""
    torch.manual_seed(0)
    model = ReGLU(width, neurons, density).eval()
    given = [(torch.randn(1, width),) for _ in range(MASKS)]
    turned, run = model.down.weight.t().contiguous(), sparse_operator(gated=True)

    def parts(x: torch.Tensor, finite: torch.Tensor) -> Any:
        return run(x, functional.relu(model.gate(x)), model.up.weight, None, turned, None, finite)

    yes, no = torch.tensor(True), torch.tensor(False)
    ways = everybody(model, given)
    ways["ours, by hand"] = cycled(lambda one: parts(*one, yes), given)
    ways[DENSE] = cycled(lambda one: parts(*one, no), given)
    return ways


def step() -> Ways:
    """A step of the language model in examples/models_relu.py."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
    from models_relu import ReluLM, step_of  # type: ignore[import-not-found]

    torch.manual_seed(0)
    model = ReluLM().eval()
    given = [step_of(model, 128) for _ in range(4)]
    tokens = torch.randint(0, 8448, (MASKS, 1, 1))
    return everybody(model, [(token, *given[i % 4][1:]) for i, token in enumerate(tokens)])


def everybody(model: nn.Module, given: list[tuple[torch.Tensor, ...]]) -> Ways:
    """A module in torch, in its compiler, in onnxruntime, and in both with ours."""
    compiled = {name: torch.compile(model, backend=name) for name in ("inductor", "tautomer")}
    # compiled by value: the first call decides nothing about later ones
    ways: Ways = {
        "ours, torch.compile": cycled(lambda one: compiled["tautomer"](*one), given),
        "torch": cycled(lambda one: model(*one), given),
        "inductor": cycled(lambda one: compiled["inductor"](*one), given),
    }
    names = [f"input_{i}" for i in range(len(given[0]))]
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before, after = Path(folder) / "model.onnx", Path(folder) / "fast.onnx"
        torch.onnx.export(model, given[0], before, input_names=names, dynamo=True, verbose=False)
        tautomer.optimize(before, target="kernels", verify=False).save(after)
        ours, theirs = tautomer.session(after, intra_op_num_threads=1), load(before)
    feeds = [dict(zip(names, (one.numpy() for one in each), strict=True)) for each in given]
    ways["ours, onnxruntime"] = cycled(partial(ours.run, None), feeds)
    ways["onnxruntime"] = cycled(partial(theirs.run, None), feeds)
    results = {"ours": ours.run(None, feeds[0])[0], "torch.compile": compiled["tautomer"](*given[0])}
    exact = model(*given[0])
    exact = (exact[0] if isinstance(exact, tuple) else exact).numpy()
    for name, found in results.items():
        first = found[0] if isinstance(found, tuple) else found
        if not np.abs(np.asarray(first) - exact).max() <= 1e-3 * np.abs(exact).max():
            raise RuntimeError(f"{name}: the result is wrong")
    return ways
