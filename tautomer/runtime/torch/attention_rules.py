"""What torch has to know of attention besides its kernel: shapes, gradients, autocast, batches.

Where torch transforms the function, where a gradient is differentiated again, and where a form has no
gradient by a kernel, attention is what it means in torch's own operators.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch

from tautomer.codegen.attention.backward import has_backward
from tautomer.codegen.torch.attention import BACKWARD, FORWARD, KERNEL
from tautomer.codegen.torch.operators import NAMESPACE
from tautomer.errors import InputError
from tautomer.patterns.attention.form import AttentionForm
from tautomer.patterns.attention.operators import form_named
from tautomer.runtime.torch import attention_cuda
from tautomer.runtime.torch.attention_meaning import meaning
from tautomer.runtime.torch.compat import is_transformed
from tautomer.runtime.triton.attention_launch import empty_like_rows

FORM = 7  # where the form stands among the arguments
_KEPT: list[Any] = []  # registrations end with the object that made them


def register() -> None:
    """Registers the rules; the library of the operators is loaded."""
    library = torch.library.Library(NAMESPACE, "FRAGMENT")
    _KEPT.append(library)
    torch.library.register_fake(f"{NAMESPACE}::{FORWARD}", lambda *arguments: _outputs(*arguments)[0])
    torch.library.register_fake(f"{NAMESPACE}::{KERNEL}", _outputs)
    torch.library.register_fake(f"{NAMESPACE}::{BACKWARD}", _gradients)
    torch.library.register_vmap(f"{NAMESPACE}::{FORWARD}", _batched)
    for device in ("CPU", "CUDA"):
        library.impl(FORWARD, _narrowed, f"Autocast{device}")
    attention_cuda.register_cuda(library, form_of)
    library.impl(FORWARD, _differentiable, "Autograd")


def overload(name: str = FORWARD) -> Any:
    """The operator as torch has it."""
    return getattr(getattr(torch.ops, NAMESPACE), name).default


def form_of(text: str, q: torch.Tensor) -> AttentionForm:
    """The form that an operator was given.

    Raises:
        InputError: it is none.
    """
    return _form(text, q.dtype)


@lru_cache(maxsize=256)
def _form(text: str, dtype: torch.dtype) -> AttentionForm:
    form = form_named(text)
    if form is None:
        raise InputError(f"'{text}' is no form of attention", where=FORWARD)
    return replace(form, dtype=str(dtype).removeprefix("torch."))


def _outputs(*arguments: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """The shapes and types of the result, and of what the gradient needs."""
    q, k, v = arguments[:3]
    torch._check(q.dim() == k.dim() == v.dim() == 4, lambda: "q, k and v have four axes")
    torch._check(q.dtype == k.dtype == v.dtype, lambda: "the types differ")
    form = form_of(arguments[FORM], q)
    if q.device.type == "cuda":
        return attention_cuda.outputs(form, q, v)
    kind = form.function.kind
    y = q.new_empty((*q.shape[:3], v.shape[3]))
    return y, q.new_empty((*q.shape[:3], 2 if kind == "exponential" else 0), dtype=torch.float32)


def _gradients(*arguments: Any) -> tuple[torch.Tensor, ...]:
    if arguments[3].device.type == "cuda":
        return tuple(empty_like_rows(x, x.shape[-1]) for x in arguments[3:6])
    return tuple(x.new_empty(x.shape) for x in arguments[3:6])


def _batched(info: Any, in_dims: tuple[int | None, ...], *arguments: Any) -> Any:
    """A batch of batches is one larger batch; slopes and sinks are the same for all of it."""
    given, size = list(arguments), info.batch_size
    batch = next(
        x.movedim(dim, 0).shape[1] if dim is not None else x.shape[0]
        for x, dim in zip(arguments[:3], in_dims[:3], strict=True)
    )
    for i, (x, dim) in enumerate(zip(arguments[:7], in_dims[:7], strict=True)):
        if x is None:
            continue
        torch._check(i < 5 or dim is None, lambda: "slopes and sinks have no batches")
        if i >= 5:
            continue
        x = x.movedim(dim, 0) if dim is not None else x.unsqueeze(0).expand(size, *x.shape)
        if i == 3:  # a mask may lack axes, or have one element along the batch
            while x.dim() < 5:
                x = x.unsqueeze(1)
            x = x.expand(size, batch, *x.shape[2:])
        given[i] = x.reshape(size * batch, *x.shape[2:])
    y = overload()(*given)
    return y.reshape(size, batch, *y.shape[1:]), 0


def _narrowed(*arguments: Any) -> Any:
    """Under autocast, as torch's scaled_dot_product_attention: in autocast's type."""
    device = arguments[0].device.type
    dtype = torch.get_autocast_dtype(device)
    given = [
        x.to(dtype) if i < 4 and x is not None and x.is_floating_point() else x
        for i, x in enumerate(arguments)
    ]
    with torch.autocast(device, enabled=False):
        return overload()(*given)


def _needs_gradient(*tensors: Any) -> bool:
    return torch.is_grad_enabled() and any(isinstance(x, torch.Tensor) and x.requires_grad for x in tensors)


def _differentiable(*arguments: Any) -> Any:
    """By the kernel, with a gradient where one is wanted."""
    needed, form = _needs_gradient(*arguments), form_of(arguments[FORM], arguments[0])
    others = _needs_gradient(*arguments[3:7])
    by_kernel = attention_cuda.has_gradient if arguments[0].device.type == "cuda" else has_backward
    if is_transformed() or (needed and (others or not by_kernel(form))):
        return meaning(form, *arguments)
    if needed:
        return _Attention.apply(*arguments)  # type: ignore[no-untyped-call]
    with torch._C._AutoDispatchBelowAutograd():
        return overload()(*arguments)


class _Attention(torch.autograd.Function):
    """The kernel and its gradient, for q, k and v."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Any:
        y, statistics = overload(KERNEL)(*arguments)
        ctx.save_for_backward(y, statistics, *arguments[:7])
        ctx.numbers = arguments[FORM:]
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        y, statistics, *tensors = ctx.saved_tensors
        arguments = (*tensors, *ctx.numbers)
        if _needs_gradient(gradient, *tensors):
            again = meaning(form_of(arguments[FORM], arguments[0]), *arguments)
            wanted = [x for x in arguments[:3] if x.requires_grad]
            found = iter(torch.autograd.grad(again, wanted, gradient, create_graph=True))
            results = [next(found) if x.requires_grad else None for x in arguments[:3]]
        else:
            results = list(overload(BACKWARD)(gradient, y, statistics, *arguments))
        return *results, *[None] * (len(arguments) - 3)
