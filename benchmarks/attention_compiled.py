"""Attention under torch.compile: our backend against inductor alone.

    python -m benchmarks.attention_compiled [--lengths 1024 2048] [--gains sigmoid ...] [--out FILE]

A module of 12 heads of 64 channels, attention alone between its inputs q, k, v and its result, is compiled by
both; one thread, CPU time, in turns, medians of the ratios within a round and the quartiles. With `--gains`,
instead, our operator against the formula for some numbers of keys, both compiled by inductor: what
`Target.attention` says of it.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention, softplus

from benchmarks import markdown
from benchmarks.machine import describe
from benchmarks.timing import interleaved, with_allocator
from tautomer.patterns.attention.form import AttentionForm
from tautomer.patterns.attention.operators import form_text
from tautomer.runtime.torch.attention_library import attach
from tautomer.runtime.torch.attention_rules import overload
from tautomer.target import OF_THE_RUNTIME

HEADS, DEPTH, POWER, FREE = 12, 64, 3, 3
KEYS = (64, 128, 256, 1024)
TEXT = """# Attention under torch.compile

One thread, CPU time; {heads} heads of {depth} channels. The time of inductor alone in times of ours: the
median over rounds, and the quartiles. Below 1, in bold, inductor alone is faster.

{table}

{facts} Load of the machine: {before:.1f} before, {after:.1f} after."""
Weights = Callable[[torch.Tensor], torch.Tensor]


def reweighted(s: torch.Tensor) -> torch.Tensor:
    """LSSAR: causal."""
    keys = torch.arange(1.0, s.shape[-1] + 1.0)[:, None]
    a = shares(softplus(s) * torch.ones(s.shape[-2:]).tril())
    return shares(torch.relu(keys * a - torch.where(keys > FREE, 1.0, 0.0)) ** POWER)


def shares(x: torch.Tensor) -> torch.Tensor:
    """Parts of the sum of a row."""
    return x / x.sum(-1, keepdim=True)


def plus_one(s: torch.Tensor) -> torch.Tensor:
    """Softmax with one more key, of score 0."""
    top = s.amax(-1, keepdim=True).clamp_min(0.0)
    e = torch.exp(s - top)
    return e / (torch.exp(-top) + e.sum(-1, keepdim=True))


WEIGHTS: dict[str, Weights] = {
    "softmax": lambda s: torch.softmax(s, -1),
    "softmax1": plus_one,
    "sigmoid": lambda s: torch.sigmoid(s - math.log(s.shape[-1])),
    "relu": lambda s: torch.relu(s) / s.shape[-1],
    "relu2": lambda s: torch.relu(s).square() / s.shape[-1],
    "softplus": lambda s: shares(softplus(s)),
    "softplus_reweighted": reweighted,
}


class Attention(torch.nn.Module):
    """Attention as people write it.

    Args:
        score: a score function.
    """

    def __init__(self, score: str) -> None:
        super().__init__()
        self.weights = WEIGHTS[score]

    def forward(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """[batch, heads, tokens, channels] of each."""
        return self.weights(q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])) @ v


def ratio(calls: dict[str, Callable[[], Any]], rounds: int = 7, seconds: float = 8.0) -> str:
    """The time of "inductor" in times of "ours"."""
    found = interleaved(calls, rounds, most=seconds)
    ratios = [b / a for a, b in zip(found["ours"], found["inductor"], strict=True)]
    return markdown.ratio(statistics.quantiles(ratios, n=4, method="inclusive"))


def modules(lengths: list[int]) -> str:
    """Sigmoid attention by both backends."""
    rows = []
    for dtype in (torch.float32, torch.bfloat16):
        for n in lengths:
            torch.compiler.reset()
            given = [torch.randn(1, HEADS, n, DEPTH).to(dtype) for _ in range(3)]
            module = Attention("sigmoid").eval()
            ways = {"ours": "tautomer", "inductor": "inductor"}
            programs = {way: torch.compile(module, backend=name) for way, name in ways.items()}
            calls = {way: partial(run, *given) for way, run in programs.items()}
            name = str(dtype).removeprefix("torch.")
            rows.append([str(n), name, ratio(calls)])
            print(*rows[-1], file=sys.stderr, flush=True)
    return markdown.table(["N", "type", "sigmoid"], rows)


def gain(score: str, n: int) -> str:
    """Of one score function, float32."""
    torch.compiler.reset()
    given = [torch.randn(1, HEADS, n, DEPTH) for _ in range(3)]
    last = score == "softplus_reweighted"
    form = AttentionForm(
        "softmax" if score == OF_THE_RUNTIME else score,
        causal="end" if last else "",
        power=POWER if last else 0,
    )
    reason = attach(form)
    if reason:
        raise SystemExit(reason)
    bias = -math.log(n) if score == "sigmoid" else 0.0
    rest = (form_text(form), DEPTH**-0.5, bias, 1.0, 0, FREE if last else 0)

    def ours(q: Any, k: Any, v: Any) -> Any:
        return overload()(q, k, v, None, None, None, None, *rest)

    formula: Any = scaled_dot_product_attention if score == OF_THE_RUNTIME else Attention(score)
    programs = {"ours": ours, "inductor": formula}
    compiled = {way: torch.compile(run, dynamic=False) for way, run in programs.items()}
    return ratio({way: partial(run, *given) for way, run in compiled.items()})


def gains(scores: list[str]) -> str:
    """Of score functions, by the number of keys."""
    rows = []
    for score in scores:
        rows.append([score, *(gain(score, n) for n in KEYS)])
        print(*rows[-1], sep="  ", file=sys.stderr, flush=True)
    return markdown.table(["score function", *(f"{n} keys" for n in KEYS)], rows)


def main(arguments: list[str] | None = None) -> int:
    """Prints a table, and writes it when asked to."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.attention_compiled", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--lengths", type=int, nargs="+", default=[1024, 2048], help="of the sequences")
    parser.add_argument(
        "--gains", nargs="+", choices=[*WEIGHTS, OF_THE_RUNTIME], help="our operator at some numbers of keys"
    )
    parser.add_argument("--out", type=Path, help="also write the table here")
    options = parser.parse_args(arguments)
    with_allocator("benchmarks.attention_compiled", sys.argv[1:] if arguments is None else arguments)
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    torch.manual_seed(0)
    before = os.getloadavg()[0]
    text = TEXT.format(
        heads=HEADS,
        depth=DEPTH,
        table=gains(options.gains) if options.gains else modules(options.lengths),
        facts=describe(["tautomer", "torch"]),
        before=before,
        after=os.getloadavg()[0],
    )
    markdown.publish(text, options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
