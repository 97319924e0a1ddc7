"""Every operation that has a definition, timed beside torch, inductor and onnxruntime: one thread.

    python -m benchmarks.operations [--only SwiGLU ...] [--seconds 0.4] [--write]

One size for all, float32, CPU time, all ways in turns. `--write` puts the ratios where docs/operations.md is
made from (`make docs`).
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import torch
from onnx import helper
from torch.nn import functional

from benchmarks import markdown
from benchmarks.kernel_cases import Tensor
from benchmarks.kernel_ways import Call, native, taken
from benchmarks.machine import describe
from benchmarks.timing import bound, interleaved, load, with_allocator
from tautomer.codegen.algorithms import algorithms
from tautomer.codegen.torch.operators import OPERATORS, Signature
from tautomer.codegen.trace import trace, unsupported
from tautomer.patterns.onnx_body import DOMAIN, DOMAIN_VERSION, function_of
from tautomer.patterns.operation import Definition, definitions
from tautomer.runtime.torch.ops_meaning import meaning
from tautomer.runtime.torch.ops_stock import STOCK

RESULT = Path(__file__).parent / "results" / "operations.json"
ROWS = COLUMNS = 1024
OPSET = 24
PEERS = ("torch", "inductor", "onnxruntime")
OURS, SPREAD = "ours", 2.0

# where torch has one function for it; elsewhere the formula is written in torch's operators
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "Celu": functional.celu,
    "Elu": functional.elu,
    "HardSwish": functional.hardswish,
    "LeakyRelu": functional.leaky_relu,
    "Mish": functional.mish,
    "ReduceLogSumExp": lambda x, *_: torch.logsumexp(x, -1, keepdim=True),
    "Relu": lambda x: torch.relu(x),
    "Selu": lambda x, *_: functional.selu(x),
    "Sigmoid": torch.sigmoid,
    "Softplus": functional.softplus,
    "Softsign": functional.softsign,
    "Tanh": torch.tanh,
}


def measurable(definition: Definition) -> bool:
    """Whether a definition works on rows of a matrix, and so at the one size of this table."""
    known = all(definition.kind(name) in ("row", "full") for name in definition.operands)
    images = definition.rows.startswith(("groups", "channel"))
    return known and not images and not unsupported(definition)


def own_function(definition: Definition) -> Callable[..., Any] | None:
    """What a torch user would call; None where torch has nothing for it."""
    own = (STOCK[one.name] for one in OPERATORS if one.key == definition.key and one.name in STOCK)
    return _FUNCTIONS.get(definition.key) or next(own, None)


def in_torch(definition: Definition) -> Callable[..., Any]:
    """That, or the formula in torch's operators, on x, the operands and the numbers."""
    if own := own_function(definition):
        return own
    program = trace(definition)
    return meaning(Signature(definition.op, program, program.names))


def in_onnx(definition: Definition, inputs: Mapping[str, Tensor]) -> onnx.ModelProto:
    """A model of the operation: ONNX's own operator where it has one, otherwise the function body."""
    values = {"axis": -1} if definition.rows in ("trailing", "axis") else {}
    names, constants = list(inputs), []
    if definition.rows == "folded":
        names, constants = [*names, "axes"], [helper.make_tensor("axes", onnx.TensorProto.INT64, [1], [-1])]
    attributes = {**values, **definition.attributes, **definition.parameters}
    results = list(definition.results)
    node = helper.make_node(definition.op, names, results, domain=definition.domain, **attributes)
    tensors = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, list(one.shape))
        for name, one in inputs.items()
    ]
    shape = [ROWS, 1] if definition.rows == "folded" else [ROWS, COLUMNS]
    outputs = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name in results]
    graph = helper.make_graph([node], "operation", tensors, outputs, constants)
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, DOMAIN_VERSION)]
    functions = [ir.to_proto(function_of(definition, OPSET))] if definition.domain else []
    return helper.make_model(graph, opset_imports=opsets, functions=functions, ir_version=10)


def ways(definition: Definition) -> tuple[dict[str, Call], dict[str, Callable[[], Any]], np.ndarray]:
    """WHO/HOW -> a call; WHO/HOW -> its first result; the result in double precision."""
    made = torch.Generator().manual_seed(1)
    inputs = {"x": torch.randn(ROWS, COLUMNS, generator=made) * SPREAD}
    for name in definition.operands:
        size = (COLUMNS,) if definition.kind(name) == "row" else (ROWS, COLUMNS)
        inputs[name] = torch.rand(size, generator=made) + 0.5  # a variance is positive
    tensors, numbers = tuple(inputs.values()), tuple(definition.parameters.values())
    eager = partial(in_torch(definition), *tensors, *numbers)
    torch._dynamo.reset()
    fast = partial(torch.compile(in_torch(definition), dynamic=False), *tensors, *numbers)
    outs = [torch.full((ROWS, 1 if definition.rows == "folded" else COLUMNS), torch.nan)]
    outs += [torch.empty_like(outs[0]) for _ in definition.results[1:]]
    calls: dict[str, Call] = {"inductor/": fast}
    if own_function(definition):  # our formula, operator by operator, is nobody's code
        calls["torch/"] = eager
    results: dict[str, Callable[[], Any]] = {who: partial(_first, call) for who, call in calls.items()}
    for name in ("", *algorithms(definition.key)):
        calls[f"{OURS}/{name}"] = native(definition, name, tensors, outs, ROWS, COLUMNS)
        results[f"{OURS}/{name}"] = partial(taken, outs[0])
    arrays = {name: value.numpy() for name, value in inputs.items()}
    session = load(in_onnx(definition, inputs).SerializeToString())
    calls["onnxruntime/"] = bound(session, arrays)
    results["onnxruntime/"] = lambda: session.run(None, arrays)[0]
    exact = in_torch(definition)(*(tensor.double() for tensor in tensors), *numbers)
    return calls, results, np.asarray(_one(exact))


def _one(result: Any) -> Any:
    return result[0] if isinstance(result, tuple) else result


def _first(call: Call) -> np.ndarray:
    return np.asarray(_one(call()))


def measured(definition: Definition, rounds: int, seconds: float) -> dict[str, Any]:
    """Checks and times one operation: quartiles of the peers' times in times of ours.

    Raises:
        RuntimeError: a result is wrong.
    """
    calls, results, exact = ways(definition)
    for name, call in calls.items():
        call()
        off = float(np.abs(results[name]() - exact).max() / np.abs(exact).max())
        if not off < 1e-4:  # a thousand roundings of float32: far above any way's error, far below a mistake
            raise RuntimeError(f"{definition.key} of {name} is off by {off:.0e}")
    times = interleaved(calls, rounds, least=0.005, most=seconds)
    middle = {name: statistics.median(each) for name, each in times.items()}
    best = min((name for name in times if name.startswith(OURS)), key=middle.__getitem__)
    ratios = {
        peer: statistics.quantiles([a / b for a, b in zip(times[f"{peer}/"], times[best], strict=True)], n=4)
        for peer in PEERS
        if f"{peer}/" in times
    }
    return {"microseconds": 1e6 * middle[best], **ratios}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.operations", description=__doc__)
    parser.add_argument("--only", nargs="*", default=[], metavar="KEY", help="operations, by name")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--seconds", type=float, default=0.4, help="of timing for each operation")
    parser.add_argument("--write", action="store_true", help=f"keep the ratios in {RESULT.name}")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    kept = json.loads(RESULT.read_text()) if RESULT.exists() else {"operations": {}}
    chosen = [one for one in definitions() if measurable(one) and _asked(one, options.only)]
    rows = []
    for number, definition in enumerate(chosen, 1):
        print(f"[{number}/{len(chosen)}] {definition.key}", file=sys.stderr, flush=True)
        found = measured(definition, options.rounds, options.seconds)
        kept["operations"][definition.key] = found
        cells = [definition.key, f"{found['microseconds']:.0f}"]
        shown = (markdown.ratio(found[peer]) if peer in found else "-" for peer in PEERS)
        rows.append([*cells, *shown])
    print(markdown.table(("operation", "ours, us", *PEERS), rows))
    if options.write:
        kept["facts"] = describe(("torch", "onnxruntime", "numpy"))
        kept["operations"] = {key: kept["operations"][key] for key in sorted(kept["operations"])}
        RESULT.write_text(json.dumps(kept, indent=1) + "\n")
    return 0


def _asked(definition: Definition, only: Sequence[str]) -> bool:
    return not only or definition.key in only or definition.op in only


if __name__ == "__main__":
    with_allocator("benchmarks.operations", sys.argv[1:])
    raise SystemExit(main())
