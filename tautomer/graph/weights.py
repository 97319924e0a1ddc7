"""A model's weights apart from its graph: out of it while it is serialized, and written by themselves.

onnx-ir would copy each weight into a message, and protobuf again into bytes. Here the graph is serialized
with placeholders in the weights' places, and each weight goes from where it is straight to the file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import BinaryIO

import numpy as np
import onnx_ir as ir

from tautomer.errors import InternalError
from tautomer.graph.computed_tensor import ComputedTensor
from tautomer.graph.holes import copy_stored, write_array
from tautomer.graph.naming import printable

StandIn = Callable[[ir.TensorProtocol], ir.TensorProtocol | None]

_PAGE = 4096
_WORTH_A_PAGE = 1 << 20
_SMALL_STEP = 64


class DataLayout:
    """Where each tensor goes in a data file; what is shared in the source stays shared."""

    def __init__(self, location: str) -> None:
        """Args: location: the name of the data file, as the model will give it."""
        self.location = location
        self.placed: list[tuple[int, ir.TensorProtocol]] = []
        self._end = 0
        self._known: dict[object, tuple[int, ir.TensorProtocol]] = {}

    def place(self, tensor: ir.TensorProtocol) -> ir.ExternalTensor:
        """Gives the tensor a place; returns what stands for it in the graph."""
        identity: object = id(tensor)
        if isinstance(tensor, ir.ExternalTensor):
            identity = (tensor.path, tensor.offset or 0, tensor.nbytes)
        if identity not in self._known:
            # whole pages for what is worth mapping on its own, cache lines for the rest
            step = _PAGE if tensor.nbytes >= _WORTH_A_PAGE else _SMALL_STEP
            offset = -(-self._end // step) * step
            self._known[identity] = (offset, tensor)  # holding the tensor keeps its id its own
            self.placed.append((offset, tensor))
            self._end = offset + tensor.nbytes
        return placeholder(tensor, self.location, self._known[identity][0])

    def write(self, file: BinaryIO) -> None:
        """Writes every tensor to its place, one at a time."""
        for offset, tensor in self.placed:
            file.write(bytes(offset - file.tell()))
            write_values(tensor, file)


def placeholder(tensor: ir.TensorProtocol, location: str = "", offset: int = 0) -> ir.ExternalTensor:
    """A tensor of the same type and shape whose values are elsewhere."""
    return ir.ExternalTensor(
        location,
        offset,
        tensor.nbytes,
        tensor.dtype,
        shape=ir.Shape(tensor.shape.numpy()),
        name=tensor.name or "",
        doc_string=tensor.doc_string,
        metadata_props=dict(tensor.metadata_props) or None,
    )


def write_values(tensor: ir.TensorProtocol, file: BinaryIO) -> None:
    """Writes the tensor as raw data."""
    begin = file.tell()
    if isinstance(tensor, ir.ExternalTensor):
        copy_stored(tensor, file)
    elif isinstance(tensor, ComputedTensor):
        for slab in tensor.slabs():
            write_array(slab, file)
    elif isinstance(tensor, ir.Tensor) and tensor.dtype.bitwidth >= 8:
        write_array(np.asarray(tensor.numpy()), file)
    else:
        file.write(tensor.tobytes())
    if file.tell() - begin != tensor.nbytes:
        raise InternalError(
            f"wrote {file.tell() - begin} bytes for {tensor.nbytes}",
            where=f"tensor {printable(tensor.name or '')}",
            remedy="please report this",
        )


@contextmanager
def replaced(
    values: Iterable[ir.Value], attributes: Iterable[tuple[ir.Node, ir.Attr]], stand_in: StandIn
) -> Iterator[list[ir.TensorProtocol]]:
    """Puts stand-ins in the places of tensors, and the tensors back at the end of the block.

    Args:
        values: initialized values.
        attributes: tensor attributes and their nodes.
        stand_in: what to put in a tensor's place, None to leave it.

    Yields:
        The tensors of the values that were replaced, in order.
    """
    weights: list[tuple[ir.Value, ir.TensorProtocol]] = []
    constants: list[tuple[ir.Node, ir.Attr]] = []
    try:
        for value in values:
            tensor = value.const_value
            if tensor is not None and (other := stand_in(tensor)) is not None:
                weights.append((value, tensor))
                value.const_value = other
        for node, attribute in list(attributes):
            constants.append((node, attribute))
            new = [stand_in(tensor) or tensor for tensor in tensors_of(attribute)]
            node.attributes[attribute.name] = ir.Attr(
                attribute.name,
                attribute.type,
                new if attribute.type == ir.AttributeType.TENSORS else new[0],
                doc_string=attribute.doc_string,
            )
        yield [tensor for _, tensor in weights]
    finally:
        for value, tensor in weights:
            value.const_value = tensor
        for node, attribute in constants:
            node.attributes[attribute.name] = attribute


def survey(model: ir.Model) -> tuple[list[ir.Value], list[tuple[ir.Node, ir.Attr]]]:
    """The initialized values and the attributes with external data, of every graph and function."""
    values: list[ir.Value] = []
    attributes: list[tuple[ir.Node, ir.Attr]] = []
    pending = [model.graph, *(function.graph for function in model.functions.values())]
    while pending:
        graph = pending.pop()
        values += graph.initializers.values()
        for node in graph:
            for attribute in node.attributes.values():
                if attribute.type == ir.AttributeType.GRAPH and not attribute.is_ref():
                    pending.append(attribute.value)
                elif attribute.type == ir.AttributeType.GRAPHS and not attribute.is_ref():
                    pending += attribute.value
                elif any(isinstance(tensor, ir.ExternalTensor) for tensor in tensors_of(attribute)):
                    attributes.append((node, attribute))
    return values, attributes


def tensors_of(attribute: ir.Attr) -> Sequence[ir.TensorProtocol]:
    """The tensors that the attribute holds, if any."""
    if attribute.type == ir.AttributeType.TENSORS:
        return tuple(attribute.value or ())
    return (
        (attribute.value,)
        if attribute.type == ir.AttributeType.TENSOR and attribute.value is not None
        else ()
    )
