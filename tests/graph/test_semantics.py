"""Primitive operators against ONNX's own test cases, which its reference implementation answered."""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from tautomer.graph.call import call_of
from tautomer.graph.semantics.casts import lift
from tautomer.graph.semantics.domain import is_float
from tautomer.graph.semantics.mathematics import Float64
from tautomer.graph.semantics.table import Unsupported, evaluate, meaning_of

M = Float64()
PLAIN = {np.dtype(kind) for kind in "?bhilBHILfd"}

# The expected outputs were computed in float32 by formulas of numpy's: sums over some hundred elements and
# quotients of them are right to a few hundred units in the last place (2^-24 = 6e-8) and no better.
RELATIVE, ABSOLUTE = 2e-5, 2e-6

# Expected outputs that were written down to four digits.
COARSE = {"test_averagepool_2d_ceil_last_window_starts_on_pad": 5e-4}

# Expected outputs that contradict the text: positions between corners are divided by a length with a
# fraction there, while the text, and onnxruntime, say the length of the resized axis.
CONTRADICTED = {
    "test_resize_downsample_scales_linear_align_corners",
    "test_resize_downsample_scales_cubic_align_corners",
}

# Forms that the table refuses: (case name prefix) -> the reason it must give.
REFUSED = {
    "test_batchnorm_example_training_mode": "training mode",
    "test_batchnorm_epsilon_training_mode": "training mode",
    "test_training_dropout": "training mode",
    "test_maxpool_with_argmax": "positions of the maxima",
    "test_constant_of_string": "neither",
}


def _plain(arrays: Any) -> bool:
    return all(isinstance(a, np.ndarray) and a.dtype in PLAIN for a in arrays)


@cache
def cases() -> dict[str, Any]:
    """Every case whose graph is primitive operators on plain tensors."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some cases are made by overflowing on purpose
        from onnx.backend.test.case.node import collect_testcases

        found = collect_testcases(None)
    kept = {}
    for case in found:
        if case.model is None or case.model.functions or case.name in CONTRADICTED:
            continue
        nodes = case.model.graph.node
        if all(meaning_of(node.domain, node.op_type) for node in nodes) and all(
            _plain(inputs) and _plain(outputs) for inputs, outputs in case.data_sets
        ):
            kept[case.name] = case
    return kept


class Boxed:
    """A value that shows nothing but arithmetic."""

    def __init__(self, array: Any) -> None:
        self.array = np.asarray(array, dtype=np.float64)

    def __add__(self, other: Any) -> Boxed:
        return Boxed(self.array + _open(other))

    def __sub__(self, other: Any) -> Boxed:
        return Boxed(self.array - _open(other))

    def __mul__(self, other: Any) -> Boxed:
        return Boxed(self.array * _open(other))

    def __truediv__(self, other: Any) -> Boxed:
        return Boxed(self.array / _open(other))

    def __rsub__(self, other: Any) -> Boxed:
        return Boxed(other - self.array)

    def __rtruediv__(self, other: Any) -> Boxed:
        return Boxed(other / self.array)

    def __neg__(self) -> Boxed:
        return Boxed(-self.array)

    __radd__, __rmul__ = __add__, __mul__


def _open(x: Any) -> Any:
    if isinstance(x, Boxed):
        return x.array
    assert isinstance(x, (int, float)), f"a value met a bare {type(x).__name__}"
    return x


class Opaque:
    """A domain whose values are no arrays: a meaning that leaves the protocol fails in it."""

    def is_value(self, x: Any) -> bool:
        return isinstance(x, Boxed)

    def constant(self, x: Any) -> Boxed:
        assert not isinstance(x, Boxed)
        return Boxed(M.constant(x))

    def concrete(self, x: Boxed) -> Any:
        return x.array.copy()

    def shape(self, x: Boxed) -> tuple[int, ...]:
        return x.array.shape

    def move(self, f: Any, *xs: Boxed) -> Boxed:
        # two dtypes, as a domain of several slabs would use; neither may change what is moved where
        exact = f(*(x.array.astype(object) for x in xs))
        assert exact.dtype == object
        return Boxed(f(*(x.array for x in xs)))

    def where(self, condition: Any, a: Any, b: Any) -> Boxed:
        assert condition.dtype == bool
        return Boxed(np.where(condition, _open(a), _open(b)))

    def compare(self, op: str, a: Any, b: Any) -> Any:
        return M.compare(op, _open(a), _open(b))

    def isnan(self, x: Boxed) -> Any:
        return M.isnan(x.array)

    def isinf(self, x: Boxed) -> Any:
        return M.isinf(x.array)

    def __getattr__(self, name: str) -> Any:
        method = getattr(M, name)

        def boxed(*xs: Any) -> Boxed:
            values = [_open(x) if isinstance(x, Boxed) else x for x in xs]
            assert not any(isinstance(x, np.ndarray) for x in xs), f"{name} of a bare array"
            return Boxed(method(*values))

        return boxed


def run(m: Any, model: ir.Model, inputs: list[np.ndarray[Any, Any]]) -> list[Any]:
    """Evaluates the main graph of a model in a domain."""
    environment: dict[ir.Value | None, Any] = {None: None}
    for value, array in zip(model.graph.inputs, inputs, strict=False):
        environment[value] = lift(m, array)
    for value in model.graph.initializers.values():
        assert value.const_value is not None
        environment[value] = lift(m, value.const_value.numpy())
    for node in model.graph:
        call = call_of(node, model.opset_imports[node.domain])
        outputs = evaluate(m, call, [environment[value] for value in node.inputs])
        environment.update(zip(node.outputs, outputs, strict=False))
    return [environment[value] for value in model.graph.outputs]


def _narrows(model: ir.Model) -> bool:
    """True when a cast rounds to a type that float64 arithmetic does not imitate."""
    return any(
        node.op_type == "Cast"
        and ir.DataType(node.attributes["to"].as_int())
        not in (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.BOOL)
        and ir.DataType(node.attributes["to"].as_int()).is_floating_point()
        for node in model.graph
    )


@pytest.mark.parametrize("m", [M, Opaque()], ids=["float64", "opaque"])
def test_node_cases_of_onnx(m: Any) -> None:
    ran, failed = 0, []
    for name, case in cases().items():
        model = ir.from_proto(case.model)
        if _narrows(model):
            continue
        for inputs, expected in case.data_sets:
            try:
                got = run(m, model, inputs)
                assert len(got) == len(expected)
                for mine, theirs in zip(got, expected, strict=True):
                    if is_float(theirs.dtype):
                        assert m.is_value(mine) and m.shape(mine) == theirs.shape
                        relative = COARSE.get(name, RELATIVE)
                        np.testing.assert_allclose(
                            m.concrete(mine), theirs.astype(np.float64), relative, ABSOLUTE
                        )
                    else:
                        assert mine.dtype == theirs.dtype
                        np.testing.assert_array_equal(mine, theirs)
                ran += 1
            except Unsupported as refusal:
                if not any(name.startswith(n) and reason in str(refusal) for n, reason in REFUSED.items()):
                    failed.append(f"{name}: refused, {refusal}")
            except Exception as error:
                failed.append(f"{name}: {type(error).__name__} {str(error)[:300]}")
    assert not failed, "\n".join(failed)
    assert ran > 800
