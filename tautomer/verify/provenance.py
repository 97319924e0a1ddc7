"""What constants of a rewritten model stand for, and what takes their place in exact arithmetic.

A folded constant is rounded, so a graph with it is another function in exact arithmetic. What is compared is
the expression; that the stored numbers are its correct rounding is checked apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx_ir as ir

from tautomer.errors import BadModelError
from tautomer.graph.expression import Expression, constant_tensor
from tautomer.graph.semantics.casts import lift
from tautomer.verify.weights import is_weight, randomised

Array = np.ndarray[Any, Any]
Provenance = Mapping[str, Expression]


def provenance_from_json(document: Mapping[str, Any]) -> dict[str, Expression]:
    """Reads the expressions of a certificate.

    Raises:
        BadModelError: one of them is none.
    """
    try:
        return {str(name): Expression.from_json(one) for name, one in document.items()}
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise BadModelError(
            f"an expression in the certificate cannot be read ({error})", remedy="optimize the model again"
        ) from error


def weight(m: Any, stored: Array, seed: int | None) -> Any:
    """A stored tensor, or the random one that takes its place."""
    return lift(m, randomised(stored, seed) if seed is not None and is_weight(stored) else stored)


def sources_of(model: ir.Model) -> dict[str, ir.TensorProtocol]:
    """The stored constants of a model by name, in all its graphs."""
    found: dict[str, ir.TensorProtocol] = {}
    for graph in model.graphs():
        for value in [*graph.initializers.values(), *(value for node in graph for value in node.outputs[:1])]:
            tensor = constant_tensor(value)
            if tensor is not None:
                found.setdefault(str(value.name), tensor)
    return found


def written_in_nodes(model: ir.Model) -> frozenset[str]:
    """The names of constants that are nodes: part of the graph, so that no random weight replaces them."""
    return frozenset(
        str(node.outputs[0].name) for graph in model.graphs() for node in graph if node.op_type == "Constant"
    )


def reader(
    m: Any,
    sources: Mapping[str, ir.TensorProtocol],
    seed: int | None,
    fixed: frozenset[str] = frozenset(),
) -> Callable[[str], Any]:
    """Gives expressions the stored constants they name.

    Args:
        m: the domain.
        sources: the constants.
        seed: of the random ones that take the place of weights; None keeps the weights.
        fixed: names of constants that stay as they are all the same.

    Raises:
        BadModelError: when called, there is no such constant.
    """

    def read(name: str) -> Any:
        if name not in sources:
            raise BadModelError(
                f"an expression speaks of a constant '{name}' that the original model does not have",
                remedy="optimize the model again",
            )
        return weight(m, np.asarray(sources[name].numpy()), None if name in fixed else seed)

    return read
