"""The kernels of a new library, each run once against its definition before any model may use them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from tautomer.codegen.onnxruntime.library import ATTENTION, GATE, OrtKernel, OrtOther
from tautomer.graph.semantics.mathematics import Float64
from tautomer.patterns.operation import WHOLE_PARAMETERS
from tautomer.patterns.rows import apply_all
from tautomer.patterns.rowwise.places import places
from tautomer.runtime import attention_check
from tautomer.runtime.first_run import Trial, first_run
from tautomer.runtime.kernel_cache import Check
from tautomer.runtime.onnxruntime import gate as ort_gate
from tautomer.runtime.onnxruntime import sparse as ort_sparse
from tautomer.runtime.onnxruntime.candidates import Wanted

_ROWS, _COLUMNS = 12, 37  # no multiple of any vector
_GROUPS, _SEGMENTS = 3, 2
_MANY_COLUMNS = 4133  # several blocks of what works on blocks, and a part of one
# How far a result may be off, relative to the largest of its row: a kernel that is wrong is off by more, and
# how exact a right one is, is not asked here.
_OFF = {"FLOAT": 1e-4, "FLOAT16": 4e-3, "BFLOAT16": 3e-2}
# A formula may subtract what is nearly equal on some of the inputs. Beside that it may be off by so many
# times what inputs that are off by one unit make of the row, for the roundings on the way.
_ROUNDINGS = 8.0
_SMALL = 0.01  # a parameter that adds to nothing what could be told from rounding


def check_of(kernels: Sequence[tuple[Wanted, OrtKernel]], others: Sequence[OrtOther] = ()) -> Check:
    """What `kernel_cache.library` wants to know of a library of these kernels."""

    def check(library: Path) -> str | None:
        for family, symbol, element_type, op in dict.fromkeys(
            (one.family, one.symbol, one.element_type, one.op if one.family is ATTENTION else "")
            for one in others
        ):
            if family is ATTENTION:
                reason = attention_check.check_operator(library, symbol, element_type, op)
            else:
                own = ort_gate if family is GATE else ort_sparse
                reason = own.check(library, symbol, element_type)
            if reason:
                return reason
        for wanted, kernel in kernels:
            trials = [(symbol, _COLUMNS) for symbol, _ in dict.fromkeys(kernel.functions)]
            trials += [(symbol, _MANY_COLUMNS) for symbol, _ in trials[1:]]
            reasons = (_reason(library, wanted, kernel, *trial) for trial in trials)
            reason = next(filter(None, reasons), None)
            if reason:
                return f"{wanted.definition.key} of {wanted.element_type}: {reason}"
        return None

    return check


@dataclass(frozen=True)
class _Rows:
    """The shapes that a kernel is tried on, so that they broadcast against each other.

    Attributes:
        grouped: whether rows are those of groups: [examples, groups, segments, the rest]; otherwise x is
            [examples, some of each, columns].
        columns: of a row; of a part of it where rows are those of groups.
    """

    grouped: bool
    columns: int

    @property
    def axes(self) -> tuple[int, ...]:
        """The axes of a row."""
        return (-2, -1) if self.grouped else (-1,)

    @property
    def parameters(self) -> dict[str, float]:
        """How rows are cut."""
        return dict(zip(WHOLE_PARAMETERS, (float(_GROUPS), float(_SEGMENTS)), strict=True))

    def shape(self, kind: str) -> tuple[int, ...]:
        """The shape of a tensor that goes with x like this."""
        examples = _ROWS // _GROUPS
        if self.grouped:
            return {
                "full": (examples, _GROUPS, _SEGMENTS, self.columns),
                "column": (examples, _GROUPS, 1, 1),
                "segment": (_GROUPS, _SEGMENTS, 1),
            }.get(kind, (1,))
        return {
            "full": (examples, _GROUPS, self.columns),
            "block": (examples, 1, self.columns),
            "column": (examples, _GROUPS, 1),
            "row": (self.columns,),
        }.get(kind, (1,))

    def places(self, kinds: Sequence[str]) -> tuple[int, ...]:
        """Where operands of these kinds have what goes with a row."""
        x, *shapes = ((_ROWS, *self.shape(kind)[2:]) if self.grouped else self.shape(kind) for kind in kinds)
        return places(kinds[1:], shapes, x, 1)


def _reason(library: Path, wanted: Wanted, kernel: OrtKernel, symbol: str, columns: int) -> str | None:
    """Why a function of the kernel must not be used, or None."""
    definition = wanted.definition
    dtype = ir.DataType[wanted.element_type].numpy()
    random = np.random.default_rng(0)

    def numbers(*shape: int) -> NDArray[Any]:
        # rows of different sizes, so that none hides behind another
        spread = 4.0 ** (np.arange(shape[0]) % 5 - 2)
        return np.asarray(random.standard_normal(shape) * spread.reshape(-1, *[1] * (len(shape) - 1)), dtype)

    rows = _Rows(definition.rows == "groups", columns)
    inputs = [numbers(*rows.shape(kind)) for kind in ("full", *kernel.kinds)]
    # not the defaults: a kernel that ignores its parameters is wrong, and so is one with an epsilon elsewhere
    changed = {name: value * 1.5 if abs(value) > _SMALL else 0.25 for name, value in kernel.parameters}
    parameters = {name: float(np.float32(value)) for name, value in changed.items()}
    parameters |= {name: size for name, size in rows.parameters.items() if name in parameters}

    def exactly(arrays: Sequence[NDArray[Any]]) -> list[NDArray[np.float64]]:
        x, *operands = (array.astype(np.float64) for array in arrays)
        given = dict(zip(kernel.operands, operands, strict=True))
        axes = rows.axes if definition.rows else ()
        found = apply_all(definition, Float64(), x, axes=axes, operands=given, parameters=parameters)
        return [np.asarray(one, np.float64).reshape(_ROWS, -1) for one in found]

    def at_thresholds(arrays: list[NDArray[Any]]) -> list[NDArray[Any]]:
        # on which side a threshold is, only the threshold itself shows
        x, *operands = arrays
        x.reshape(-1)[: len(parameters)] = list(parameters.values())
        for part, operand in zip(x[1:], operands, strict=False):
            if operand.ndim <= part.ndim:
                part[..., : columns // 2] = operand[..., : columns // 2]
        return arrays

    expected = exactly(at_thresholds(inputs))
    for first in (1, 0):  # roots and logarithms, of variances for instance, are tried where they are numbers
        if any(np.isnan(one).any() for one in expected):
            inputs[first:] = [np.abs(array) for array in inputs[first:]]
            expected = exactly(inputs)

    unit = float(ml_dtypes.finfo(dtype).eps)  # type: ignore[no-untyped-call]
    moved_by = [array * (1.0 + unit * random.choice((-1.0, 1.0), array.shape)) for array in inputs]
    nudged = exactly(at_thresholds(moved_by))

    def compare(outputs: list[NDArray[Any]]) -> str | None:
        worst = 0.0
        for output, exact, near in zip(outputs, expected, nudged, strict=True):
            found = output.astype(np.float64)
            if (np.isnan(found) != np.isnan(exact)).any():
                return "it gives NaN elsewhere than it should"
            off = np.nan_to_num(np.abs(found - exact))
            allowed = _OFF[wanted.element_type] * np.nan_to_num(np.abs(exact)).max(-1, keepdims=True)
            with np.errstate(invalid="ignore"):
                moved = np.nan_to_num(np.abs(near - exact)).max(-1, keepdims=True)
            allowed = allowed + _ROUNDINGS * moved
            worst = max(worst, float(np.max(off / (allowed + 1e-30))))
        return None if worst <= 1 else f"it is off by {worst:.3g} times what is allowed"

    elements = inputs[0].size
    size = (_ROWS, elements // _ROWS) if definition.rows else (elements, 1)
    outputs = [((_ROWS, elements // _ROWS if kind == "full" else 1), dtype) for kind in kernel.results]
    may_be_nan = any(bool(np.isnan(one).any()) for one in expected)
    given = [*parameters.values(), *rows.places(("full", *kernel.kinds))]
    trial = Trial(symbol, inputs, outputs, given, *size, may_be_nan)
    return first_run(library, trial, compare)
