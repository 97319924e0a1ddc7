"""What attention computes, in torch's own operators: where no kernel runs, and where gradients need more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from tautomer.patterns.attention.form import AttentionForm, attend


class TorchMathematics:
    """The mathematics of attention on tensors of one device; see graph.semantics.domain."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return {"power": torch.pow}.get(name) or getattr(torch, name)

    def constant(self, x: Any) -> Any:
        """An array as numbers."""
        return torch.as_tensor(np.asarray(x), dtype=torch.float32, device=self._device)

    def shape(self, x: Any) -> Any:
        """The shape."""
        return x.shape

    def move(self, f: Callable[..., Any], x: Any) -> Any:
        """Moves elements: by where each of them goes."""
        places = f(np.arange(x.numel()).reshape(x.shape))
        return x.reshape(-1)[torch.from_numpy(np.ascontiguousarray(places)).to(self._device)]

    def where(self, condition: Any, a: Any, b: Any) -> Any:
        """A choice."""
        return torch.where(torch.as_tensor(condition, device=self._device), a, b)

    def compare(self, relation: str, a: Any, b: Any) -> Any:
        """A comparison for equality, which is all that attention asks for."""
        assert relation == "=="
        return a == b

    def maximum(self, a: Any, b: Any) -> Any:
        """The larger; 0 has a derivative of 0, as max(x, 0) has in torch."""
        return torch.maximum(a, torch.as_tensor(b, dtype=a.dtype, device=self._device))

    def exp(self, x: Any) -> Any:
        """e^x."""
        return torch.exp(torch.as_tensor(x, device=self._device))

    def amax(self, x: Any, axes: tuple[int, ...], keepdims: bool) -> Any:
        """The maximum; of nothing -inf."""
        return x.amax(axes, keepdim=keepdims) if x.shape[-1] else x.new_full((*x.shape[:-1], 1), -torch.inf)

    def sum(self, x: Any, axes: tuple[int, ...], keepdims: bool) -> Any:
        """The sum."""
        return x.sum(axes, keepdim=keepdims)


def meaning(form: AttentionForm, *arguments: Any) -> torch.Tensor:
    """What the operator gives, from its arguments; scores are stored, and computed in float32 at least."""
    q, k, v, mask, lengths, slopes, sink, _, scale, bias, softcap, window, free = arguments
    wide = torch.promote_types(q.dtype, torch.float32)

    def widened(x: torch.Tensor | None) -> torch.Tensor | None:
        return x if x is None or x.dtype == torch.bool else x.to(wide)

    found: torch.Tensor = attend(
        TorchMathematics(q.device),
        form,
        widened(q),
        widened(k),
        widened(v),
        mask=widened(mask),
        lengths=None if lengths is None else lengths.numpy(force=True),
        slopes=widened(slopes),
        sink=widened(sink),
        scale=scale,
        bias=bias,
        softcap=softcap,
        window=window,
        free=free,
    )
    return found.to(q.dtype)
