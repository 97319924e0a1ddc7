"""Linear attention written as its quadratic form: what re-association makes of it.

    python -m benchmarks.linear_attention [--length 4096] [--rounds 5]

phi(q) phi(k)^T, divided by the sums of its rows, times v: one head of 64, float32, one thread, interleaved;
times are of the process. The rewritten forms are what `optimize` writes; tests check them at short lengths.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from typing import Any

import onnx_ir as ir
import onnxruntime
import torch

import tautomer

WIDTH = 64


class Quadratic(torch.nn.Module):
    """The form with scores."""

    def forward(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """Of tensors (batch, heads, length, width)."""
        scores = (torch.nn.functional.elu(q) + 1) @ (torch.nn.functional.elu(k) + 1).transpose(-2, -1)
        return (scores / (scores.sum(-1, keepdim=True) + 1e-6)) @ v


def session(model: ir.Model) -> Callable[..., Any]:
    """A model in onnxruntime, on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    proto = ir.to_proto(model).SerializeToString()
    made = onnxruntime.InferenceSession(proto, options, providers=["CPUExecutionProvider"])
    names = [each.name for each in made.get_inputs()]
    return lambda *x: made.run(None, dict(zip(names, (each.numpy() for each in x), strict=True)))


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--length", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    example = tuple(torch.randn(1, 1, chosen.length, WIDTH) for _ in range(3))
    module = Quadratic().eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exported = torch.onnx.export(module, example, dynamo=True, verbose=False)
    assert exported is not None
    source = exported.model_proto
    fast = tautomer.optimize(module, example, target="torch", verify=False).model
    ways: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
        "onnxruntime": (
            session(ir.from_proto(source)),
            session(tautomer.optimize(source, target="onnxruntime", verify=False).model),
        ),
        "torch": (module, fast),
        "inductor": (torch.compile(module), torch.compile(fast)),
    }
    print("| runtime | quadratic, ms | re-associated, ms | ratio |")
    print("| --- | --- | --- | --- |")
    for name, pair in ways.items():
        times: tuple[list[float], list[float]] = [], []
        with torch.no_grad():
            for turn in range(chosen.rounds + 1):
                for run, kept in zip(pair, times, strict=True):
                    start = time.process_time()
                    run(*example)
                    if turn:
                        kept.append(time.process_time() - start)
        slow, quick = (min(each) * 1e3 for each in times)
        print(f"| {name} | {slow:.1f} | {quick:.2f} | {slow / quick:.1f} |")


if __name__ == "__main__":
    main()
