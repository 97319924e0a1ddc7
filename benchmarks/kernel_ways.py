"""Calls of one operation: our kernels, torch, inductor, onnxruntime and numpy, and a copy to compare with."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from onnx import parser

from benchmarks.kernel_cases import Case, Tensor
from benchmarks.timing import bound, load
from tautomer.codegen.algorithms import algorithms
from tautomer.codegen.kernel import kernel_for
from tautomer.patterns.operation import Definition
from tautomer.runtime import loaded
from tautomer.runtime.kernel_cache import library
from tautomer.runtime.ort_kernels import isa_of

OURS = "ours"
Call = Callable[[], Any]
Ways = dict[str, tuple[Call, Callable[[], Any]]]


def native(
    definition: Definition, algorithm: str, inputs: Sequence[Tensor], out: Tensor, rows: int, columns: int
) -> Call:
    """A call of a generated kernel whose arguments are made once."""
    kernel = kernel_for(definition, isa=isa_of("native"), algorithm=algorithm)
    function = loaded.load(library(kernel.text, kernel.flags), kernel.symbol)
    values = [definition.parameters[name] for name in kernel.parameters]
    ins, outs = [(ctypes.c_void_p * len(a))(*(t.data_ptr() for t in a)) for a in (inputs, [out])]
    last = rows if kernel.rows else rows * columns
    numbers = (ctypes.c_double * len(values))(*values)
    # the arguments are addresses: the call itself has to keep the tensors
    return partial(lambda kept: function(ins, outs, numbers, 0, last, columns), (*inputs, out))


def moved(inputs: Sequence[Tensor]) -> Definition:
    """What reads these tensors, writes one, and computes next to nothing."""
    if len(inputs) == 1:
        return Definition("Moved", lambda m, x, factor: x * factor, parameters={"factor": 1.0})
    return Definition("Moved", lambda m, x, residual: x + residual, operands=("residual",))


def onnx_call(body: str, inputs: Mapping[str, Tensor]) -> tuple[Call, Any]:
    """A call of a session, and its result."""
    sizes = [f"float[{','.join(map(str, value.shape))}] {name}" for name, value in inputs.items()]
    result = sizes[0].removesuffix(" x") + " y"
    model = parser.parse_model(
        f'<ir_version: 10, opset_import: ["": 23, "com.microsoft": 1]>'
        f"g ({', '.join(sizes)}) => ({result}) {{ {body} }}"
    )
    arrays = {name: value.numpy() for name, value in inputs.items()}
    session = load(model.SerializeToString())
    return bound(session, arrays), session.run(None, arrays)[0]


def _taken(out: Tensor) -> np.ndarray:
    """What a call has written; the next one that writes nothing is found out."""
    value = out.numpy().copy()
    out.fill_(torch.nan)
    return value


def ways(case: Case, definition: Definition, inputs: Mapping[str, Tensor], compiled: bool) -> Ways:
    """What is timed: WHO/HOW -> a call, and what gives its result."""
    op, values = case.operation, tuple(inputs.values())
    out = {name: torch.full_like(values[0], torch.nan) for name in ("torch", OURS)}
    found: Ways = {}
    for name in ("", *algorithms(definition.key)):
        call = native(definition, name, values, out[OURS], case.rows, case.columns)
        found[f"{OURS}/{name or 'loops'}"] = call, partial(_taken, out[OURS])
    eager = partial(op.torch, *values)
    found["torch/"] = eager, eager
    if op.preallocated:
        call = partial(op.preallocated, *values, out=out["torch"])
        found["torch/"] = call, partial(_taken, out["torch"])
    if compiled:
        torch._dynamo.reset()
        fast = partial(torch.compile(op.torch, dynamic=False), *values)
        found["inductor/"] = fast, fast
    for number, body in enumerate(op.onnx):
        call, result = onnx_call(body, inputs)
        found[f"onnxruntime/{number}"] = call, partial(np.asarray, result)
    if op.numpy:
        plain = partial(op.numpy, *(value.numpy() for value in values))
        found["numpy/"] = plain, plain
    return found
