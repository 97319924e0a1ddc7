"""Attention of one size on a GPU: its inputs, and the calls of ours and of torch's that are timed on them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.gpu_attention_ahead import label, tilings
from benchmarks.gpu_attention_inputs import dtype_of, tensors
from benchmarks.gpu_case import OURS, Call, Case, Place
from tautomer.patterns.attention.form import AttentionForm, Causal
from tautomer.runtime.torch.attention import score_attention
from tautomer.runtime.triton.attention import attend
from tautomer.runtime.triton.attention_gradients import gradient_of_queries, gradients, gradients_of_keys
from tautomer.runtime.triton.attention_launch import Operands

_TOKENS = 16384
_WIDTH = 2048  # of all heads together


@dataclass(frozen=True)
class Size:
    """Inputs of one size, and the calls that are timed on them."""

    place: Place
    head: int
    length: int
    causal: Causal
    score: str = "sigmoid"
    dtype: str = "bfloat16"

    def case(
        self, name: str, prepare: Callable[[], Mapping[str, Call]], products: int, bar: str = ""
    ) -> Case:
        """A case; products: twice the products of an N x N matrix with a head."""
        pairs = self.length**2 / (2 if self.causal else 1)
        flops = products * pairs * _WIDTH * _TOKENS / self.length
        size = f"d{self.head} N{self.length} {self.causal or 'full'}"
        return Case(name, size, partial(makers, prepare), sets=1, flops=flops, graph=False, bar=bar)

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


def makers(prepare: Callable[[], Mapping[str, Call]]) -> dict[str, Callable[[], Call]]:
    """What makes each call, where all are made together."""
    return {name: partial(_same, call) for name, call in prepare().items()}


def _same(call: Call) -> Call:
    return call
