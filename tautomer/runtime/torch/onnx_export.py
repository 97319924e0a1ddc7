"""Torch modules as ONNX: operators of ours become nodes that carry the function they compute.

torch's exporter inlines every function of a model on its way, so the bodies are put in when it is done.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import torch

from tautomer.codegen.torch.attention import FORWARD as ATTENTION
from tautomer.codegen.torch.operators import NAMESPACE, OPERATORS, TorchOperator, forward, kernel
from tautomer.errors import InputError, MissingToolError
from tautomer.graph.call import call_of
from tautomer.graph.writer import write_model
from tautomer.patterns.attention.body import function_of_attention
from tautomer.patterns.attention.operators import operator_named
from tautomer.patterns.meaning import named
from tautomer.patterns.onnx_body import CASTLIKE_SINCE, DOMAIN, DOMAIN_VERSION, function_of
from tautomer.patterns.operation import Definition
from tautomer.runtime.torch.attention_rules import overload as attention_overload
from tautomer.runtime.torch.compat import onnx_recorder
from tautomer.runtime.torch.exported import Module, export
from tautomer.runtime.torch.onnx_attention import translate_attention
from tautomer.runtime.torch.ops_rules import overload

OPSET = 20  # what torch writes by itself
_FLOATS = ["tensor(float)", "tensor(float16)", "tensor(bfloat16)", "tensor(double)"]
_ABSENT = {"scale": 1.0, "bias": 0.0}
Translation = Callable[..., Any]


def export_onnx(
    module: Module,
    example_inputs: Sequence[Any] | None = None,
    path: str | Path | None = None,
    *,
    dynamic_shapes: Any = None,
    opset_version: int = OPSET,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    force: bool = False,
) -> ir.Model:
    """Exports a module as torch.onnx.export(dynamo=True) does; the result runs on any ONNX runtime.

    Operators of ours are ONNX's own where this opset has them, and otherwise those of the domain `tautomer`,
    whose functions the model holds.

    Args:
        module: in inference mode, or an ExportedProgram; what `tautomer.optimize` gave, or any other.
        example_inputs: what its forward takes.
        path: where to write it, whole or not at all; None does not.
        dynamic_shapes: as torch.export takes them.
        opset_version: of ONNX.
        input_names: of the model, in order; torch's if there are none.
        output_names: the same.
        force: whether a file that exists is written over.

    Raises:
        MissingToolError: onnxscript is not installed.
        InputError: the module cannot be exported, the opset is too old, or the file exists.
        ResourceError: the file cannot be written.
    """
    if opset_version < CASTLIKE_SINCE:
        raise InputError(f"opset {opset_version} is too old", remedy=f"choose {CASTLIKE_SINCE} or newer")
    if find_spec("onnxscript") is None:
        raise MissingToolError("torch exports to ONNX by onnxscript", remedy="pip install onnxscript")
    exported = export(module, example_inputs, dynamic_shapes)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of torch's exporter, about torch
        program = torch.onnx.export(
            exported.source,
            exported.example,
            dynamo=True,
            dynamic_shapes=None if isinstance(module, torch.export.ExportedProgram) else dynamic_shapes,
            opset_version=opset_version,
            input_names=input_names,
            output_names=output_names,
            custom_translation_table=onnx_translations(),
            verbose=False,
        )
    assert program is not None
    model = with_bodies(program.model)
    if path is not None:
        write_model(model, Path(path), force=force)
    return model


def onnx_translations() -> dict[Callable[..., Any], Translation]:
    """For torch.onnx.export(custom_translation_table=...): the operators of ours that torch knows by now.

    The nodes that they give get their functions from `with_bodies`.
    """
    known = getattr(torch.ops, NAMESPACE)
    attention = {attention_overload(): translate_attention} if hasattr(known, ATTENTION) else {}
    return attention | {
        overload(signature): _translation(operator)
        for operator in OPERATORS
        for signature in (forward(operator), kernel(operator))
        if hasattr(known, signature.name)
    }


def with_bodies(model: ir.Model) -> ir.Model:
    """Gives a model the functions of the operators of ours that it calls; changed in place, and returned."""
    version = model.opset_imports[""]
    for node in model.graph.all_nodes():
        attention = operator_named(node.op_type) if node.domain == DOMAIN else None
        if attention is not None:
            made = function_of_attention(attention, version)
            model.functions.setdefault(made.identifier(), made)
            continue
        found = named(call_of(node, version)) if node.domain == DOMAIN else None
        if found is None:
            continue
        definition, _ = found
        node.overload = "_".join(definition.attributes.values())  # variants have one name, and two functions
        if node.op_identifier() not in model.functions:
            made = function_of(definition, version)
            made.overload = node.overload
            model.functions[made.identifier()] = made
    return model


def _translation(operator: TorchOperator) -> Translation:
    """Writes the node of one call, in the exporter's evaluator."""
    definition = operator.definition
    count = 1 + len(definition.operands)

    def translate(*arguments: Any) -> Any:
        recorder = onnx_recorder()
        x = arguments[0]
        operands = [
            _absent(recorder.opset, x, _ABSENT[name]) if given is None else given
            for name, given in zip(definition.operands, arguments[1:count], strict=True)
        ]
        of_one_type = all(one.dtype in (None, x.dtype) for one in operands)
        version = recorder.opset.version
        in_onnx = not definition.domain and definition.since <= version and of_one_type
        attributes = dict(zip(definition.parameters, arguments[count:], strict=True))
        attributes |= definition.attributes
        if definition.rows:
            attributes["axis"] = -1
        schema = onnx.defs.get_schema(definition.op, version) if in_onnx else _schema(definition)
        outputs = recorder.eval(schema, (x, *operands), attributes)
        # ONNX's own norms give more than was asked for
        several = isinstance(outputs, Sequence) and len(definition.results) == 1
        return outputs[0] if several else outputs

    return translate


def _absent(op: Any, x: Any, number: float) -> Any:
    """A row of one number, in the type of x, in the place of a scale or bias that is left out."""
    value = ir.tensor(np.full(1, number, x.dtype.numpy()), dtype=x.dtype)
    return op.ConstantOfShape(op.Shape(x, start=-1), value=value)


def _schema(definition: Definition) -> onnx.defs.OpSchema:
    """The operator of the domain `tautomer`, as the exporter wants to know it."""
    defs = onnx.defs.OpSchema
    inputs = ("x", *definition.operands)
    kinds = {float: defs.AttrType.FLOAT, str: defs.AttrType.STRING, int: defs.AttrType.INT}
    attributes: dict[str, Any] = {**definition.parameters, **definition.attributes}
    if definition.rows:
        attributes["axis"] = -1
    return defs(
        definition.op,
        DOMAIN,
        DOMAIN_VERSION,
        inputs=[defs.FormalParameter(name, f"T_{name}") for name in inputs],
        outputs=[defs.FormalParameter(name, "T_x") for name in definition.results],
        type_constraints=[(f"T_{name}", _FLOATS, "") for name in inputs],
        attributes=[
            defs.Attribute(name, kinds[type(value)], "", required=True) for name, value in attributes.items()
        ],
    )
