"""Two models can be compared when they take the same inputs and give the same outputs."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from tautomer.errors import InputError


def check_signatures(a: ir.Model, b: ir.Model) -> None:
    """Compares names, types and ranks of inputs and outputs; their order does not matter.

    Raises:
        InputError: they differ; it names the first input or output that does.
    """
    _compare("input", _free_inputs(a), _free_inputs(b))
    _compare("output", a.graph.outputs, b.graph.outputs)


def _free_inputs(model: ir.Model) -> list[ir.Value]:
    return [value for value in model.graph.inputs if value.name not in model.graph.initializers]


def _compare(kind: str, ours: Sequence[ir.Value], theirs: Sequence[ir.Value]) -> None:
    first, second = ({str(value.name): value for value in values} for values in (ours, theirs))
    for name in [*first, *second]:
        if name not in first or name not in second:
            which = "second" if name in first else "first"
            raise InputError(
                f"the {which} model has no {kind} of that name",
                where=f"{kind} '{name}'",
                remedy=f"compare models with equal {kind}s; these have {sorted(first)} and {sorted(second)}",
            )
        _compare_types(f"{kind} '{name}'", first[name], second[name])


def _compare_types(where: str, a: ir.Value, b: ir.Value) -> None:
    if a.dtype is not None and b.dtype is not None and a.dtype != b.dtype:
        raise InputError(
            f"it is {a.dtype.name} in the first model and {b.dtype.name} in the second",
            where=where,
            remedy="export both models with the same types",
        )
    if a.shape is None or b.shape is None:
        return
    if len(a.shape) != len(b.shape):
        raise InputError(
            f"it has {len(a.shape)} axes in the first model and {len(b.shape)} in the second",
            where=where,
            remedy="export both models with the same inputs",
        )
    for axis, (m, n) in enumerate(zip(a.shape, b.shape, strict=True)):
        if isinstance(m, int) and isinstance(n, int) and m != n:
            raise InputError(
                f"its axis {axis} has {m} elements in the first model and {n} in the second",
                where=where,
                remedy="export both models with the same sizes",
            )
