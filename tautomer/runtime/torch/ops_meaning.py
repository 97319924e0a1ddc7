"""What an operator of ours computes, in torch's own operators.

It is what runs where a kernel cannot: under torch.func, in forward mode, and where a gradient is
differentiated again. Numbers narrower than float32 are computed in float32 and rounded once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from tautomer.codegen.expression import Node, reachable
from tautomer.codegen.torch.operators import Signature
from tautomer.errors import InternalError

if TYPE_CHECKING:
    import torch

_ABSENT = {"scale": 1.0, "bias": 0.0}
_RELATIONS = {"<": "lt", "<=": "le", ">": "gt", ">=": "ge", "==": "eq", "!=": "ne"}


def meaning(signature: Signature, *, batched: bool = False) -> Callable[..., Any]:
    """The function that takes what the operator takes and gives what it gives.

    Args:
        signature: the operator.
        batched: the first axis of x and of the results is one of independent samples; a scale or bias may
            have it too, and then has as many axes as x.
    """

    def compute(*arguments: Any) -> Any:
        results = _evaluated(signature, arguments, batched)
        return results if len(results) > 1 else results[0]

    return compute


def _evaluated(signature: Signature, arguments: Sequence[Any], batched: bool) -> tuple[torch.Tensor, ...]:
    import torch

    program = signature.program
    tensors, numbers = arguments[: 1 + len(program.operands)], arguments[1 + len(program.operands) :]
    x = tensors[0]
    wide = torch.promote_types(x.dtype, torch.float32)
    known: dict[str, Any] = {}
    for name, tensor in zip(("x", *program.operands), tensors, strict=True):
        known[name] = _ABSENT[name] if tensor is None else tensor.to(wide)
    known |= dict(zip(program.parameters, numbers, strict=True))
    values: dict[Node, Any] = {}
    for node in reachable(program.results):
        values[node] = _value(node, [values[argument] for argument in node.args], known, x)

    def whole(node: Node) -> torch.Tensor:
        # an operand that is absent, or a number, may be all that a result is
        value = values[node]
        tensor = value if isinstance(value, torch.Tensor) else x.new_full((), value, dtype=wide)
        return tensor.expand(x.shape)

    lead = x.shape[:1] if batched else ()
    return tuple(
        whole(node).reshape(*lead, -1, x.shape[-1]).sum(-2)
        if name in program.totals
        else whole(node).to(x.dtype)
        for name, node in zip(program.names, program.results, strict=True)
    )


def _value(node: Node, args: list[Any], known: dict[str, Any], x: torch.Tensor) -> Any:
    """One node: a tensor, or a number that torch takes for one."""
    import torch

    op = node.op
    if op in ("x", "operand", "parameter"):
        return known[node.name or op]
    if op == "number":
        return node.value
    if op == "count":
        return x.shape[-1]
    if op in ("add", "sub", "mul", "div"):
        return getattr(torch, op)(*_lifted(args, x)) if _any_tensor(args) else _ON_NUMBERS[op](*args)
    if op == "neg":
        return -args[0]
    if op in ("sum", "max"):
        (rows,) = _lifted(args, x)
        return rows.sum(-1, keepdim=True) if op == "sum" else rows.amax(-1, keepdim=True)
    lifted = _lifted(args, x)
    if op == "compare":
        return getattr(torch, _RELATIONS[node.name])(*lifted)
    if op == "where":
        return torch.where(args[0], *_lifted(args[1:], x))
    if op == "maximum":  # of equal numbers the second counts, so that the derivative of max(x, 0) is 0 at 0
        return torch.where(lifted[0] <= lifted[1], lifted[1], lifted[0])
    if op == "minimum":
        return torch.where(lifted[0] > lifted[1], lifted[1], lifted[0])
    if op == "one_plus_erf":
        return torch.erfc(-lifted[0])
    if op == "tanh_softplus":
        return torch.tanh(torch.nn.functional.softplus(lifted[0]))
    if op in _BY_NAME:
        return getattr(torch, op)(*lifted)
    raise InternalError(f"{op} has no meaning in torch", where="torch operators")


_BY_NAME = ("exp", "expm1", "log", "log1p", "sqrt", "rsqrt", "erf", "tanh", "sigmoid", "abs")
_ON_NUMBERS: dict[str, Callable[[float, float], float]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b if b else math.copysign(math.inf, a) if a else math.nan,
}


def _any_tensor(args: list[Any]) -> bool:
    import torch

    return any(isinstance(one, torch.Tensor) for one in args)


def _lifted(args: Sequence[Any], x: torch.Tensor) -> list[torch.Tensor]:
    """The arguments as tensors of the type that is calculated in."""
    import torch

    wide = torch.promote_types(x.dtype, torch.float32)
    return [
        one if isinstance(one, torch.Tensor) else torch.scalar_tensor(one, dtype=wide, device=x.device)
        for one in args
    ]
