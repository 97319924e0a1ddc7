"""Inputs for a model that obey what its graph asks of them.

An integer that indexes a table is drawn from below the table's length; masks are of 0 and 1; other floats are
standard normal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from tautomer.errors import InputError, TautomerError
from tautomer.graph.facts import Facts, bind_symbols, propagate
from tautomer.graph.symbols import size_of, unnamed
from tautomer.verify.input_roles import role_of
from tautomer.verify.input_sizes import candidate_sizes

_KEPT = 0.75  # of a mask's elements; the first of each row always, so that no row is empty
_REMEDY = "give the inputs as a file of arrays (--inputs FILE.npz)"


def make_inputs(model: ir.Model, sizes: Mapping[str, int], seed: int) -> dict[str, Any]:
    """Random inputs by name; the same seed gives the same inputs.

    Initializers that are also inputs keep their values.

    Args:
        model: the model.
        sizes: a size for each symbolic dimension, see `candidate_sizes`.
        seed: of the random numbers.

    Raises:
        InputError: an input has no shape, or a type that cannot be made, or decides shapes.
    """
    rng = np.random.default_rng(seed)
    facts = propagate(model, {**bind_symbols(model), **sizes})
    return {
        str(value.name): _made(value, sizes, facts, rng)
        for value in model.graph.inputs
        if value.name not in model.graph.initializers
    }


def _made(value: ir.Value, sizes: Mapping[str, int], facts: Facts, rng: np.random.Generator) -> Any:
    shape = _shape(value, sizes)
    dtype = value.dtype
    role = role_of(value, facts)
    if dtype is None or shape is None or not isinstance(value.type, ir.TensorType):
        raise _impossible(value, f"of type {value.type} and shape {value.shape}")
    if role.shaping and not dtype.is_floating_point():
        raise _impossible(value, "it decides the shapes of other values")
    if dtype.is_floating_point() and not role.mask:
        return rng.standard_normal(shape).astype(dtype.numpy())
    if not (dtype.is_floating_point() or dtype.is_integer() or dtype == ir.DataType.BOOL):
        raise _impossible(value, f"of type {dtype.name}")
    if role.high is not None and dtype.is_integer():
        made = rng.integers(role.low, max(role.high, role.low + 1), shape).astype(dtype.numpy())
        if role.ignored is not None:
            kept = rng.random(shape) < _KEPT
            kept[..., :1] = True
            made = np.where(kept, made, np.asarray(role.ignored, made.dtype))
        return made
    if role.mask or dtype == ir.DataType.BOOL:
        kept = rng.random(shape) < _KEPT
        if kept.ndim:
            kept[..., :1] = True
        return np.asarray(kept).astype(dtype.numpy())
    return rng.integers(0, max(shape[-1], 2) if shape else 2, shape).astype(dtype.numpy())


def _impossible(value: ir.Value, reason: str) -> InputError:
    return InputError(f"no value can be made for it: {reason}", where=f"input '{value.name}'", remedy=_REMEDY)


def _shape(value: ir.Value, sizes: Mapping[str, int]) -> tuple[int, ...] | None:
    if value.shape is None:
        return None
    found = []
    for axis, size in enumerate(value.shape):
        if isinstance(size, int) and size >= 0:
            found.append(size)
            continue
        symbol = unnamed(value, axis) if isinstance(size, int) or size.value is None else size.value
        number = size_of(symbol, sizes)
        if number is None or number < 0:
            raise _impossible(value, f"the size '{symbol}' is not known")
        found.append(number)
    return tuple(found)


def fitting_inputs(
    model: ir.Model, accepts: Callable[[dict[str, Any]], Any], seeds: Sequence[int] = (1, 2)
) -> tuple[dict[str, int], list[dict[str, Any]]]:
    """The first sizes with which the model runs, and inputs of these sizes for every seed.

    Args:
        model: the model.
        accepts: runs the model, and raises a TautomerError when it does not take the inputs.
        seeds: of the random numbers.

    Raises:
        InputError: an input cannot be made, or the model takes none of those that were made.
    """
    problem: TautomerError | None = None
    for sizes in candidate_sizes(model):
        made = [make_inputs(model, sizes, seed) for seed in seeds]
        try:
            for inputs in made:
                accepts(inputs)
        except TautomerError as error:
            problem = problem or error
            continue
        return sizes, made
    reason = "" if problem is None else f" ({problem.what})"
    raise InputError(f"the model takes none of the inputs made for it{reason}", remedy=_REMEDY) from problem
