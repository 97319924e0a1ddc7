"""Our operators in torch beside torch's own and inductor's code: one thread.

    python -m benchmarks.torch_ops [--quick] [--only rms_norm] [--dtype bfloat16] [--out FILE]

CPU time, all ways in turns, medians of the ratios within a round. Training is the operator and its gradient
by all tensors. What torch.compile adds to a call is in ours and in inductor's time.
"""

from __future__ import annotations

import argparse
import os
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.machine import describe
from benchmarks.timing import interleaved, with_allocator
from tautomer.codegen.torch.operators import OPERATORS, forward, operator_of
from tautomer.patterns.operation import ROW_OPERANDS
from tautomer.runtime.torch.ops import load_kernels
from tautomer.runtime.torch.ops_rules import overload
from tautomer.runtime.torch.ops_stock import STOCK, stock

OURS = "ours, compiled"
PEERS = ("eager", "inductor", "inductor, rewritten", "ours, eager")
NORMS = ("layer_norm", "rms_norm", "add_layer_norm", "add_rms_norm")
ROWS = ((64, 768), (1024, 768), (4096, 1024))
LOGITS = ((1024, 128), (1024, 1024), (64, 32000))
ELEMENTS = ((64, 3072), (1024, 3072))
TEXT = """# Operators of ours in torch

{dtype}, one thread, CPU time; each column is a peer's time in times of ours, median and quartiles over
{rounds} rounds. Below 1, in bold, the peer is faster. Ours is our operator called by code that inductor
compiled, as it is in a model; `ours, eager` is the same one called from Python. `inductor, rewritten` is the
activation spelled as x sigmoid(2u), which inductor can fuse with what is around it. Training is forward and
backward together.

{table}

{facts} Load of the machine: {before:.1f} before, {after:.1f} after."""

Call = Callable[[], Any]


@dataclass(frozen=True)
class Case:
    """An operator at a size, forward or in training."""

    name: str
    shape: tuple[int, int]
    training: bool
    dtype: str = "float32"


def sizes(name: str) -> Sequence[tuple[int, int]]:
    """The shapes at which an operator is timed."""
    if name in NORMS:
        return ROWS
    return LOGITS if "softmax" in name else ELEMENTS


def arguments(case: Case) -> list[Any]:
    """Tensors and numbers."""
    torch.manual_seed(0)
    operator = operator_of(case.name)
    made: list[Any] = []
    for name in ("x", *forward(operator).program.operands):
        shape = case.shape[-1:] if name in ROW_OPERANDS else case.shape
        kind = getattr(torch, case.dtype)
        made.append(torch.randn(shape).to(kind).requires_grad_(case.training))
    return made + [operator.definition.parameters[name] for name in forward(operator).program.parameters]


def by_sigmoid(x: Any) -> Any:
    """tanh-GELU as x sigmoid(2u)."""
    return x * torch.sigmoid(x * (1.5957691216057308 + 0.07135481627260025 * x * x))


REWRITTEN: dict[str, Callable[..., Any]] = {
    "gelu_tanh": by_sigmoid,
    "geglu_tanh": lambda x, gate: by_sigmoid(x) * gate,
}


def ways(case: Case) -> dict[str, Call]:
    """What is timed; compiled functions are made anew, so that each has one shape."""
    torch._dynamo.reset()
    ours = overload(forward(operator_of(case.name)))
    functions: dict[str, Callable[..., Any]] = {
        "eager": stock(case.name),
        "inductor": torch.compile(stock(case.name), dynamic=False, fullgraph=True),
        "ours, eager": ours,
        OURS: torch.compile(lambda *a: ours(*a), dynamic=False, fullgraph=True),
    }
    if case.name in REWRITTEN:
        functions["inductor, rewritten"] = torch.compile(REWRITTEN[case.name], dynamic=False, fullgraph=True)
    return {name: called(case, function) for name, function in functions.items()}


def called(case: Case, function: Callable[..., Any]) -> Call:
    """A call of a function on the case's arguments, in training with its gradients."""
    given = arguments(case)
    tensors = [one for one in given if isinstance(one, torch.Tensor)]
    if not case.training:
        return partial(function, *given)
    torch.manual_seed(1)
    outputs = 2 if case.name.startswith("add_") else 1
    kind = getattr(torch, case.dtype)
    seeds = [torch.randn(case.shape).to(kind) for _ in range(outputs)]
    return lambda: torch.autograd.grad(_tuple(function(*given)), tensors, seeds)


def check(case: Case, calls: dict[str, Call]) -> None:
    """Refuses to time an operator of ours that is not right, in double precision."""
    wide = Case(case.name, case.shape, case.training, "float64")
    far = 1e-3 if case.dtype == "float32" else 0.02
    for a, b in zip(_tuple(calls[OURS]()), _tuple(called(wide, stock(case.name))()), strict=True):
        off = (a.double() - b).abs().max()
        if not off <= far * b.abs().max():
            raise SystemExit(f"{case}: ours is off by {off}")


def _tuple(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def row(case: Case, rounds: int) -> str:
    """A line of the table."""
    calls = ways(case)
    check(case, calls)
    seconds = interleaved(calls, rounds, least=0.01, most=12)
    cells = []
    for peer in PEERS:
        if peer not in seconds:
            cells.append("-")
            continue
        ratios = [theirs / own for theirs, own in zip(seconds[peer], seconds[OURS], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        shown = f"**{middle:.2f}**" if middle < 1 else f"{middle:.2f}"
        cells.append(f"{shown} ({low:.2f}-{high:.2f})")
    own = statistics.median(seconds[OURS]) * 1e6
    kind = "training" if case.training else "forward"
    return f"| {case.name} | {case.shape[0]} x {case.shape[1]} | {kind} | {own:.1f} | {' | '.join(cells)} |"


def main() -> None:
    """Times all cases and writes the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="few rounds")
    parser.add_argument("--only", nargs="*", default=[], help="operators")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rounds = 7 if options.quick else 15
    torch.set_num_threads(1)
    names = options.only or [one.name for one in OPERATORS if one.name in STOCK]
    load_kernels(names, [options.dtype])
    lines = [
        f"| operator | size | | ours, us | {' | '.join(PEERS)} |",
        f"| --- | --- | --- | --- | {' | '.join(['---'] * len(PEERS))} |",
    ]
    before = os.getloadavg()[0]
    for name in names:
        for shape in sizes(name):
            for training in (False, True):
                lines.append(row(Case(name, shape, training, options.dtype), rounds))
                print(lines[-1], flush=True)
    text = TEXT.format(
        dtype=options.dtype.capitalize(),
        rounds=rounds,
        table="\n".join(lines),
        facts=describe(["torch", "numpy"]),
        before=before,
        after=os.getloadavg()[0],
    )
    if options.out:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    import sys

    with_allocator("benchmarks.torch_ops", sys.argv[1:])
    main()
