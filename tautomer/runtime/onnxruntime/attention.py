"""Attention for onnxruntime: which nodes a kernel can run, and the kernel as a library takes it."""

from __future__ import annotations

import json
from dataclasses import replace

import onnx_ir as ir

from tautomer.codegen.attention.kernel import attention_kernel
from tautomer.codegen.isa import Isa
from tautomer.codegen.onnxruntime.library import ATTENTION, OrtOther
from tautomer.codegen.storage import DTYPE_OF
from tautomer.errors import InternalError
from tautomer.graph.facts import Facts
from tautomer.patterns.attention.body import is_written_by_us
from tautomer.patterns.attention.operators import AttentionOperator, operator_named

ELEMENT_TYPES = tuple(DTYPE_OF)
# of inputs that have another type than q
_TYPES = {"lengths": "INT64", "slopes": "FLOAT", "sink": "FLOAT"}


def knows(op: str) -> bool:
    """Whether an operator of the domain `tautomer` is a form of attention."""
    return operator_named(op) is not None


def operator_of(op: str, element_type: str) -> AttentionOperator:
    """The operator of that name, for tensors of a type.

    Raises:
        InternalError: there is none.
    """
    operator = operator_named(op)
    if operator is None or element_type not in DTYPE_OF:
        raise InternalError(f"no kernel of attention for {element_type}", where=op)
    return replace(operator, form=replace(operator.form, dtype=DTYPE_OF[element_type]))


def misfit(node: ir.Node, function: ir.Function | None, facts: Facts) -> str:
    """Why no kernel runs a node, as far as that is known ahead, or ""."""
    operator = operator_named(node.op_type)
    assert operator is not None
    inputs = [value for value in node.inputs if value is not None]
    if not len(inputs) == len(node.inputs) == len(operator.inputs) or len(node.outputs) != 1:
        return "it does not have the inputs of its form"
    types = [facts.get(value).dtype or value.dtype for value in inputs]
    first = types[0]
    if first is None or first.name not in DTYPE_OF:
        return "its element type is not known, or not one that kernels are written for"
    if [None if kind is None else kind.name for kind in types] != list(_input_types(operator, first.name)):
        return "an input has another type than its form says"
    for name, kind in operator.attributes.items():
        attribute = node.attributes.get(name)
        wanted = ir.AttributeType.FLOAT if kind is float else ir.AttributeType.INT
        if attribute is None or attribute.is_ref() or attribute.type != wanted:
            return f"its attribute {name} is missing, or not of its type"
    shapes = [facts.get(value).shape for value in inputs[:3]]
    if any(shape is not None and len(shape) != 4 for shape in shapes):
        return "q, k or v has not four axes"
    foreign = function is not None and not is_written_by_us(function)
    return "its function is not the one that its name says" * foreign


def entry(op: str, element_type: str, isa: Isa) -> tuple[OrtOther, tuple[str, ...]]:
    """A form of attention as a library takes it, and what the compiler needs to be told."""
    operator = operator_of(op, element_type)
    form = operator.form
    kernel = attention_kernel(form, isa)
    truths = (bool(form.mask), form.function.second is None, form.softcap, form.window, bool(form.power))
    details = (json.dumps(operator.layouts), *(str(truth).lower() for truth in truths))
    types = _input_types(operator, element_type)
    made = OrtOther(ATTENTION, op, operator.inputs, kernel.symbol, kernel.text, element_type, details, types)
    return made, kernel.flags


def _input_types(operator: AttentionOperator, element_type: str) -> tuple[str, ...]:
    own = {**_TYPES, "mask": "BOOL" if operator.form.mask == "boolean" else element_type}
    return tuple(own.get(name, element_type) for name in operator.inputs)
