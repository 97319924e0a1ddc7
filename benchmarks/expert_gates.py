"""Gates of mixtures of experts in one kernel, beside the operators of onnxruntime, torch and inductor.

    python -m benchmarks.expert_gates [--quick] [--out benchmarks/results/expert_gates.md]

A model of the gate alone, run by onnxruntime as it is and as `optimize(target="kernels")` makes it, whatever
that gains, inputs and outputs bound; and a torch module of it, compiled by our backend with `then` as the
column says. One thread, CPU time, in turns. These are the figures of `Target.gains` and `TORCH_GATES`.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
import onnx.parser
import torch

import tautomer
from benchmarks import markdown
from benchmarks.machine import describe
from benchmarks.timing import bound, interleaved, load, with_allocator
from tautomer.patterns.expert_gate import FAMILY
from tautomer.target import KERNELS, TORCH_GATES

GATES = {
    "ExpertGate_shares": "p = Softmax (x) v, i = TopK (p, k) s = ReduceSum (v, last) w = Div (v, s)",
    "ExpertGate_probabilities": "p = Softmax (x) w, i = TopK (p, k)",
    "ExpertGate_logits": "u, i = TopK (x, k) w = Softmax (u)",
}
EXPERTS, CHOSEN, TOKENS = (8, 16, 64, 128, 256), (1, 2, 4, 8), (1, 64, 4096)
TEXT = """# Gates of mixtures of experts

How many times faster one kernel is inside onnxruntime than its own operators, float32, one thread, CPU time:
the median over {rounds} rounds, and the quartiles. Below 1, in bold, a gate is kept.

| gate | experts | chosen | ours, us, of {most} tokens | {tokens} |
| --- | --- | --- | --- | {rules} |
{rows}

## In torch

The gate of Mixtral, compiled by `torch.compile(backend="tautomer")` and by the same without our kernels.
What torch.compile does for a call, some tens of microseconds, is in both.

| experts | chosen | then | {tokens} |
| --- | --- | --- | {rules} |
{compiled}

{facts} Load of the machine: {before:.1f} before, {after:.1f} after."""


def model(op: str, tokens: int, experts: int, k: int) -> onnx.ModelProto:
    """A model of a gate."""
    outputs = f"float[{tokens}, {k}] w, int64[{tokens}, {k}] i"
    held = f"int64[1] k = {{{k}}}, int64[1] last = {{-1}}"
    graph = f"g (float[{tokens}, {experts}] x) => ({outputs}) <{held}> {{ {GATES[op]} }}"
    return onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": 20]> {graph}')


def times(op: str, tokens: int, experts: int, k: int, folder: Path, rounds: int) -> dict[str, list[float]]:
    """Seconds of each round, ours and onnxruntime's."""
    source, path = model(op, tokens, experts, k), folder / "ours.onnx"
    done = tautomer.optimize(source, target=replace(KERNELS, gains={FAMILY: ()}), verify=False)
    made = [node.op_type for node in done.model.graph]
    assert made == [op], f"{op} became {made}"
    done.save(path, force=True)
    given = {"x": np.random.default_rng(0).standard_normal((tokens, experts)).astype(np.float32)}
    ours = tautomer.session(path, intra_op_num_threads=1, inter_op_num_threads=1, log_severity_level=4)
    ways = {"ours": bound(ours, given), "stock": bound(load(source.SerializeToString()), given)}
    return interleaved(ways, rounds, least=0.01, most=3.0)


def _rows(rounds: int, quick: bool) -> Iterator[list[str]]:
    with tempfile.TemporaryDirectory() as folder:
        for op in GATES:
            for experts in EXPERTS:
                for k in (2, 8) if quick or op != "ExpertGate_shares" else CHOSEN:
                    cells = []
                    for tokens in TOKENS:
                        seconds = times(op, tokens, experts, k, Path(folder), rounds)
                        ratios = [b / a for a, b in zip(seconds["ours"], seconds["stock"], strict=True)]
                        cells.append(markdown.ratio(statistics.quantiles(ratios, n=4)))
                    own = f"{1e6 * statistics.median(seconds['ours']):.1f}"
                    print(op, experts, k, own, *cells, sep="  ", file=sys.stderr, flush=True)
                    yield [op, str(experts), str(k), own, *cells]


class _Gate(torch.nn.Module):
    """The gate of Mixtral."""

    def __init__(self, k: int) -> None:
        super().__init__()
        self.k = k

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        values, experts = torch.topk(torch.softmax(x, -1), self.k, -1)
        return values / values.sum(-1, keepdim=True), experts


@torch.no_grad()
def compiled(then: str, tokens: int, experts: int, k: int, rounds: int) -> list[float]:
    """The quartiles of the ratio in torch."""
    torch._dynamo.reset()
    x, calls = torch.randn(tokens, experts), {}
    for name, kernels in (("ours", True), ("theirs", False)):
        options = {"then": then, "kernels": kernels}
        calls[name] = partial(torch.compile(_Gate(k), backend="tautomer", options=options), x)
    with patch.dict(TORCH_GATES[{"eager": "torch"}.get(then, then)], {FAMILY: ()}):
        for call in calls.values():
            call()
    seconds = interleaved(calls, rounds, least=0.01, most=3.0)
    return statistics.quantiles([b / a for a, b in zip(seconds["ours"], seconds["theirs"], strict=True)], n=4)


def _compiled_rows(rounds: int) -> Iterator[list[str]]:
    for experts, k in ((8, 2), (64, 8), (256, 8)):
        for then in ("eager", "inductor"):
            cells = [markdown.ratio(compiled(then, tokens, experts, k, rounds)) for tokens in TOKENS]
            print("torch", experts, k, then, *cells, sep="  ", file=sys.stderr, flush=True)
            yield [str(experts), str(k), then, *cells]


def main(arguments: list[str] | None = None) -> int:
    """Prints the table, and writes it when asked to."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.expert_gates", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--quick", action="store_true", help="fewer sizes and rounds")
    parser.add_argument("--out", type=Path, help="also write the table here")
    options = parser.parse_args(arguments)
    with_allocator("benchmarks.expert_gates", sys.argv[1:] if arguments is None else arguments)
    torch.set_num_threads(1)
    before, rounds = os.getloadavg()[0], 5 if options.quick else 15
    text = TEXT.format(
        rounds=rounds,
        most=TOKENS[-1],
        tokens=" | ".join(f"{tokens} tokens" for tokens in TOKENS),
        rules=" | ".join(["---"] * len(TOKENS)),
        rows="\n".join(f"| {' | '.join(cells)} |" for cells in _rows(rounds, options.quick)),
        compiled="\n".join(f"| {' | '.join(cells)} |" for cells in _compiled_rows(rounds)),
        facts=describe(["onnxruntime", "tautomer", "torch", "numpy"]),
        before=before,
        after=os.getloadavg()[0],
    )
    markdown.publish(text, options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
