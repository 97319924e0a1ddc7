"""The operators on tensors of a GPU, by Triton kernels.

An operator is registered for CUDA devices beside its C++ kernels. Where a compiler of torch works out what
a graph does, it sees the launch of the kernel and not the operator, so that it plans memory for it, puts it
into CUDA graphs and calls it without a detour. Where there is no kernel - rows that are too long, another
type - an operator is what it means in torch's own operators.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tautomer.codegen.storage import DTYPES
from tautomer.codegen.torch.operators import NAMESPACE, OPERATORS, Signature, backward, forward, kernel
from tautomer.codegen.triton.configuration import configuration
from tautomer.patterns.operation import ROW_OPERANDS
from tautomer.runtime.torch.ops_meaning import meaning

if TYPE_CHECKING:
    import torch

_LEAST_CAPABILITY = (8, 0)  # of NVIDIA's: bfloat16, and maxima that keep NaN
_ABSENT = {"scale": 1.0, "bias": 0.0}
_ITEM_SIZES = {"float32": 4, "float16": 2, "bfloat16": 2}


def register_cuda(library: Any) -> None:
    """Registers the kernels of every operator; their schemas are known to torch.

    Args:
        library: a fragment of the namespace, which the registrations live as long as.
    """
    import torch

    from tautomer.runtime.torch.compat import FunctionalTensorMode

    for operator in OPERATORS:
        for one in (forward(operator), kernel(operator), backward(operator)):
            library.impl(one.name, _implementation(one), "CUDA")
        for one in (kernel(operator), backward(operator)):
            torch.library.register_torch_dispatch(
                f"{NAMESPACE}::{one.name}", FunctionalTensorMode, _decomposed(one), lib=library
            )


def no_kernel(signature: Signature, x: torch.Tensor) -> str:
    """Why an operator runs without a kernel of ours on tensors like x, or ""."""
    from tautomer.runtime.torch import first_runs

    dtype = str(x.dtype).removeprefix("torch.")
    if dtype not in DTYPES:
        return f"there is no kernel for {dtype}"
    columns = x.shape[-1] if signature.program.rows else 1
    if not isinstance(columns, int):
        return "the length of its rows is not known before it runs"
    if columns < 1 or configuration(signature.program, columns, _ITEM_SIZES[dtype]) is None:
        return f"rows of {columns} elements do not fit into the registers of a multiprocessor"
    return too_old(x) or first_runs.of_rows(signature, x)


def too_old(x: torch.Tensor) -> str:
    """Why no kernel runs on the device of x, or ""."""
    import torch

    if not torch.version.hip and torch.cuda.is_available():
        capability = torch.cuda.get_device_capability(x.device)
        if capability < _LEAST_CAPABILITY:
            return f"kernels are for compute capability 8.0 and up, not {capability[0]}.{capability[1]}"
    return no_triton()


def no_triton() -> str:
    """Why there are no Triton kernels at all, or ""."""
    try:
        import triton  # noqa: F401
    except ImportError:
        return "there is no triton"
    return ""


def compute(signature: Signature, arguments: tuple[Any, ...], *, traced: bool = False) -> Any:
    """Runs an operator by its kernel, or by what it means where there is none.

    Args:
        signature: the operator.
        arguments: as torch passes them: tensors, of which a scale or bias may be None, and numbers.
        traced: whether a launch is to be recorded in a graph.
    """
    from tautomer.runtime.triton.launch import run

    x = arguments[0]
    program = signature.program
    if no_kernel(signature, x):
        return meaning(signature)(*arguments)
    names = ("x", *program.operands)
    tensors = [
        x.new_full(x.shape[-1:], _ABSENT[name]) if tensor is None and name in ROW_OPERANDS else tensor
        for name, tensor in zip(names, arguments, strict=False)
    ]
    results = run(program, tensors, arguments[len(names) :], traced=traced)
    return results if len(results) > 1 else results[0]


def _implementation(signature: Signature) -> Callable[..., Any]:
    return lambda *arguments: compute(signature, arguments)


def _decomposed(signature: Signature) -> Callable[..., Any]:
    """The rule of FunctionalTensorMode, as `torch.library.triton_op` has it."""

    def rule(mode: Any, op: Any, types: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        from tautomer.runtime.torch.compat import keeps_triton_operators

        if args[0].device.type != "cuda" or keeps_triton_operators() or no_kernel(signature, args[0]):
            return mode.__torch_dispatch__(op, types, args, kwargs)
        with mode:
            return compute(signature, args, traced=True)

    return rule
