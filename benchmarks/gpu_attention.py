"""Attention kernels on a GPU: checks of all forms and of every way to cut them up, and their times.

Each way is timed beside the others and beside torch's flash attention and cuDNN's; the first of a line is
the fastest. Before anything runs all kernels are compiled at once, in as many processes as there
are processors.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import torch
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.gpu_attention_forms import form_checks
from benchmarks.gpu_attention_tilings import FORWARD, KEYS, QUERIES, SOFTMAX
from benchmarks.gpu_case import OURS, Call, Case, Check, Place, relative
from tautomer.codegen.triton_attention_tiles import Tiling
from tautomer.patterns.attention_form import AttentionForm
from tautomer.runtime.torch import attention_cuda
from tautomer.runtime.torch.attention import score_attention
from tautomer.runtime.triton.attention import attend
from tautomer.runtime.triton.attention_gradients import gradient_of_queries, gradients, gradients_of_keys
from tautomer.runtime.triton.attention_launch import Operands
from tautomer.runtime.triton.grid import compile_only

_TOKENS = 16384
_WIDTH = 2048  # of all heads together
_LENGTHS = (16384, 4096)
_STORED = 2048  # beside scores that are stored: of longer ones they take too much memory, and time
_SHIPPED = {"sigmoid": (16384, 4096, 2048, 8192), "softmax": (1024, 4096, 2048, 16384)}


def checks(place: Place) -> list[Check]:
    """Forms with masks, as they are shipped."""
    return form_checks(place)


def tiling_checks(place: Place) -> list[Check]:
    """Every way to cut a kernel up."""
    ways = {way: {head: tilings(way, head, place) for head in (128, 64)} for way in _WAYS}
    return [Check(trial.name(), partial(trial.error, place), trial.limit) for trial in _trials(ways)]


def cases(place: Place) -> list[Case]:
    """What is shipped, forward and backward, beside torch's attention, by head dimension and length."""
    found, stored = [], []
    for score, lengths in _SHIPPED.items():
        for length in lengths:
            for head in (128, 64):
                for causal in ("", "end"):
                    size = _Size(place, head, length, causal, score)
                    barred = score == "sigmoid" and not causal
                    found.append(size.case(score, size.shipped, 4, _BAR[head] if barred else ""))
                    bar = "1.1x flash" if barred else ""
                    found.append(size.case(f"{score} backward", size.shipped_backward, 10, bar))
                    if length == _STORED and (score == "sigmoid" or bool(causal) == (head == 128)):
                        stored.append(size.stored_case())
    for head, causal in ((64, ""), (128, "end")):
        stored.append(_Size(place, head, _STORED, causal, "relu").stored_case())
    for score in _SHIPPED:
        size = _Size(place, 64, 4096, "", score, "float32")
        stored.append(size.case(f"{score} of float32", size.shipped, 4))
        stored.append(size.case(f"{score} of float32 backward", size.shipped_backward, 10))
    if not place.rehearsal:
        _compile_all("shipped")
    return [*found[:16], _one_query(place), *stored, *found[16:]]


def tiling_cases(place: Place) -> list[Case]:
    """Every way to cut a kernel up."""
    found = []
    for head in (128, 64):
        sizes = [_Size(place, head, length, causal) for length in _LENGTHS for causal in ("", "end")]
        for size in sizes:
            found.append(size.case("sigmoid", size.forward, 4))
            found.append(size.case("backward", size.backward, 10))
        for size in sizes[:2]:
            found.append(size.case("dq alone", size.of_queries, 6))
            found.append(size.case("dk, dv alone", size.of_keys, 8))
            found.append(size.case("softmax", size.softmax, 4))
    return found


def _one_query(place: Place) -> Case:
    """A query for each of a batch of sequences, against a long cache of grouped heads."""
    batch, heads, groups = place.size(8, 1), place.size(32, 2), place.size(8, 1)
    columns, head = place.size(16384, 65), 128

    def makers() -> Mapping[str, Callable[[], Call]]:
        queries = tensors(place, batch, heads, 1, 1, head)["q"]
        sets = [tensors(place, batch, groups, 1, columns, head) for _ in range(2)]

        def ours(score: str) -> Call:
            return lambda i: score_attention(queries, sets[i]["k"], sets[i]["v"], score, bias=-9.0)

        def peer(i: int) -> Any:
            k, v = sets[i]["k"], sets[i]["v"]
            return functional.scaled_dot_product_attention(queries, k, v, enable_gqa=True)

        calls = {"ours": ours("softmax"), "sigmoid": ours("sigmoid"), "torch": peer}
        return {name: partial(_same, call) for name, call in calls.items()}

    size = 2 * batch * groups * columns * head * place.size(2, 4)
    return Case("one query", f"M{columns} d{head} in groups", makers, sets=2, bytes=size)


_BAR = {128: "1.17x flash, 515 TFLOP/s", 64: "400 TFLOP/s"}


@dataclass(frozen=True)
class _Trial:
    """One kernel on a size that is no multiple of its tile."""

    way: str
    head: int
    causal: str
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


_WAYS = {"forward": FORWARD, "softmax": SOFTMAX, "queries": QUERIES, "keys": KEYS}


def _trials(ways: Mapping[str, Mapping[int, Sequence[Tiling]]]) -> list[_Trial]:
    return [
        _Trial(way, head, causal, tiling)
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
    _compile_all("tried")
    return _WAYS[way][head]


@dataclass(frozen=True)
class _Size:
    """Inputs of one size, and the calls that are timed on them."""

    place: Place
    head: int
    length: int
    causal: str
    score: str = "sigmoid"
    dtype: str = "bfloat16"

    def case(
        self, name: str, prepare: Callable[[], Mapping[str, Call]], products: int, bar: str = ""
    ) -> Case:
        """A case; products: twice the products of an N x N matrix with a head."""
        pairs = self.length**2 / (2 if self.causal else 1)
        flops = products * pairs * _WIDTH * _TOKENS / self.length
        size = f"d{self.head} N{self.length} {self.causal or 'full'}"
        makers = partial(_makers, prepare)
        return Case(name, size, makers, sets=1, flops=flops, graph=False, bar=bar)

    @property
    def form(self) -> AttentionForm:
        """What is computed."""
        return AttentionForm(self.score, self.kind, causal=self.causal)

    @property
    def kind(self) -> str:
        """What is stored."""
        return dtype_of(self.place) if self.place.rehearsal else self.dtype

    def stored_case(self) -> Case:
        """Beside the same as users write it."""
        return self.case(f"{self.score}, written out", self.beside_stored, 4)

    def tensors(self) -> dict[str, torch.Tensor]:
        """Random q, k, v and dy, all heads of a token beside each other in memory."""
        length = self.place.size(self.length, 33)
        heads, batch = self.place.size(_WIDTH // self.head, 2), self.place.size(_TOKENS // self.length, 1)
        return tensors(self.place, batch, heads, length, length, self.head, self.kind)

    def operands(self) -> Operands:
        """The scale and bias of the paper."""
        return Operands(scale=self.head**-0.5, bias=-math.log(self.place.size(self.length, 33)))

    def shipped(self) -> Mapping[str, Call]:
        given = self.tensors()
        q, k, v = given["q"], given["k"], given["v"]
        bias, causal = self.operands().bias, self.causal

        def ours(_: int) -> Any:
            return score_attention(q, k, v, self.score, bias=bias, causal=causal)

        return {OURS: ours, **self.peers(given)}

    def beside_stored(self) -> Mapping[str, Call]:
        given = self.tensors()
        q, k, v = given["q"], given["k"], given["v"]
        return {OURS: self.shipped()[OURS], "inductor": self.stored(q, k, v)}

    def stored(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> Call:
        """The same as users write it, compiled by torch: the scores are stored."""
        bias, length = self.operands().bias, q.shape[2]
        later = torch.ones(length, length, dtype=torch.bool, device=q.device).triu(1) if self.causal else None

        def eager(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
            scores = q @ k.transpose(-2, -1) * self.head**-0.5 + bias
            scores = scores if later is None else scores.masked_fill(later, -math.inf)
            return (scores.softmax(-1) if self.score == "softmax" else getattr(scores, self.score)()) @ v

        compiled = eager if self.place.rehearsal else torch.compile(eager, dynamic=False)
        return lambda _: compiled(q, k, v)

    def shipped_backward(self) -> Mapping[str, Call]:
        given = self.tensors()
        wide = [given[name].detach().requires_grad_() for name in ("q", "k", "v")]
        result = score_attention(*wide, self.score, bias=self.operands().bias, causal=self.causal)

        def ours(_: int) -> Any:
            return torch.autograd.grad(result, wide, given["dy"], retain_graph=True)

        return {OURS: ours, **self.backward_peers(given)}

    def forward(self) -> Mapping[str, Call]:
        given = self.tensors()
        q, k, v = given["q"], given["k"], given["v"]
        found: dict[str, Call] = {}
        for tiling in tilings("forward", self.head, self.place):
            found[label(tiling)] = lambda _, t=tiling: attend(self.form, t, self.operands(), q, k, v)
        return found | self.peers(given)

    def softmax(self) -> Mapping[str, Call]:
        given, form = self.tensors(), replace(self.form, score="softmax")
        q, k, v = given["q"], given["k"], given["v"]
        found: dict[str, Call] = {}
        for tiling in tilings("softmax", self.head, self.place):
            found[label(tiling)] = lambda _, t=tiling: attend(form, t, self.operands(), q, k, v)
        return found | self.peers(given)

    def peers(self, given: Mapping[str, torch.Tensor]) -> dict[str, Call]:
        """torch's softmax attention on the same sizes."""
        q, k, v = given["q"], given["k"], given["v"]
        causal = bool(self.causal)

        def run(backend: SDPBackend) -> Call:
            def call(_: int) -> Any:
                with sdpa_kernel(backend):
                    return functional.scaled_dot_product_attention(q, k, v, is_causal=causal)

            return call

        return {name: run(backend) for name, backend in self.backends.items()}

    @property
    def backends(self) -> dict[str, SDPBackend]:
        """What torch has for the type."""
        if self.dtype == "float32":
            return {"torch": SDPBackend.EFFICIENT_ATTENTION}
        return {"flash": SDPBackend.FLASH_ATTENTION, "cudnn": SDPBackend.CUDNN_ATTENTION}

    def backward(self) -> Mapping[str, Call]:
        given, form, operands = self.tensors(), self.form, self.operands()
        four = [given[name] for name in ("q", "k", "v", "dy")]
        found: dict[str, Call] = {}
        for queries in tilings("queries", self.head, self.place)[:2]:
            for keys in tilings("keys", self.head, self.place)[:2]:
                chosen = {"queries": queries, "keys": keys}
                found[f"{label(queries)} + {label(keys)}"] = lambda _, t=chosen: gradients(
                    form, t, operands, *four, None, None
                )
        return found | self.backward_peers(given)

    def of_queries(self) -> Mapping[str, Call]:
        given, form, operands = self.tensors(), self.form, self.operands()
        return {
            label(tiling): lambda _, t=tiling: gradient_of_queries(form, t, operands, given)
            for tiling in tilings("queries", self.head, self.place)
        }

    def of_keys(self) -> Mapping[str, Call]:
        given, form, operands = self.tensors(), self.form, self.operands()
        return {
            label(tiling): lambda _, t=tiling: gradients_of_keys(form, t, operands, given)
            for tiling in tilings("keys", self.head, self.place)
        }

    def backward_peers(self, given: Mapping[str, torch.Tensor]) -> dict[str, Call]:
        """The gradient of torch's softmax attention on the same sizes, from a result that is there."""
        wide = {name: tensor.detach().requires_grad_(name != "dy") for name, tensor in given.items()}
        inputs, causal = [wide[name] for name in ("q", "k", "v")], bool(self.causal)

        def run(backend: SDPBackend) -> Call:
            results: list[torch.Tensor] = []

            def call(_: int) -> Any:
                if not results:
                    with sdpa_kernel(backend):
                        results.append(functional.scaled_dot_product_attention(*inputs, is_causal=causal))
                return torch.autograd.grad(results[0], inputs, wide["dy"], retain_graph=True)

            return call

        return {name: run(backend) for name, backend in self.backends.items()}


def _makers(prepare: Callable[[], Mapping[str, Call]]) -> dict[str, Callable[[], Call]]:
    return {name: partial(_same, call) for name, call in prepare().items()}


def _same(call: Call) -> Call:
    return call


def dtype_of(place: Place) -> str:
    """What is stored; the interpreter's matrix product knows no bfloat16."""
    return "float32" if place.rehearsal else "bfloat16"


def tensors(
    place: Place, batch: int, heads: int, rows: int, columns: int, head: int, kind: str = ""
) -> dict[str, torch.Tensor]:
    """Fresh random tensors, in memory [B, N, H, d]."""

    def made(length: int) -> torch.Tensor:
        x = torch.randn(batch, length, heads, head, device=place.device)
        return x.to(getattr(torch, kind or dtype_of(place))).transpose(1, 2)

    return {"q": made(rows), "k": made(columns), "v": made(columns), "dy": made(rows)}


def reference(
    form: AttentionForm, operands: Operands, given: Mapping[str, torch.Tensor]
) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
    """Attention and its gradients in float64."""
    q, k, v = (given[name].double().requires_grad_() for name in ("q", "k", "v"))
    scores = q @ k.mT * operands.scale + operands.bias
    if form.causal:
        rows, columns = scores.shape[-2:]
        later = torch.ones(rows, columns, dtype=torch.bool, device=q.device).triu(columns - rows + 1)
        scores = scores.masked_fill(later, -math.inf)
    result = (torch.sigmoid(scores) if form.score == "sigmoid" else scores.softmax(-1)) @ v
    return result.detach(), torch.autograd.grad(result, (q, k, v), given["dy"].double())


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
    ] + [_Shipped(AttentionForm(score, "float32"), 64) for score in _SHIPPED]


@cache
def _compile_all(what: str) -> None:
    """Compiles what is "shipped" or "tried" in as many processes as there are processors."""
    count = len(os.sched_getaffinity(0))
    command = [sys.executable, "-m", "benchmarks.gpu_attention"]
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
    work: Sequence[_Trial | _Shipped] = _trials(_WAYS) if what == "tried" else _shipped()
    for trial in work[index::count]:
        with suppress(Exception), compile_only():
            trial.error(place, compiled=True)


if __name__ == "__main__":
    _compile(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
