"""The GELU with tanh, read back from the form that the passes write for inductor.

    x * sigmoid(2 u) = x / 2 * (1 + tanh u),    u = sqrt(2 / pi) * (x + 0.044715 x^3)

That form is the faster one where inductor makes the code. Whether a kernel of ours gains on it depends on its
neighbours, which are known when the passes are done.

Condition: the two numbers are those of the definition, to the rounding of float32, and nothing else reads
what is computed on the way.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import fx

aten = torch.ops.aten
_ROUNDED = 2.0**-23
_CUBIC, _TWICE = 0.044715, 2.0 * math.sqrt(2.0 / math.pi)


def tanh_gelu(node: fx.Node) -> tuple[fx.Node, tuple[fx.Node, ...]] | None:
    """What a product is the GELU of, and the nodes on the way, each after those that read it; or None."""
    if node.target is not aten.mul.Tensor or node.kwargs or len(node.args) != 2:
        return None
    x = node.args[0]
    if not isinstance(x, fx.Node):
        return None
    inner: list[fx.Node] = []

    def step(value: Any, target: Any, *second: Any) -> Any:
        """The first operand of a node with this target and these operands after it."""
        if not isinstance(value, fx.Node) or value.target is not target or value.kwargs:
            return None
        if len(value.users) != 1 or len(value.args) != 1 + len(second):
            return None
        if not all(_same(a, b) for a, b in zip(value.args[1:], second, strict=True)):
            return None
        inner.append(value)
        return value.args[0]

    total = step(step(node.args[1], aten.sigmoid.default), aten.mul.Tensor, _TWICE)
    cubic = total.args[1] if isinstance(total, fx.Node) and len(total.args) == 2 else None
    if step(total, aten.add.Tensor, cubic) is not x:
        return None
    if step(step(step(cubic, aten.mul.Tensor, _CUBIC), aten.mul.Tensor, x), aten.mul.Tensor, x) is not x:
        return None
    return x, tuple(inner)


def _same(given: Any, wanted: Any) -> bool:
    if isinstance(wanted, float):
        return isinstance(given, float) and math.isclose(given, wanted, rel_tol=_ROUNDED)
    return given is wanted
