"""What torch has to know of an operator besides its kernel: shapes, gradients, autocast, batches.

Kernels run where tensors are just tensors. Where torch transforms the function - under torch.func, in forward
mode, when a gradient is differentiated again - the operator is what it means in torch's own operators, so all
transformations are right, with no rules of their own that could be wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tautomer.codegen.torch.operators import (
    NAMESPACE,
    OPERATORS,
    Signature,
    TorchOperator,
    backward,
    forward,
    gradient_of,
    kernel,
)
from tautomer.patterns.operation import FULL_OPERANDS, ROW_OPERANDS
from tautomer.runtime.torch.ops_cuda import register_cuda
from tautomer.runtime.torch.ops_meaning import meaning

if TYPE_CHECKING:
    import torch

_KEPT: list[Any] = []  # registrations end with the object that made them


def register_all() -> None:
    """Registers the rules of every operator; the library of the operators is loaded."""
    import torch

    library = torch.library.Library(NAMESPACE, "FRAGMENT")
    _KEPT.append(library)
    for operator in OPERATORS:
        for one in (forward(operator), kernel(operator), backward(operator)):
            torch.library.register_fake(f"{NAMESPACE}::{one.name}", _fake(one))
            torch.library.register_vmap(f"{NAMESPACE}::{one.name}", _batched(one))
        signature = forward(operator)
        if any(name in FULL_OPERANDS for name in signature.program.operands):
            library.impl(signature.name, _widened(signature, "cpu"), "AutocastCPU")
            library.impl(signature.name, _widened(signature, "cuda"), "AutocastCUDA")
        library.impl(signature.name, _differentiable(operator), "Autograd")
    register_cuda(library)


def overload(signature: Signature) -> Any:
    """The operator as torch has it."""
    import torch

    return getattr(getattr(torch.ops, NAMESPACE), signature.name).default


def _fake(signature: Signature) -> Callable[..., Any]:
    """The shapes and types of the outputs."""
    import torch

    program = signature.program
    full = [name not in ROW_OPERANDS for name in ("x", *program.operands)]

    def outputs(*arguments: Any) -> Any:
        x = arguments[0]
        torch._check(not program.rows or x.dim() > 0, lambda: f"{signature.name}: a number has no rows")
        for tensor, of_x in zip(arguments, full, strict=False):
            if of_x:
                torch._check(tensor.dtype == x.dtype, lambda: f"{signature.name}: the types differ")
                torch._check(tensor.shape == x.shape, lambda: f"{signature.name}: the shapes differ")
        found = tuple(
            x.new_empty((x.shape[-1],), dtype=torch.float32)
            if name in program.totals
            else x.new_empty(x.shape)
            for name in program.names
        )
        return found if len(found) > 1 else found[0]

    return outputs


def _batched(signature: Signature) -> Callable[..., Any]:
    """Rows are independent: a batch of tensors is one larger tensor, unless each has a scale of its own."""
    import torch

    program = signature.program
    names = ("x", *program.operands)

    def rule(info: Any, in_dims: tuple[int | None, ...], *arguments: Any) -> Any:
        given = list(arguments)
        own = False
        for i, (name, dim) in enumerate(zip(names, in_dims, strict=False)):
            if dim is not None:
                given[i] = arguments[i].movedim(dim, 0)
                own = own or name in ROW_OPERANDS
            elif name not in ROW_OPERANDS:
                given[i] = arguments[i].expand(info.batch_size, *arguments[i].shape)
        axes = given[0].dim()
        torch._check(not program.rows or axes > 1, lambda: f"{signature.name}: a number has no rows")
        if own or program.totals:
            for i, name in enumerate(names):
                if name in ROW_OPERANDS and in_dims[i] is not None:
                    given[i] = given[i].reshape(info.batch_size, *[1] * (axes - 2), -1)
            outputs = meaning(signature, batched=True)(*given)
        else:
            outputs = overload(signature)(*given)
        return outputs, (0,) * len(outputs) if isinstance(outputs, tuple) else 0

    return rule


def _widened(signature: Signature, device: str) -> Callable[..., Any]:
    """Under autocast, tensors of different types meet as in x + residual: in the widest of them.

    Nothing is narrowed, and results have the type that comes in, as torch's norms on the CPU.
    """
    import torch

    names = ("x", *signature.program.operands)

    def rule(*arguments: Any) -> Any:
        places = [i for i, name in enumerate(names) if name not in ROW_OPERANDS]
        given = list(arguments)
        widest = given[0].dtype
        for i in places:
            widest = torch.promote_types(widest, given[i].dtype)
        for i in places:
            given[i] = given[i].to(widest)
        with torch.autocast(device, enabled=False):
            return overload(signature)(*given)

    return rule


def _needs_gradient(arguments: tuple[Any, ...]) -> bool:
    import torch

    return torch.is_grad_enabled() and any(
        isinstance(one, torch.Tensor) and one.requires_grad for one in arguments
    )


def _differentiable(operator: TorchOperator) -> Callable[..., Any]:
    """The operator by its kernel, with a gradient where one is wanted."""
    from tautomer.runtime.torch.compat import is_transformed

    run, compute, function = overload(kernel(operator)), meaning(forward(operator)), _function(operator)

    def rule(*arguments: Any) -> Any:
        if is_transformed():
            return compute(*arguments)
        return function.apply(*arguments) if _needs_gradient(arguments) else run(*arguments)

    return rule


def _function(operator: TorchOperator) -> type[torch.autograd.Function]:
    """The kernel and its gradient; one that is differentiated again is computed by torch's operators."""
    import torch

    signature, found, other = forward(operator), gradient_of(operator), backward(operator)
    run, run_backward, compute_backward = overload(kernel(operator)), overload(other), meaning(other)
    names = ("x", *signature.program.operands)
    count = len(names)
    # the inputs that the gradient reads; the sum or the result takes the place of x
    place = 1 if len(signature.outputs) > 1 else 0 if found.from_result else None
    read = [i for i, name in enumerate(names) if name in other.program.operands]

    class Differentiable(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *arguments: Any) -> Any:
            result = run(*arguments)
            outputs = result if isinstance(result, tuple) else (result,)
            first = arguments[0] if place is None else outputs[place]
            ctx.save_for_backward(first, *(arguments[i] for i in read))
            ctx.numbers = arguments[count:]
            ctx.types = [None if one is None else one.dtype for one in arguments[:count]]
            return result

        @staticmethod
        def backward(ctx: Any, *gradients: Any) -> Any:
            first, *operands = ctx.saved_tensors
            given = (first, *gradients, *operands, *ctx.numbers)
            results = (compute_backward if _needs_gradient(given) else run_backward)(*given)
            by_name = dict(zip(found.of, results if len(found.of) > 1 else (results,), strict=True))
            by_name["residual"] = by_name["x"]
            inputs = [
                by_name[name].to(of) if of is not None and needed else None
                for name, of, needed in zip(names, ctx.types, ctx.needs_input_grad, strict=False)
            ]
            return *inputs, *[None] * len(ctx.numbers)

    return Differentiable
