"""The operators of attention on tensors of a GPU, by Triton kernels.

They are registered for CUDA devices beside the C++ kernels, and stay opaque to torch's compilers, which have
nothing to gain inside them.
"""

from __future__ import annotations

import threading
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

import torch

from tautomer.codegen.storage import DTYPES
from tautomer.codegen.torch.attention import BACKWARD, FORWARD, KERNEL, SCHEMAS
from tautomer.codegen.torch.operators import NAMESPACE
from tautomer.codegen.triton.attention_backward import differentiable
from tautomer.codegen.triton.attention_choices import choice, widest
from tautomer.codegen.triton.attention_tiles import Tiling, padded
from tautomer.errors import TautomerError
from tautomer.patterns.attention.form import AttentionForm
from tautomer.runtime.torch import first_runs
from tautomer.runtime.torch.ops_cuda import too_old
from tautomer.runtime.triton.attention import attend, attend_one
from tautomer.runtime.triton.attention_gradients import gradients
from tautomer.runtime.triton.attention_launch import Operands, empty_like_rows

if TYPE_CHECKING:
    from collections.abc import Callable

_LOCK = threading.RLock()
_KEPT: list[Any] = []  # registrations end with the object that made them


def attach(form: AttentionForm, q: torch.Tensor, v: torch.Tensor) -> str:
    """Makes attention run on tensors like these; why it does not run by a kernel, or ""."""
    reason = no_kernel(form, q, v) or first_runs.of_attention(form, _ways(form, q, v), q, v)
    if not reason:
        with _LOCK:
            _known()
    return reason


def _ways(form: AttentionForm, q: torch.Tensor, v: torch.Tensor) -> list[first_runs.Way]:
    """What the first run is of: the kernels for tensors of these widths, wherever they lie."""
    head, width = q.shape[-1], v.shape[-1]
    kernels: tuple[str, ...] = ("one",) if q.shape[2] == 1 and form.function.second is None else ("forward",)
    if torch.is_grad_enabled() and has_gradient(form):
        kernels = ("forward", "queries", "keys")
    whole, device = head == padded(head) and width == padded(width), _class_of(q.device)
    return [
        first_runs.Way(
            tuple((name, choice(form, name, head, width, device, described=described)) for name in kernels),
            gaps=gaps,
        )
        for described, gaps in ((whole, False), (False, True))
    ]


def no_kernel(form: AttentionForm, q: torch.Tensor, v: torch.Tensor) -> str:
    """Why attention on a GPU runs by its formula, or ""."""
    dtype = str(q.dtype).removeprefix("torch.")
    if dtype not in DTYPES:
        return f"there is no kernel for {dtype}"
    most = widest(dtype, _class_of(q.device))
    if max(q.shape[-1], v.shape[-1]) > most:
        return f"heads are wider than {most}"
    return too_old(q)


def has_gradient(form: AttentionForm) -> bool:
    """Whether there is a kernel for the gradient."""
    return not differentiable(form)


@cache
def _known() -> None:
    """Makes torch know the operators; without a C++ compiler, without kernels for the CPU."""
    from tautomer.runtime.torch.attention_library import loaded
    from tautomer.runtime.torch.attention_rules import register

    try:
        loaded()
    except TautomerError:
        library = torch.library.Library(NAMESPACE, "FRAGMENT")
        _KEPT.append(library)
        for schema in SCHEMAS.values():
            library.define(schema)
        register()


def register_cuda(library: Any, form_of: Callable[[str, torch.Tensor], AttentionForm]) -> None:
    """Registers the kernels; the operators' schemas are known to torch.

    Args:
        library: a fragment of the namespace, which the registrations live as long as.
        form_of: the form that an operator's text says for such a q.
    """

    def kernel(*arguments: Any) -> tuple[torch.Tensor, torch.Tensor]:
        return forward(form_of(arguments[7], arguments[0]), *arguments)

    def slopes(*arguments: Any) -> tuple[torch.Tensor, ...]:
        return backward(form_of(arguments[10], arguments[3]), *arguments)

    def only(*arguments: Any) -> torch.Tensor:
        return result(form_of(arguments[7], arguments[0]), *arguments)

    library.impl(FORWARD, only, "CUDA")
    library.impl(KERNEL, kernel, "CUDA")
    library.impl(BACKWARD, slopes, "CUDA")


def forward(form: AttentionForm, *arguments: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """The result, and what the gradient needs of each row; arguments as the operator has them."""
    q, k, v = arguments[:3]
    (tiling,) = _tilings(form, ("forward",), q, k, v)
    y, statistic = attend(form, tiling, _operands(arguments), q, k, v)
    return y, no_statistic(q) if statistic is None else statistic


def result(form: AttentionForm, *arguments: Any) -> torch.Tensor:
    """The result alone; of a single query by as many programs as the device holds."""
    q, k, v = arguments[:3]
    if q.shape[2] != 1 or form.function.second is not None:
        return forward(form, *arguments)[0]
    (tiling,) = _tilings(form, ("one",), q, k, v)
    return attend_one(form, tiling, _operands(arguments), q, k, v)


def backward(form: AttentionForm, *arguments: Any) -> tuple[torch.Tensor, ...]:
    """The gradients of q, k and v; arguments as the operator has them."""
    dy, y, statistic, q, k, v = arguments[:6]
    kernels = ("queries", "keys")
    tilings = dict(zip(kernels, _tilings(form, kernels, q, k, v, dy), strict=True))
    given = (q, k, v, dy, y, statistic if statistic.dim() == 3 else None)
    return gradients(form, tilings, _operands(arguments[3:]), *given)


def outputs(form: AttentionForm, q: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Empty tensors of the shapes, types and strides of what `forward` gives."""
    saved = form.function.kind != "pointwise" and form.function.second is None
    statistic = torch.empty(q.shape[:3], dtype=torch.float32, device=q.device) if saved else no_statistic(q)
    return empty_like_rows(q, v.shape[-1]), statistic


def no_statistic(q: torch.Tensor) -> torch.Tensor:
    """What stands for the statistic where rows have none."""
    return torch.empty((0,), dtype=torch.float32, device=q.device)


def _operands(arguments: tuple[Any, ...]) -> Operands:
    mask, lengths, slopes, sink, _, scale, bias, softcap, window, free = arguments[3:]
    tensors = {
        "mask": mask,
        "lengths": None if lengths is None else lengths.int(),
        "slopes": None if slopes is None else slopes.float(),
        "sinks": None if sink is None else sink.float(),
    }
    there = {name: one for name, one in tensors.items() if one is not None}
    return Operands(scale, bias, softcap, window, free, there)


@lru_cache(maxsize=64)
def _class_of(device: torch.device) -> str:
    if device.type != "cuda" or torch.version.hip:
        return "gfx942"  # the interpreter knows no assembler, either
    return "sm_90" if torch.cuda.get_device_capability(device)[0] == 9 else "sm_80"


def _tilings(form: AttentionForm, kernels: tuple[str, ...], *tensors: torch.Tensor) -> list[Tiling]:
    q, v, device = tensors[0], tensors[2], _class_of(tensors[0].device)
    described = all(map(_describable, tensors))
    return [choice(form, name, q.shape[-1], v.shape[-1], device, described=described) for name in kernels]


def _describable(x: torch.Tensor) -> bool:
    """Whether a descriptor can tell where the rows of a tensor are."""
    return (
        x.stride(-1) == 1
        and x.shape[-1] == padded(x.shape[-1])
        and x.data_ptr() % 16 == 0
        and all(step > 0 and step * x.element_size() % 16 == 0 for step in x.stride()[:-1])
    )
