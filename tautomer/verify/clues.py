"""What a user should look at where two graphs part: the order of elements, an attribute, a constant."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx_ir as ir

from tautomer.graph.naming import printable
from tautomer.verify.fingerprint import Divergence, Prints
from tautomer.verify.weights import content

_NUMBERS = (ir.AttributeType.FLOAT, ir.AttributeType.INT)


def clue(divergence: Divergence, original: Prints, other: Prints, model: ir.Model) -> str:
    """One sentence, or "" where there is none.

    Args:
        divergence: where they part.
        original: fingerprints of the model that it names.
        other: those of the second model.
        model: the second model.
    """
    consumed, node = divergence.consumed, divergence.value.producer()
    if node is None:
        return ""
    if consumed is not None and consumed in original.of:
        same = [value for value, print_ in other.of.items() if print_ == original.of[consumed]]
        readers = [(v, user) for v in same for user, _ in v.uses() if user.op_type == node.op_type]
        if readers and all(other.order[v] != original.order[consumed] for v, _ in readers):
            return (
                f"the elements of '{printable(str(consumed.name))}' are in another order in the second model"
            )
        for _, reader in readers:
            for name, ours in node.attributes.items():
                theirs = reader.attributes.get(name)
                if ours.type in _NUMBERS and theirs is not None and theirs.value != ours.value:
                    return f"its {name} is {ours.value:g}, and {theirs.value:g} in the second model"
    for value in node.inputs:
        array = None if value is None else _floats(value.const_value)
        if value is None or array is None:
            continue
        own = content(array)
        if all(own != content(theirs) for theirs in _constants(model) if theirs.size == array.size):
            return f"its constant '{printable(str(value.name))}' is not in the second model"
    return ""


def _constants(model: ir.Model) -> Iterator[np.ndarray[Any, Any]]:
    """The stored floats of a model, in initializers and in nodes."""
    for graph in (*model.graphs(), *(function.graph for function in model.functions.values())):
        for value in graph.initializers.values():
            if (array := _floats(value.const_value)) is not None:
                yield array
        for node in graph:
            for attribute in node.attributes.values() if node.op_type == "Constant" else ():
                if attribute.type == ir.AttributeType.TENSOR:
                    array = _floats(attribute.as_tensor())
                    if array is not None:
                        yield array
                elif attribute.type in (ir.AttributeType.FLOAT, ir.AttributeType.FLOATS):
                    yield np.asarray(attribute.value, np.float32)


def _floats(tensor: ir.TensorProtocol | None) -> np.ndarray[Any, Any] | None:
    if tensor is None or not tensor.dtype.is_floating_point():
        return None
    return np.asarray(tensor.numpy())
