"""The kernels of a new library, each run once against its definition before any model may use them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from tautomer.codegen.ort_library import OrtKernel
from tautomer.graph.semantics.mathematics import Float64
from tautomer.patterns.operation import ROW_OPERANDS
from tautomer.patterns.rows import apply_all
from tautomer.runtime.first_run import Trial, first_run
from tautomer.runtime.kernel_cache import Check
from tautomer.runtime.ort_candidates import Wanted

_ROWS, _COLUMNS = 12, 37  # no multiple of any vector
_MANY_COLUMNS = 4133  # several blocks of what works on blocks, and a part of one
# How far a result may be off, relative to the largest of its row: a kernel that is wrong is off by more, and
# how exact a right one is, is not asked here.
_OFF = {"FLOAT": 1e-4, "FLOAT16": 4e-3, "BFLOAT16": 3e-2}


def check_of(kernels: Sequence[tuple[Wanted, OrtKernel]]) -> Check:
    """What `kernel_cache.library` wants to know of a library of these kernels."""

    def check(library: Path) -> str | None:
        for wanted, kernel in kernels:
            trials = [(symbol, _COLUMNS) for symbol, _ in dict.fromkeys(kernel.functions)]
            trials += [(symbol, _MANY_COLUMNS) for symbol, _ in trials[1:]]
            reasons = (_reason(library, wanted, kernel, *trial) for trial in trials)
            reason = next(filter(None, reasons), None)
            if reason:
                return f"{wanted.definition.key} of {wanted.element_type}: {reason}"
        return None

    return check


def _reason(library: Path, wanted: Wanted, kernel: OrtKernel, symbol: str, columns: int) -> str | None:
    """Why a function of the kernel must not be used, or None."""
    definition = wanted.definition
    dtype = ir.DataType[wanted.element_type].numpy()
    random = np.random.default_rng(0)

    def numbers(*shape: int) -> NDArray[Any]:
        # rows of different sizes, so that none hides behind another
        spread = 4.0 ** (np.arange(shape[0]) % 5 - 2)
        return np.asarray(random.standard_normal(shape) * spread.reshape(-1, *[1] * (len(shape) - 1)), dtype)

    shapes = [(columns,) if name in ROW_OPERANDS else (_ROWS, columns) for name in kernel.operands]
    inputs = [numbers(_ROWS, columns), *(numbers(*shape) for shape in shapes)]
    # not the defaults: a kernel that ignores its parameters is wrong
    parameters = {name: float(np.float32(value * 1.5 or 0.25)) for name, value in kernel.parameters}
    expected = apply_all(
        definition,
        Float64(),
        inputs[0].astype(np.float64),
        axes=(-1,) if kernel.rows else (),
        operands={n: v.astype(np.float64) for n, v in zip(kernel.operands, inputs[1:], strict=True)},
        parameters=parameters,
    )

    def compare(outputs: list[NDArray[Any]]) -> str | None:
        worst = 0.0
        for output, exact in zip(outputs, expected, strict=True):
            off = np.abs(output.astype(np.float64) - exact)
            allowed = _OFF[wanted.element_type] * np.abs(exact).max(-1, keepdims=True)
            worst = max(worst, float(np.max(off / (allowed + 1e-30))))
        return None if worst <= 1 else f"it is off by {worst:.3g} times what is allowed"

    size = (_ROWS, columns) if kernel.rows else (_ROWS * columns, 1)
    outputs = [((_ROWS, columns), dtype)] * kernel.results
    trial = Trial(symbol, inputs, outputs, [*parameters.values()], *size)
    return first_run(library, trial, compare)
