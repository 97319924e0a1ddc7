"""The first run of an operator's kernels: values and gradients against the definition in float64.

Gradients are checked without differentiating anything: by central differences of the definition, which in
float64 leave errors far below what a kernel has.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from tautomer.codegen.gradient import GRADIENT, GRADIENT_OF_SUM
from tautomer.codegen.torch.operators import TorchOperator, backward, forward, gradient_of
from tautomer.graph.semantics.mathematics import Float64
from tautomer.patterns.operation import ROW_OPERANDS
from tautomer.patterns.rows import apply_all
from tautomer.runtime.first_run import Trial, first_run
from tautomer.runtime.kernel_cache import Check

_ROWS, _COLUMNS = 12, 37  # no multiple of any vector
_MANY_COLUMNS = 4133  # several blocks of what works on blocks, and a part of one
_STEP = 1e-5
_TYPES: dict[str, Any] = {"float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}
# How far a result may be off, relative to the largest of its row: a kernel that is wrong is off by more, and
# how exact a right one is, is not asked here.
_OFF = {"float32": 1e-4, "float16": 4e-3, "bfloat16": 3e-2}

Values = dict[str, NDArray[Any]]


def check_of(operator: TorchOperator, dtype: str, forwards: Sequence[str], backwards: Sequence[str]) -> Check:
    """What `kernel_cache.library` wants to know of an operator's library.

    Args:
        operator: the operator.
        dtype: what its tensors are stored as.
        forwards: the functions of the library that compute its result.
        backwards: those that compute its gradient.
    """

    def reasons(library: Path) -> Iterable[str | None]:
        for number, symbol in enumerate(forwards):
            for columns in (_COLUMNS, _MANY_COLUMNS) if number else (_COLUMNS,):
                yield _forward(library, symbol, operator, dtype, columns)
        for symbol in backwards:
            yield _backward(library, symbol, operator, dtype)

    def check(library: Path) -> str | None:
        reason = next(filter(None, reasons(library)), None)
        return f"{operator.name} of {dtype}: {reason}" if reason else None

    return check


def _forward(library: Path, symbol: str, operator: TorchOperator, dtype: str, columns: int) -> str | None:
    given, numbers = _inputs(operator, dtype, columns)
    expected = list(_defined(operator, _wide(given), numbers))
    program = forward(operator).program
    shapes = [((_ROWS, columns), _TYPES[dtype])] * (len(program.names) - len(program.totals))
    trial = _trial(symbol, list(given.values()), shapes, numbers, program.rows, columns)
    return first_run(library, trial, lambda outputs: _compared(outputs, expected, dtype))


def _backward(library: Path, symbol: str, operator: TorchOperator, dtype: str) -> str | None:
    given, numbers = _inputs(operator, dtype, _COLUMNS)
    random = np.random.default_rng(1)
    seeds = {
        name: np.asarray(random.standard_normal((_ROWS, _COLUMNS)), _TYPES[dtype])
        for name in (GRADIENT, GRADIENT_OF_SUM)
    }
    program, found = backward(operator).program, gradient_of(operator)
    outputs = _defined(operator, _wide(given), numbers)
    taken = given | seeds
    taken["x"] = np.asarray(outputs[-1 if len(outputs) > 1 else 0], _TYPES[dtype])
    if not found.from_result and len(outputs) == 1:
        taken["x"] = given["x"]
    if len(outputs) > 1:
        # the sum is read as it was stored
        given = given | {"x": taken["x"], "residual": np.zeros_like(taken["x"])}
    expected = _differences(operator, _wide(given), _wide(seeds), numbers, found.of)
    rows = _ROWS // 2 if program.totals else _ROWS  # totals are of the rows of the last call
    shapes: list[tuple[tuple[int, ...], Any]] = [((_ROWS, _COLUMNS), _TYPES[dtype])] * (
        len(program.names) - len(program.totals)
    )
    shapes += [((_COLUMNS,), np.float32)] * len(program.totals)
    wanted = [
        value[:rows].sum(0) if name in ROW_OPERANDS else value
        for name, value in zip(found.of, expected, strict=True)
    ]
    inputs = [taken[name] for name in ("x", *program.operands)]
    trial = _trial(symbol, inputs, shapes, numbers, program.rows, _COLUMNS)
    return first_run(library, trial, lambda outputs: _compared(outputs, wanted, dtype))


def _inputs(operator: TorchOperator, dtype: str, columns: int) -> tuple[Values, dict[str, float]]:
    """Rows of different sizes, so that none hides behind another; numbers that are not the defaults."""
    random = np.random.default_rng(0)
    spread = 4.0 ** (np.arange(_ROWS) % 5 - 2)[:, None]
    program = forward(operator).program
    values: Values = {}
    for name in ("x", *program.operands):
        if name in ROW_OPERANDS:
            values[name] = np.asarray(random.standard_normal(columns), np.float32)
        else:
            values[name] = np.asarray(random.standard_normal((_ROWS, columns)) * spread, _TYPES[dtype])
    parameters = operator.definition.parameters
    return values, {name: float(np.float32(value * 1.5 or 0.25)) for name, value in parameters.items()}


def _wide(values: Values) -> Values:
    return {name: value.astype(np.float64) for name, value in values.items()}


def _defined(operator: TorchOperator, values: Values, numbers: dict[str, float]) -> tuple[NDArray[Any], ...]:
    """The outputs by definition."""
    program = forward(operator).program
    return apply_all(
        operator.definition,
        Float64(),
        values["x"],
        axes=(-1,) if program.rows else (),
        operands={name: values[name] for name in program.operands},
        parameters=numbers,
    )


def _differences(
    operator: TorchOperator, values: Values, seeds: Values, numbers: dict[str, float], names: tuple[str, ...]
) -> list[NDArray[Any]]:
    """The derivative of sum(y * gradient) + sum(sum * sum_gradient) by each element, each row by itself."""

    def loss(changed: Values) -> NDArray[Any]:
        outputs = _defined(operator, changed, numbers)
        weights = [seeds[GRADIENT], seeds[GRADIENT_OF_SUM]]
        terms = [y * weight for y, weight in zip(outputs, weights, strict=False)]
        return np.asarray(sum(terms))

    found = []
    for name in names:
        columns = values[name].shape[-1]
        slopes = np.empty((_ROWS, columns))
        for column in range(columns):
            step = np.zeros(columns)
            step[column] = _STEP
            up, down = (loss(values | {name: values[name] + sign * step}) for sign in (1.0, -1.0))
            slopes[:, column] = (up - down).sum(-1) / (2.0 * _STEP)
        found.append(slopes)
    return found


def _trial(
    symbol: str,
    inputs: list[NDArray[Any]],
    outputs: Sequence[tuple[tuple[int, ...], Any]],
    numbers: dict[str, float],
    rows: bool,
    columns: int,
) -> Trial:
    size = (_ROWS, columns) if rows else (_ROWS * columns, 1)
    return Trial(symbol, inputs, outputs, [*numbers.values()], *size)


def _compared(outputs: list[NDArray[Any]], expected: Sequence[NDArray[Any]], dtype: str) -> str | None:
    for index, (output, right) in enumerate(zip(outputs, expected, strict=True)):
        off = np.abs(output.astype(np.float64) - right)
        worst = float(np.max(off / (_OFF[dtype] * np.abs(right).max(-1, keepdims=True) + 1e-30)))
        if not worst <= 1:
            return f"output {index} is off by {worst:.3g} times what is allowed"
    return None
