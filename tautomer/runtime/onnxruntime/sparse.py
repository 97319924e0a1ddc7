"""Sparse linear maps for onnxruntime: which nodes a kernel can run, and the kernel's first run.

A first run calls each function of a kernel on its own, and judges the product by the definition.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from tautomer.codegen.isa import Isa
from tautomer.codegen.onnxruntime.library import SPARSE, OrtOther
from tautomer.codegen.sparse.kernel import sparse_kernel
from tautomer.codegen.storage import DTYPE_OF
from tautomer.graph.facts import Facts
from tautomer.patterns.sparse_linear import FEW, INPUTS, TYPES, is_sparse
from tautomer.runtime.first_run import Trial, first_run
from tautomer.runtime.kernel_cache import library

knows = is_sparse
ELEMENT_TYPES = tuple(DTYPE_OF)
# How far a result may be off, relative to the largest of its row: a kernel that is wrong is off by more.
_OFF = {"FLOAT": 1e-5, "FLOAT16": 4e-3, "BFLOAT16": 3e-2}
_INPUTS, _NEURONS, _OUTPUTS, _MANY_ROWS = 51, 75, 37, 13  # no multiple of any vector or tile
_Seen = tuple[NDArray[Any], Any]  # what is expected, and its type


def misfit(node: ir.Node, function: ir.Function | None, facts: Facts) -> str:
    """Why no kernel runs a node, as far as that is known ahead, or ""."""
    inputs = [value for value in node.inputs if value is not None]
    if len(inputs) != len(INPUTS[node.op_type]) or len(node.inputs) != len(inputs) or len(node.outputs) != 1:
        return "it does not have the inputs of its definition"
    types = {facts.get(value).dtype or value.dtype for value in inputs}
    if len(types) != 1 or not types <= set(TYPES):
        return "its element type is not known, or not one that kernels are written for"
    ranks = [facts.get(inputs[index]).shape for index in ((1,) if len(inputs) == 3 else (2, 4))]
    if any(shape is not None and len(shape) != 2 for shape in ranks):
        return "a weight is no matrix"
    return ""


def entry(op: str, element_type: str, isa: Isa) -> tuple[OrtOther, tuple[str, ...]]:
    """A sparse linear map as a library takes it, and what the compiler needs to be told."""
    kernel = sparse_kernel(DTYPE_OF[element_type], isa)
    return OrtOther(SPARSE, op, INPUTS[op], kernel.symbol, kernel.text, element_type), kernel.flags


def kernel_library(element_type: str, isa: Isa) -> tuple[Path, str]:
    """The library of a kernel alone, checked, and what the names of its functions begin with.

    Raises:
        TautomerError: there is none.
    """
    kernel = sparse_kernel(DTYPE_OF[element_type], isa)

    def checked(path: Path) -> str | None:
        return check(path, kernel.symbol, element_type)

    return library(kernel.text, kernel.flags, check=checked), kernel.symbol


def check(path: Path, symbol: str, element_type: str) -> str | None:
    """Why a kernel must not be used, or None; see `kernel_cache.library`."""
    one = _FirstRuns(path, symbol, element_type)
    reason = one.few() or one.many()
    return f"a sparse product of {element_type}: {reason}" if reason else None


class _FirstRuns:
    """The functions of a kernel, each run once.

    Args:
        library, symbol: where they are.
        element_type: of all tensors.
    """

    def __init__(self, library: Path, symbol: str, element_type: str) -> None:
        self._library, self._symbol, self._off = library, symbol, _OFF[element_type]
        self._dtype = ir.DataType[element_type].numpy()
        self._random = np.random.default_rng(0)
        self._weight, self._up = self._numbers(_NEURONS, _OUTPUTS), self._numbers(_NEURONS, _INPUTS)
        self._bias, self._up_bias = self._numbers(_OUTPUTS), self._numbers(_NEURONS)

    def few(self) -> str | None:
        """The functions for a few rows, for each number of rows."""
        return next(filter(None, map(self._of_rows, range(1, FEW + 1))), None)

    def many(self) -> str | None:
        """Those for many rows."""
        x, h = self._numbers(_MANY_ROWS, _INPUTS), self._sparse(_MANY_ROWS)
        y = _wide(h) @ _wide(self._weight) + _wide(self._bias)
        gated = _wide(h) * (_wide(x) @ _wide(self._up).T + _wide(self._up_bias))
        return self._run(
            "_many",
            [h, self._weight, self._bias],
            [_MANY_ROWS, _NEURONS],
            _OUTPUTS,
            _OUTPUTS,
            [(y, self._dtype)],
        ) or self._run(
            "_gated_many",
            [x, self._up, self._up_bias, h],
            [_MANY_ROWS, _INPUTS],
            _NEURONS,
            _NEURONS,
            [(gated, self._dtype)],
        )

    def _of_rows(self, rows: int) -> str | None:
        x, h = self._numbers(rows, _INPUTS), self._sparse(rows)
        places = np.flatnonzero((h != 0).any(0)).astype(np.int32)
        factors = np.ascontiguousarray(_wide(h).T[places], np.float32)
        met, number = len(places), float(rows)
        listed = np.full((_NEURONS, rows), np.nan)
        listed[:met] = factors
        where = np.full(_NEURONS, np.nan)
        where[:met] = places
        dots = factors * (_wide(x) @ _wide(self._up).T + _wide(self._up_bias)).T[places]
        part = met // 2
        halves = [factors[a:b].T @ _wide(self._weight)[places[a:b]] for a, b in ((0, part), (part, met))]
        sums = np.asarray(halves, np.float32)
        y = sums.sum(0) + _wide(self._bias)
        seen: list[_Seen] = [(listed, np.float32), (where, np.int32), (np.array([met]), np.int64)]
        return (
            self._run("_met", [h, x], [number, _INPUTS, 0.0], 1, _NEURONS, seen)
            or self._run(
                "_dots",
                [x, factors, places, self._up, self._up_bias],
                [number],
                met,
                _INPUTS,
                [(dots, np.float32)],
            )
            or self._run(
                "", [factors, places, self._weight], [number, part], met, _OUTPUTS, [(sums, np.float32)]
            )
            or self._run("_join", [sums, self._bias], [number, 2.0], _OUTPUTS, _OUTPUTS, [(y, self._dtype)])
        )

    def _run(
        self,
        part: str,
        inputs: list[NDArray[Any]],
        parameters: Sequence[float],
        rows: int,
        columns: int,
        expected: Sequence[_Seen],
    ) -> str | None:
        """One function; where NaN is expected, anything may be."""

        def compare(found: list[NDArray[Any]]) -> str | None:
            for output, (exact, _) in zip(found, expected, strict=True):
                known = ~np.isnan(exact)
                off = np.abs(_wide(output)[known] - exact[known]).max()
                if not off <= self._off * np.abs(exact[known]).max():
                    return f"SYMBOL{part} is off by {off:.3g}"
            return None

        outputs = [(exact.shape, kind) for exact, kind in expected]
        trial = Trial(self._symbol + part, inputs, outputs, parameters, rows, columns, may_be_nan=True)
        return first_run(self._library, trial, compare)

    def _numbers(self, *shape: int) -> NDArray[Any]:
        return np.asarray(self._random.standard_normal(shape), self._dtype)

    def _sparse(self, rows: int) -> NDArray[Any]:
        shape = rows, _NEURONS
        return np.where(self._random.random(shape) < 0.3, self._numbers(*shape), 0).astype(self._dtype)


def _wide(array: NDArray[Any]) -> NDArray[np.float64]:
    return array.astype(np.float64)
