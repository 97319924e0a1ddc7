"""Gates of mixtures of experts for onnxruntime: which nodes a kernel can run, and the kernel's first run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from tautomer.codegen.gate_kernel import FORMS, gate_kernel
from tautomer.codegen.isa import Isa
from tautomer.codegen.onnxruntime.library import GATE, OrtOther
from tautomer.graph.facts import Facts
from tautomer.patterns.expert_gate import INPUTS, LOGITS, MOST_EXPERTS, SHARES, is_gate, is_written_by_us
from tautomer.runtime.first_run import Trial, first_run

knows = is_gate
ELEMENT_TYPES = ("FLOAT",)
_ROWS = 36  # in two calls: of each, the last two rows fill no vector
# experts, and how many of them are chosen: less than a vector, a whole one, a tail, all of them
_SIZES = ((3, 3), (8, 1), (37, 5))
_OFF = 1e-5  # relative to the weight: sums of a row are a few roundings off, a kernel that is wrong is more


def misfit(node: ir.Node, function: ir.Function | None, facts: Facts) -> str:
    """Why no kernel runs a node, as far as that is known ahead, or ""."""
    inputs = [value for value in node.inputs if value is not None]
    if len(inputs) != len(INPUTS) or len(node.inputs) != len(inputs) or len(node.outputs) != 2:
        return "it does not have the inputs and outputs of its definition"
    types = [facts.get(value).dtype or value.dtype for value in inputs]
    if types != [ir.DataType.FLOAT, ir.DataType.INT64]:
        return "its element types are not known, or not those that kernels are written for"
    shape = facts.get(inputs[0]).shape
    if shape is not None and (not shape or shape[-1] > MOST_EXPERTS):
        return f"a row has more than {MOST_EXPERTS} elements" if shape else "a number has no rows"
    foreign = function is not None and not is_written_by_us(function)
    return "its function is not the one that its name says" * foreign


def entry(op: str, element_type: str, isa: Isa) -> tuple[OrtOther, tuple[str, ...]]:
    """A gate as a library takes it, and what the compiler needs to be told."""
    kernel = gate_kernel(isa)
    types = (element_type, "INT64")
    details = (str(FORMS.index(op)),)
    made = OrtOther(GATE, op, INPUTS, kernel.symbol, kernel.text, element_type, details, types, types)
    return made, kernel.flags


def check(path: Path, symbol: str, element_type: str) -> str | None:
    """Why a kernel must not be used, or None; see `kernel_cache.library`."""
    for op in FORMS:
        for experts, k in _SIZES:
            if reason := _reason(path, symbol, op, experts, k):
                return f"{op} of {element_type}, {k} of {experts} experts: {reason}"
    return None


def _reason(path: Path, symbol: str, op: str, experts: int, k: int) -> str | None:
    x = _scores(experts)
    wanted = list(_gates(op, x, k))
    weights, places = (np.array(each) for each in zip(*wanted, strict=True))

    def compare(found: list[NDArray[Any]]) -> str | None:
        if not np.array_equal(found[1], places):
            return "it chooses others"
        near = np.isclose(found[0].astype(np.float64), weights, rtol=_OFF, atol=0.0, equal_nan=True)
        return None if near.all() else "its weights are others"

    outputs = [(places.shape, np.float32), (places.shape, np.int64)]
    numbers = [float(k), float(FORMS.index(op))]
    return first_run(path, Trial(symbol, [x], outputs, numbers, _ROWS, experts, may_be_nan=True), compare)


def _scores(experts: int) -> NDArray[np.float32]:
    """Scores far enough apart for their order to be certain, equal ones, and some that are no numbers."""
    random = np.random.default_rng(0)
    x = random.permuted(np.tile(np.arange(experts, dtype=np.float32) / 32, (_ROWS, 1)), axis=1)
    for row in (1, 16):
        x[row] = x[0] // 0.5  # many are equal
    for row in (2, 17):
        x[row, ::2] = -np.inf
    for row in (3, 34):
        x[row, experts // 2] = np.nan
    for row in (4, 35):
        x[row] = np.where(np.arange(experts) == experts // 2, 150.0, -x[0])  # the others' are zero
    x[5], x[6], x[7, experts - 1] = -2.0, -np.inf, np.inf
    return x


def _gates(op: str, x: NDArray[np.float32], k: int) -> Iterator[tuple[NDArray[np.float64], NDArray[Any]]]:
    """Weights and places of each row, by the definition."""
    for row in x:
        scores = row.astype(np.float64) if op == LOGITS else _softmax(row).astype(np.float32)
        places = np.argsort(np.where(np.isnan(scores), -np.inf, -scores), kind="stable")[:k]
        chosen = (_softmax(row[places]) if op == LOGITS else _softmax(row)[places]).astype(np.float64)
        yield chosen / (chosen.sum() if op == SHARES else 1.0), places


def _softmax(row: NDArray[np.float32]) -> NDArray[np.float64]:
    """In float64, and without what float32 may not hold."""
    with np.errstate(all="ignore"):
        e = np.exp(row.astype(np.float64) - row.max())
        p = e / e.sum()
    return np.where(p < np.finfo(np.float32).tiny, 0.0, p)
