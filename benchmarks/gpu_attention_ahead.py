"""Ways to cut attention kernels up on a GPU, each a check; and all kernels compiled ahead of their checks.

    python -m benchmarks.gpu_attention_ahead shipped|tried INDEX COUNT

compiles a part of them; there are as many such processes as there are processors.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any

from benchmarks.gpu_attention_inputs import dtype_of, reference, tensors
from benchmarks.gpu_attention_tilings import FORWARD, KEYS, QUERIES, SOFTMAX
from benchmarks.gpu_case import Place, relative
from tautomer.codegen.triton.attention_tiles import Tiling
from tautomer.patterns.attention.form import AttentionForm, Causal
from tautomer.runtime.torch import attention_cuda
from tautomer.runtime.triton.attention import attend
from tautomer.runtime.triton.attention_gradients import gradient_of_queries, gradients_of_keys
from tautomer.runtime.triton.attention_launch import Operands
from tautomer.runtime.triton.grid import compile_only


@dataclass(frozen=True)
class Trial:
    """One kernel on a size that is no multiple of its tile."""

    way: str
    head: int
    causal: Causal
    tiling: Tiling

    def name(self) -> str:
        return f"{self.way} d={self.head} {self.causal or 'full'} {label(self.tiling)}"

    @property
    def limit(self) -> float:
        # tanh is timed to see what it would gain; its error is printed, and asked nothing
        return 10.0 if self.tiling.sigmoid == "tanh" else 8e-3

    def error(self, place: Place, compiled: bool = False) -> float:
        """The relative error; 0 where the kernel is only compiled."""
        length = place.size(1000, 37)
        given = tensors(place, place.size(2, 1), place.size(3, 2), length, length, self.head)
        score = "softmax" if self.way == "softmax" else "sigmoid"
        form = AttentionForm(score, dtype_of(place), causal=self.causal)
        operands = Operands(scale=self.head**-0.5, bias=-math.log(length))
        if self.way in ("forward", "softmax"):
            found: Any = attend(form, self.tiling, operands, given["q"], given["k"], given["v"])[:1]
        elif self.way == "queries":
            found = (gradient_of_queries(form, self.tiling, operands, given),)
        else:
            found = gradients_of_keys(form, self.tiling, operands, given)
        if compiled:
            return 0.0
        result, of = reference(form, operands, given)
        expected = {"forward": (result,), "softmax": (result,), "queries": of[:1], "keys": of[1:]}
        return relative(found, expected[self.way])


WAYS = {"forward": FORWARD, "softmax": SOFTMAX, "queries": QUERIES, "keys": KEYS}


def trials(ways: Mapping[str, Mapping[int, Sequence[Tiling]]]) -> list[Trial]:
    return [
        Trial(way, head, causal, tiling)
        for head in (128, 64)
        for way in ways
        for tiling in ways[way][head]
        for causal in ("", "end")
    ]


def label(tiling: Tiling) -> str:
    """A tiling in words."""
    registers = f" r{tiling.registers}" if tiling.registers else ""
    cut = f"{tiling.rows}x{tiling.keys} w{tiling.warps} s{tiling.stages}{registers}"
    return f"{cut} {tiling.loads} {tiling.sigmoid}"


def tilings(way: str, head: int, place: Place) -> tuple[Tiling, ...]:
    """What is tried; in a rehearsal a small one that the interpreter can run."""
    if place.rehearsal:
        return (Tiling(16, 32, 4, 2),)
    compile_all("tried")
    return WAYS[way][head]


@dataclass(frozen=True)
class _Shipped:
    """All kernels of a form as they are shipped."""

    form: AttentionForm
    head: int

    def error(self, place: Place, compiled: bool = True) -> float:
        """Launches them on small tensors."""
        given = tensors(place, 1, 2, 64, 64, self.head, self.form.dtype)
        q, k, v = given["q"], given["k"], given["v"]
        rest = (q, k, v, None, None, None, None, "", 1.0, 0.0, 1.0, 0, 0)
        y, statistic = attention_cuda.forward(self.form, *rest)
        attention_cuda.backward(self.form, given["dy"], y, statistic, *rest)
        return 0.0


def _shipped() -> list[_Shipped]:
    return [
        _Shipped(AttentionForm(score, "bfloat16", causal=causal), head)
        for score in ("sigmoid", "softmax")
        for head in (128, 64)
        for causal in ("", "end")
    ] + [_Shipped(AttentionForm(score, "float32"), 64) for score in ("sigmoid", "softmax")]


@cache
def compile_all(what: str) -> None:
    """Compiles what is "shipped" or "tried" in as many processes as there are processors."""
    count = len(os.sched_getaffinity(0))
    command = [sys.executable, "-m", "benchmarks.gpu_attention_ahead"]
    running = [
        subprocess.Popen([*command, what, str(index), str(count)], stderr=subprocess.DEVNULL)
        for index in range(count)
    ]
    end = time.monotonic() + 90
    for one in running:
        try:
            one.wait(max(end - time.monotonic(), 0.1))
        except subprocess.TimeoutExpired:
            one.kill()


def _compile(what: str, index: int, count: int) -> None:
    """Compiles a part; what does not compile says so again when it is run."""
    place = Place("cuda", rehearsal=False)
    work: Sequence[Trial | _Shipped] = trials(WAYS) if what == "tried" else _shipped()
    for trial in work[index::count]:
        with suppress(Exception), compile_only():
            trial.error(place, compiled=True)


if __name__ == "__main__":
    _compile(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
