"""Calls of one operation: our kernels, torch, inductor, onnxruntime and numpy, and a copy to compare with."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from typing import Any

import numpy as np
import onnx
import torch
from onnx import parser

import tautomer
from benchmarks.kernel_cases import Case, Operation, Tensor
from benchmarks.rowwise_cases import Region
from benchmarks.timing import bound, load
from tautomer.codegen.algorithms import algorithms
from tautomer.codegen.kernel import kernel_for
from tautomer.patterns.operation import ROW_OPERANDS, Definition, definitions
from tautomer.patterns.rowwise.places import places
from tautomer.patterns.rowwise.reading import definition_in
from tautomer.runtime import loaded
from tautomer.runtime.kernel_cache import library
from tautomer.runtime.onnxruntime.kernels import isa_of

OURS = "ours"
Call = Callable[[], Any]
Ways = dict[str, tuple[Call, Callable[[], Any]]]


def native(
    definition: Definition,
    algorithm: str,
    inputs: Sequence[Tensor],
    out: Sequence[Tensor],
    rows: int,
    columns: int,
    places: Sequence[int] = (),
) -> Call:
    """A call of a generated kernel whose arguments are made once."""
    kernel = kernel_for(definition, isa=isa_of("native"), algorithm=algorithm)
    function = loaded.load(library(kernel.text, kernel.flags), kernel.symbol)
    values = [*(definition.parameters[name] for name in kernel.parameters), *places]
    ins, outs = [(ctypes.c_void_p * len(a))(*(t.data_ptr() for t in a)) for a in (inputs, out)]
    last = rows if kernel.rows else rows * columns
    numbers = (ctypes.c_double * len(values))(*values)
    # the arguments are addresses: the call itself has to keep the tensors
    return partial(lambda kept: function(ins, outs, numbers, 0, last, columns), (*inputs, *out))


def moved(inputs: Sequence[Tensor], per_row: bool = False) -> Definition:
    """What reads these tensors, writes one or one number per row, and computes next to nothing."""
    if per_row:
        return Definition("Moved", lambda m, x: m.max(x), "folded")
    if len(inputs) == 1:
        return Definition("Moved", lambda m, x, factor: x * factor, parameters={"factor": 1.0})
    return Definition("Moved", lambda m, x, residual: x + residual, operands=("residual",))


def model_of(
    body: str, inputs: Mapping[str, Tensor], result_shape: Sequence[int] | None = None
) -> onnx.ModelProto:
    """A model that computes y, of the shape of x or another, from inputs of fixed sizes."""

    def sized(shape: Sequence[int], name: str) -> str:
        return f"float[{','.join(map(str, shape))}] {name}"

    sizes = [sized(value.shape, name) for name, value in inputs.items()]
    result = sized(inputs["x"].shape if result_shape is None else result_shape, "y")
    return parser.parse_model(
        f'<ir_version: 10, opset_import: ["": 23, "com.microsoft": 1]>'
        f"g ({', '.join(sizes)}) => ({result}) {{ {body} }}"
    )


def onnx_call(
    body: str, inputs: Mapping[str, Tensor], result_shape: Sequence[int] | None = None
) -> tuple[Call, Any]:
    """A call of a session, and its result."""
    model = model_of(body, inputs, result_shape)
    arrays = {name: value.numpy() for name, value in inputs.items()}
    session = load(model.SerializeToString())
    return bound(session, arrays), session.run(None, arrays)[0]


def taken(out: Tensor) -> np.ndarray:
    """What a call has written; the next one that writes nothing is found out."""
    value = out.numpy().copy()
    out.fill_(torch.nan)
    return value


@dataclass(frozen=True)
class Setting:
    """A case made ready.

    Attributes:
        definition: what the kernel computes.
        inputs: x and the other tensors, by name, in the order of torch's function.
        operands: the names in the order of the kernel's inputs.
        rows, columns: the size of the work.
        result: the shape of what it gives.
        places: where operands have what goes with a row.
    """

    definition: Definition
    inputs: Mapping[str, Tensor]
    operands: Sequence[str]
    rows: int
    columns: int
    result: Sequence[int]
    places: Sequence[int] = ()

    @property
    def given(self) -> list[Tensor]:
        """What the kernel reads."""
        return [self.inputs[name] for name in self.operands]

    @property
    def full(self) -> list[Tensor]:
        """The tensors of the size of x."""
        return [value for value in self.inputs.values() if value.numel() == self.inputs["x"].numel()]


def prepared(case: Case | Region) -> Setting:
    """The inputs of a case, and the definition of the kernel that computes it."""
    made = torch.Generator().manual_seed(1)
    if isinstance(case, Region):
        inputs = {"x": torch.randn(case.shape, generator=made) * case.operation.spread}
        inputs |= {name: torch.randn(shape, generator=made) for name, shape in case.others.items()}
        return _fused(case, inputs)
    definition = next(one for one in definitions() if one.key == case.operation.key)
    inputs = {"x": torch.randn(case.rows, case.columns, generator=made) * case.operation.spread}
    for name in definition.operands:
        shape = (case.columns,) if name in ROW_OPERANDS else (case.rows, case.columns)
        inputs[name] = torch.randn(shape, generator=made)
    return Setting(definition, inputs, list(inputs), case.rows, case.columns, inputs["x"].shape)


def _fused(case: Region, inputs: Mapping[str, Tensor]) -> Setting:
    """What the optimizer makes of the graph of a region: one operator."""
    source = model_of(case.operation.onnx[0], inputs, case.result)
    model = tautomer.optimize(source, target="kernels", verify=False).model
    (node,) = [node for node in model.graph if node.domain == "tautomer"]
    attributes = {name: attribute.as_int() for name, attribute in node.attributes.items()}
    definition = definition_in(model.functions[node.op_identifier()], attributes)
    x = inputs["x"]
    axes = -attributes.get("axis", 1 - x.ndim)
    columns = prod(x.shape[-axes:]) // attributes.get("groups", 1)
    sizes = {name: float(attributes[name]) for name in definition.parameters}
    names = [str(value.name) for value in node.inputs if value is not None]
    shapes = [tuple(inputs[name].shape) for name in names[1:]]
    kinds = [definition.kind(name) for name in definition.operands]
    return Setting(
        replace(definition, parameters=sizes),
        inputs,
        names,
        x.numel() // columns,
        columns,
        case.shape if case.result is None else case.result,
        places(kinds, shapes, case.shape, axes),
    )


def ways(op: Operation, setting: Setting, compiled: bool) -> Ways:
    """What is timed: WHO/HOW -> a call, and what gives its result."""
    definition, inputs = setting.definition, setting.inputs
    values = tuple(inputs.values())
    out = {name: torch.full(tuple(setting.result), torch.nan) for name in ("torch", OURS)}
    found: Ways = {}
    for name in ("", *algorithms(definition.key)):
        size = setting.rows, setting.columns
        call = native(definition, name, setting.given, [out[OURS]], *size, setting.places)
        found[f"{OURS}/{name or 'loops'}"] = call, partial(taken, out[OURS])
    eager = partial(op.torch, *values)
    found["torch/"] = eager, eager
    if op.preallocated:
        call = partial(op.preallocated, *values, out=out["torch"])
        found["torch/"] = call, partial(taken, out["torch"])
    if compiled:
        torch._dynamo.reset()
        fast = partial(torch.compile(op.torch, dynamic=False), *values)
        found["inductor/"] = fast, fast
    for number, body in enumerate(op.onnx):
        call, result = onnx_call(body, inputs, setting.result)
        found[f"onnxruntime/{number}"] = call, partial(np.asarray, result)
    if op.numpy:
        plain = partial(op.numpy, *(value.numpy() for value in values))
        found["numpy/"] = plain, plain
    return found
