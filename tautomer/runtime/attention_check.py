"""The first run of a kernel of attention, against its formula."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from tautomer.codegen.attention.numbers import numbers_of, units_of
from tautomer.patterns.attention.form import AttentionForm, attend
from tautomer.patterns.recognition.evaluation import FLOAT64
from tautomer.runtime.first_run import Trial, first_run
from tautomer.runtime.onnxruntime.attention import operator_of

_TYPES: dict[str, Any] = {"float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}
# How far a result may be off, relative to the largest. In float32, kernels of all forms were off by up to
# 1.2e-6 at these sizes; of narrow types, it is the rounding of results, and of weights where these are pairs.
_OFF = {"float32": 1e-5, "float16": 4e-3, "bfloat16": 3e-2}
_BATCH, _HEADS, _KV_HEADS, _DEPTH, _WIDTH = 2, 4, 2, 21, 13  # no multiple of any vector
# rows, keys, rows of a unit, parts of the keys: several tiles and blocks, one query, and keys in parts
_SIZES = ((9, 151, 12, 1), (1, 70, 1, 1), (1, 300, 6, 3))
_SCRATCH = 1 << 20  # bytes; these sizes need a quarter of it
_NUMBERS = {"scale": 0.3, "bias": -0.75, "softcap": 2.0, "window": 40.0, "free": 3.0}


def check_operator(library: Path, symbol: str, element_type: str, op: str) -> str | None:
    """Why the kernel of an operator must not be used, or None; see `kernel_cache.library`."""
    return check(library, symbol, operator_of(op, element_type).form)


def check(library: Path, symbol: str, form: AttentionForm) -> str | None:
    """The same of the kernel of a form."""
    for rows, columns, block, splits in _SIZES:
        if splits > 1 and form.function.second is not None:
            continue
        reason = _reason(library, symbol, form, rows, columns, block, splits)
        if reason:
            return f"attention with {form.score} of {form.dtype}, {rows} queries and {columns} keys: {reason}"
    return None


def _reason(
    library: Path, symbol: str, form: AttentionForm, rows: int, columns: int, block: int, splits: int
) -> str | None:
    tensors, more = _inputs(form, rows, columns)
    shape = (_BATCH, _HEADS, rows, _WIDTH)
    numbers = {name: number for name, number in _NUMBERS.items() if name != "softcap" or form.softcap}
    wide = {
        name: array if array.dtype in (bool, np.int64) else array.astype(np.float64)
        for name, array in (tensors | more).items()
    }
    exact = np.asarray(attend(FLOAT64, form, **wide, **numbers))  # type: ignore[arg-type]
    sized = tensors | {"y": np.empty(shape, _TYPES[form.dtype])}
    sized |= {"mask": more["mask"]} if form.mask else {}
    parameters = numbers_of(sized, block=block, splits=splits, **numbers)
    units = units_of(tensors["q"].shape, _KV_HEADS, block, splits)
    outputs: list[tuple[tuple[int, ...], Any]] = [
        (shape, _TYPES[form.dtype]),
        ((*shape[:3], 2), np.float32),
        ((_SCRATCH,), np.uint8),
        ((units, block, _WIDTH + 32), np.float32),  # a width of whole vectors, and two numbers
    ]
    arrays = [*tensors.values(), *more.values()]

    def compare(found: list[NDArray[Any]]) -> str | None:
        y = found[0].astype(np.float64)
        if (np.isnan(y) != np.isnan(exact)).any():
            return "it gives NaN elsewhere than it should"
        off = float(np.nanmax(np.abs(y - exact)))
        allowed = _OFF[form.dtype] * float(np.nanmax(np.abs(exact)))
        return (
            None if off <= allowed else f"it is off by {off / (allowed or 1e-300):.3g} times what is allowed"
        )

    then = (f"{symbol}_joined", units // splits) if splits > 1 else None
    trial = Trial(symbol, arrays, outputs, parameters, units, 0, may_be_nan=True, then=then)
    return first_run(library, trial, compare)


def _inputs(
    form: AttentionForm, rows: int, columns: int
) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
    """q, k and v, and what else the form has, in the kernel's order."""
    random, dtype = np.random.default_rng(0), _TYPES[form.dtype]

    def normal(*shape: int) -> NDArray[Any]:
        return random.standard_normal(shape).astype(dtype)

    tensors = {
        "q": normal(_BATCH, _HEADS, rows, _DEPTH),
        "k": normal(_BATCH, _KV_HEADS, columns, _DEPTH),
        "v": normal(_BATCH, _KV_HEADS, columns, _WIDTH),
    }
    more: dict[str, NDArray[Any]] = {}
    if form.mask:
        mask = normal(_BATCH, 1, rows, columns)
        more["mask"] = mask if form.mask == "additive" else mask > -0.7
    if form.lengths:
        more["lengths"] = np.array([columns // 2, columns], np.int64)
    if form.alibi:
        more["slopes"] = np.float32(2.0) ** -np.arange(1, _HEADS + 1, dtype=np.float32)
    if form.sink:
        more["sink"] = random.standard_normal(_HEADS).astype(np.float32)
    return tensors, more


def check_gradient(library: Path, symbol: str, form: AttentionForm) -> str | None:
    """Why the gradient of a kernel must not be used, or None.

    It is compared with central differences of the formula along random directions, in float64.
    """
    rows, columns = 9, 151
    tensors, more = _inputs(form, rows, columns)
    dtype, numbers = _TYPES[form.dtype], {"scale": 0.3, "bias": -0.75, "window": 40.0}
    random = np.random.default_rng(1)
    shape = (_BATCH, _HEADS, rows, _WIDTH)
    dy = random.standard_normal(shape).astype(dtype)

    def attended(**changed: NDArray[Any]) -> NDArray[Any]:
        wide = {
            name: array if array.dtype in (bool, np.int64) else array.astype(np.float64)
            for name, array in (tensors | more | changed).items()
        }
        return np.asarray(attend(FLOAT64, form, **wide, **numbers))  # type: ignore[arg-type]

    y = attended().astype(dtype)
    statistics = _statistics(form, library, symbol, tensors, more, numbers, shape)
    if isinstance(statistics, str):
        return statistics
    sized = tensors | {"y": y} | ({"mask": more["mask"]} if form.mask else {})
    parameters = numbers_of(sized, block=rows * (_HEADS // _KV_HEADS), splits=1, **numbers)
    outputs: list[tuple[tuple[int, ...], Any]] = [(array.shape, dtype) for array in tensors.values()]
    outputs.append(((_SCRATCH,), np.uint8))

    def compare(found: list[NDArray[Any]]) -> str | None:
        for (name, array), gradient in zip(tensors.items(), found, strict=False):
            for _ in range(3):
                direction = random.standard_normal(array.shape)
                wide = array.astype(np.float64)
                up, down = (attended(**{name: wide + sign * 1e-5 * direction}) for sign in (1.0, -1.0))
                expected = float(((up - down) * dy.astype(np.float64)).sum() / 2e-5)
                off = abs(float((gradient.astype(np.float64) * direction).sum()) - expected)
                allowed = 3.0 * _OFF[form.dtype] * float(np.linalg.norm(gradient.astype(np.float64)))
                if not off <= allowed:
                    times = off / (allowed or 1e-300)
                    return f"the gradient of {name} is off by {times:.3g} times what is allowed"
        return None

    arrays = [*tensors.values(), *more.values(), y, dy, statistics]
    trial = Trial(f"{symbol}_backward", arrays, outputs, parameters, _BATCH * _KV_HEADS, 0, may_be_nan=True)
    return first_run(library, trial, compare)


def _statistics(
    form: AttentionForm,
    library: Path,
    symbol: str,
    tensors: dict[str, NDArray[Any]],
    more: dict[str, NDArray[Any]],
    numbers: dict[str, float],
    shape: tuple[int, ...],
) -> NDArray[Any] | str:
    """What the forward kernel leaves for the gradient, or why it does not."""
    kept: list[NDArray[Any]] = []

    def keep(found: list[NDArray[Any]]) -> None:
        kept.append(found[1])

    dtype = _TYPES[form.dtype]
    sized = tensors | {"y": np.empty(shape, dtype)} | ({"mask": more["mask"]} if form.mask else {})
    parameters = numbers_of(sized, block=12, splits=1, **numbers)
    units = units_of(tensors["q"].shape, _KV_HEADS, 12)
    outputs: list[tuple[tuple[int, ...], Any]] = [
        (shape, dtype),
        ((*shape[:3], 2), np.float32),
        ((_SCRATCH,), np.uint8),
        ((1,), np.float32),
    ]
    trial = Trial(symbol, [*tensors.values(), *more.values()], outputs, parameters, units, 0, may_be_nan=True)
    return first_run(library, trial, keep) or kept[0]
