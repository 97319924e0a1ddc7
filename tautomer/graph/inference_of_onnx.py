"""Shapes of rare operators by the onnx package's own inference, one node at a time."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
import onnx_ir as ir

from tautomer.graph.call import Call
from tautomer.graph.fact import Fact, Shape

_LARGEST_ATTRIBUTE = 4096  # elements: a node that carries more is not copied for this
_MISTAKEN = {"STFT"}  # onnx takes it for two-sided when it is one-sided

Signature = tuple[Sequence[Shape | None], Sequence[ir.DataType | None]]


def infer(node: ir.Node, call: Call, inputs: Sequence[Fact | None]) -> Signature:
    """Shapes and types of a node's outputs; empty when onnx does not know the operator or cannot tell."""
    if call.op_type in _MISTAKEN or not onnx.defs.has(call.op_type, call.domain):
        return [], []
    if any(_large(a) for a in node.attributes.values()):
        return [], []
    try:
        schema = onnx.defs.get_schema(
            call.op_type, call.version or onnx.defs.onnx_opset_version(), call.domain
        )
        proto = ir.to_proto(node)
        names = ["" if fact is None else f"i{i}" for i, fact in enumerate(inputs)]
        del proto.input[:], proto.output[:]
        proto.input.extend(names)
        proto.output.extend(f"o{i}" for i in range(len(node.outputs)))
        types, data = {}, {}
        for name, fact in zip(names, inputs, strict=True):
            if fact is None or fact.dtype is None:
                continue
            types[name] = onnx.helper.make_tensor_type_proto(int(fact.dtype), fact.shape)
            if fact.array is not None:
                data[name] = onnx.numpy_helper.from_array(fact.array.astype(fact.dtype.numpy()), name)
        imports = [onnx.helper.make_opsetid(call.domain, call.version or onnx.defs.onnx_opset_version())]
        found = onnx.shape_inference.infer_node_outputs(schema, proto, types, data, opset_imports=imports)
    except Exception:  # it raises whatever it likes: then nothing is known
        return [], []
    return (
        [_shape(found.get(f"o{i}")) for i in range(len(node.outputs))],
        [_type(found.get(f"o{i}")) for i in range(len(node.outputs))],
    )


def _large(attribute: ir.Attr) -> bool:
    return attribute.type == ir.AttributeType.TENSOR and attribute.as_tensor().size > _LARGEST_ATTRIBUTE


def _shape(proto: onnx.TypeProto | None) -> Shape | None:
    if proto is None or not proto.HasField("tensor_type") or not proto.tensor_type.HasField("shape"):
        return None
    sizes = proto.tensor_type.shape.dim
    return tuple(d.dim_value for d in sizes) if all(d.HasField("dim_value") for d in sizes) else None


def _type(proto: onnx.TypeProto | None) -> ir.DataType | None:
    if proto is None or not proto.HasField("tensor_type") or not proto.tensor_type.elem_type:
        return None
    return ir.DataType(proto.tensor_type.elem_type)
