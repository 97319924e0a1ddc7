"""Inputs for a model that obey what its graph asks of them.

An integer that indexes a table is drawn from below the table's length; what a graph compares, negates,
counts or selects by is a mask of 0 and 1; other floats are standard normal. What an input is for is read off
the nodes that it reaches, never off its name.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from tautomer.errors import InputError, TautomerError
from tautomer.graph.facts import Facts, bind_symbols, propagate
from tautomer.graph.naming import printable
from tautomer.graph.symbols import size_of, unnamed
from tautomer.verify.roles import Role, role_of, table_length

__all__ = ["candidate_sizes", "fitting_inputs", "make_inputs", "parse_npz", "table_length"]

_SMALL_SIZES = (2, 5, 7, 3, 11, 6)
_KEPT = 0.75  # of a mask's elements; the first of each row always, so that no row is empty


def make_inputs(model: ir.Model, sizes: Mapping[str, int], seed: int) -> dict[str, Any]:
    """Random inputs by name; the same seed gives the same inputs.

    Initializers that are also inputs keep their values.

    Args:
        model: the model.
        sizes: a size for each symbolic dimension, see `candidate_sizes`.
        seed: of the random numbers.

    Raises:
        InputError: an input has no shape, a type that cannot be made, or decides shapes.
    """
    rng = np.random.default_rng(seed)
    facts = propagate(model, {**bind_symbols(model), **sizes})
    return {
        str(value.name): _made(value, sizes, facts, rng)
        for value in model.graph.inputs
        if value.name not in model.graph.initializers
    }
