"""Which operands carry a shift: every rule against the reference implementation of its operator.

For each operand that a rule lets through, random members of its family are added to all of them at once: the
output may only move by a member of the wanted family. And operands of mean zero must give an output of mean
zero.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from tautomer.graph.call import Call
from tautomer.graph.digits import Digits
from tautomer.graph.fact import Fact
from tautomer.passes.streams.shift_carriers import Carriers, carriers

Array = np.ndarray
Axes = tuple[int, ...]


def real(*shape: int) -> Array:
    return np.random.default_rng(sum(shape) + 7 * len(shape)).normal(size=shape)


def ints(*numbers: Any) -> Array:
    return np.array(numbers[0] if len(numbers) == 1 and isinstance(numbers[0], list) else numbers, np.int64)


@dataclass
class Case:
    """A node, the axes of its output along which a shift is wanted, and what is expected.

    Attributes:
        op: its operator.
        inputs: arrays, None for one that is left out.
        wanted: axes of the output.
        through: axes of the operands that carry, or the reason why none does.
        constant: the operands that are known beforehand; integers are, too.
        output: which output is asked about.
    """

    op: str
    inputs: Sequence[Array | None]
    wanted: Axes
    through: Mapping[int, Axes] | str
    attributes: dict[str, Any] = field(default_factory=dict)
    constant: Axes = ()
    outputs: int = 1
    output: int = 0
    opset: int = 18

    def __str__(self) -> str:
        shapes = "_".join("x".join(map(str, a.shape)) for a in self.inputs if a is not None)
        settings = "_".join(f"{k}={v}" for k, v in self.attributes.items())
        return f"{self.op}-{shapes}-{settings}-along{self.wanted}-{self.opset}"

    def evaluate(self, inputs: Sequence[Array | None]) -> Array:
        names = ["" if a is None else f"x{i}" for i, a in enumerate(inputs)]
        made = [f"y{k}" for k in range(self.outputs)]
        node = helper.make_node(self.op, names, made, **self.attributes)
        given = {name: a for name, a in zip(names, inputs, strict=True) if a is not None}
        graph = helper.make_graph(
            [node],
            "case",
            [
                helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
                for name, a in given.items()
            ],
            [helper.make_tensor_value_info(made[self.output], TensorProto.DOUBLE, None)],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)])
        (result,) = ReferenceEvaluator(model).run(None, given)
        return np.asarray(result)

    def facts(self) -> list[Fact | None]:
        return [
            None
            if a is None
            else Fact(
                a.shape,
                ir.DataType.from_numpy(a.dtype),
                a if i in self.constant or a.dtype.kind == "i" else None,
                constant=i in self.constant,
            )
            for i, a in enumerate(self.inputs)
        ]

    def found(self, shape: tuple[int, ...], wanted: Digits) -> Carriers:
        call = Call(self.op, version=self.opset, attributes=self.attributes, outputs=self.outputs)
        return carriers(call, self.facts(), shape, wanted, self.output)


def in_digits(array: Array, digits: Digits) -> tuple[Array, Axes]:
    """The array with one axis per digit, and the axes of those that are named."""
    chain = sorted({1, array.size}.union(*digits.intervals))
    spans = list(pairwise(chain))[::-1]
    named = [i for i, (a, b) in enumerate(spans) if any(lo <= a and b <= hi for lo, hi in digits.intervals)]
    return array.reshape([b // a for a, b in spans]), tuple(named)


def mean_along(array: Array, digits: Digits) -> Array:
    if array.size == 0:
        return array
    split, named = in_digits(array, digits)
    means = np.broadcast_to(split.mean(axis=named, keepdims=True), split.shape)
    return np.array(means).reshape(array.shape)


X = real(2, 5, 8)
IMAGE = real(2, 4, 6, 6)
OTHER = np.random.default_rng(3)

PASSES = [
    Case("Identity", [X], (2,), {0: (2,)}),
    Case("Neg", [X], (0, 2), {0: (0, 2)}),
    Case("Cast", [X], (2,), {0: (2,)}, {"to": TensorProto.DOUBLE}),
    Case("Dropout", [X], (2,), {0: (2,)}),
    Case("Dropout", [X, None, np.array(False)], (2,), {0: (2,)}, constant=(2,)),
    Case("Add", [X, real(5, 8)], (2,), {0: (2,), 1: (1,)}),
    Case("Add", [X, real(8)], (2,), {0: (2,), 1: (0,)}),
    Case("Add", [X, real(2, 5, 1)], (2,), {0: (2,), 1: ()}),
    Case("Add", [real(5, 1), real(2, 1, 8)], (1, 2), {0: (0,), 1: (2,)}),
    Case("Sub", [X, real(5, 8)], (2,), {0: (2,), 1: (1,)}),
    Case("Sum", [X, real(8), real(1, 1, 1)], (2,), {0: (2,), 1: (0,), 2: ()}),
    Case("Mean", [X, real(8)], (2,), {0: (2,), 1: (0,)}),
    Case("Mul", [X, np.array(0.5)], (2,), {0: (2,)}),
    Case("Mul", [X, real(2, 5, 1)], (2,), {0: (2,)}),
    Case("Mul", [real(2, 5, 1), X], (2,), {1: (2,)}),
    Case("Mul", [X, np.full(8, 3.0)], (2,), {0: (2,)}, constant=(1,)),
    Case("Mul", [X, real(8)], (1,), {0: (1,)}),
    Case("Mul", [real(2, 1), real(2, 1)], (1,), {0: (1,), 1: (1,)}),
    Case("Div", [X, real(2, 1, 1)], (2,), {0: (2,)}),
    Case("Div", [X, np.full((1, 8), 3.0)], (2,), {0: (2,)}, constant=(1,)),
    Case("Where", [real(2, 5, 1) > 0, X, real(8)], (2,), {1: (2,), 2: (0,)}),
    Case("Where", [np.ones(8, bool), X, real(8)], (2,), {1: (2,), 2: (0,)}, constant=(0,)),
    Case("Reshape", [X, ints(10, 8)], (1,), {0: (2,)}),
    Case("Reshape", [X, ints(2, 5, 2, 4)], (2, 3), {0: (2,)}),
    Case("Reshape", [real(2, 5, 2, 4), ints(2, 5, 8)], (2,), {0: (2, 3)}),
    Case("Flatten", [X], (1,), {0: (2,)}, {"axis": 2}),
    Case("Squeeze", [real(2, 1, 8), ints([1])], (1,), {0: (2,)}),
    Case("Unsqueeze", [real(2, 8), ints([1])], (2,), {0: (1,)}),
    Case("Transpose", [IMAGE], (3,), {0: (1,)}, {"perm": [0, 2, 3, 1]}),
    Case("Transpose", [X], (0,), {0: (2,)}),
    Case("Concat", [X, real(2, 1, 8)], (2,), {0: (2,), 1: (2,)}, {"axis": 1}),
    Case("Concat", [X, real(2, 1, 8)], (2,), {0: (2,), 1: (2,)}, {"axis": -2}),
    Case("Split", [X, ints(2, 3)], (2,), {0: (2,)}, {"axis": 1}, outputs=2),
    Case("Split", [X, ints(2, 3)], (2,), {0: (2,)}, {"axis": 1}, outputs=2, output=1),
    Case("Slice", [X, ints([1]), ints([4]), ints([1])], (2,), {0: (2,)}),
    Case("Slice", [X, ints([1, 0]), ints([4, 99]), ints([1, 2])], (2,), {0: (2,)}),
    Case("Slice", [X, ints([0, 1]), ints([2, 4])], (2,), {0: (2,)}),
    Case("Slice", [X, ints([-1]), ints([-99]), ints([1]), ints([-1])], (2,), {0: (2,)}),
    Case("Gather", [real(20, 8), ints([[1, 3, 1], [0, 19, 2]])], (2,), {0: (1,)}),
    Case("Gather", [X, np.array(0, np.int64)], (1,), {0: (2,)}, {"axis": 1}),
    Case("Gather", [X, ints([1, 1])], (0,), {0: (0,)}, {"axis": 2}),
    Case("GatherND", [X, ints([[0, 1], [1, 4], [1, 4]])], (1,), {0: (2,)}),
    Case("GatherND", [X, ints([[1], [4]])], (1,), {0: (2,)}, {"batch_dims": 1}),
    Case("ScatterND", [X, ints([[0, 1], [1, 4]]), real(2, 8)], (2,), {0: (2,), 2: (1,)}),
    Case("ScatterND", [X, ints([[1], [1]]), real(2, 5, 8)], (2,), {0: (2,), 2: (2,)}, {"reduction": "add"}),
    Case("Expand", [real(1, 1, 8), ints(2, 5, 8)], (2,), {0: (2,)}),
    Case("Expand", [real(2, 5, 1), ints(2, 5, 8)], (2,), {0: ()}),
    Case("Tile", [X, ints(2, 3, 1)], (2,), {0: (2,)}),
    Case("Pad", [X, ints(0, 1, 0, 0, 2, 0)], (2,), {0: (2,)}),
    Case("Pad", [X, ints(0, 1, 0, 0, 2, 0), np.array(0.7)], (2,), {0: (2,), 2: ()}),
    Case("Pad", [X, ints(1, 2), np.array(0.0), ints([1])], (2,), {0: (2,), 2: ()}),
    Case("Pad", [X, ints(0, 1, 0, 0, 2, 0)], (2,), {0: (2,)}, {"mode": "reflect"}),
    Case("Pad", [X, ints(0, 1, 0, 0, 2, 0), np.array(0.7)], (2,), {0: (2,)}, {"mode": "edge"}),
    Case("ReduceMean", [X, ints([1])], (2,), {0: (2,)}),
    Case("ReduceMean", [X, ints([0, -2])], (0,), {0: (2,)}, {"keepdims": 0}),
    Case("ReduceMean", [X], (1,), {0: (2,)}, {"keepdims": 0, "axes": [1]}, opset=13),
    Case("ReduceSum", [X, ints([1])], (1,), {0: (2,)}, {"keepdims": 0}),
    Case("ReduceSum", [X], (2,), {0: (2,)}, {"noop_with_empty_axes": 1}),
    Case("ReduceMean", [X, ints([2])], (1,), {0: (1,)}),
    Case("GlobalAveragePool", [IMAGE], (1,), {0: (1,)}),
    Case("AveragePool", [IMAGE], (1,), {0: (1,)}, {"kernel_shape": [2, 2], "strides": [2, 2]}),
    Case("AveragePool", [IMAGE], (1,), {0: (1,)}, {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
    Case("Resize", [IMAGE, None, np.array([1, 1, 2, 2], np.float32)], (1,), {0: (1,)}, constant=(2,)),
    Case("Resize", [IMAGE, None, None, ints(2, 4, 9, 9)], (1,), {0: (1,)}, {"mode": "linear"}),
    Case("Resize", [IMAGE, None, None, ints(2, 4, 9, 4)], (1,), {0: (1,)}, {"mode": "cubic"}),
    Case("Resize", [IMAGE, None, None, ints(9, 9)], (1,), {0: (1,)}, {"mode": "linear", "axes": [2, 3]}),
    Case("DepthToSpace", [IMAGE], (0,), {0: (0,)}, {"blocksize": 2}),
    Case("SpaceToDepth", [IMAGE], (0,), {0: (0,)}, {"blocksize": 3}),
    Case("CumSum", [X, np.array(1, np.int64)], (2,), {0: (2,)}),
    Case("MatMul", [X, real(8, 6)], (2,), {1: (1,)}),
    Case("MatMul", [real(2, 3, 5, 4), real(2, 1, 4, 8)], (3,), {1: (3,)}),
    Case("MatMul", [real(5, 4), real(2, 4, 8)], (2,), {1: (2,)}),
    Case("MatMul", [real(6, 8), real(2, 8, 5)], (1,), {0: (0,)}),
    Case("Gemm", [real(5, 8), real(8, 6), real(6)], (1,), {1: (1,), 2: (0,)}),
    Case("Gemm", [real(5, 8), real(6, 8)], (1,), {1: (0,)}, {"transB": 1, "alpha": 0.5}),
    Case("Gemm", [real(5, 8), real(8, 6), real(5, 1)], (1,), {1: (1,), 2: ()}, {"beta": 2.0}),
    Case("Gemm", [real(8, 5), real(8, 6), real(5, 1)], (0,), {0: (1,), 2: (0,)}, {"transA": 1}),
    Case("Gemm", [real(5, 8), real(8, 6)], (0,), {0: (0,)}),
    Case("Conv", [IMAGE, real(6, 4, 3, 3), real(6)], (1,), {1: (0,), 2: (0,)}, {"pads": [1, 1, 1, 1]}),
    Case("Conv", [IMAGE, real(6, 4, 2, 2)], (1,), {1: (0,)}, {"strides": [2, 2]}),
    Case("ConvTranspose", [IMAGE, real(4, 6, 2, 2), real(6)], (1,), {1: (1,), 2: (0,)}, {"strides": [2, 2]}),
]  # fmt: skip

OWN = "factor of its own"
STOPS = [
    Case("Gelu", [X], (2,), "Gelu is not linear", opset=20),
    Case("Relu", [X], (2,), "Relu is not linear"),
    Case("MaxPool", [IMAGE], (1,), "MaxPool picks elements", {"kernel_shape": [2, 2]}),
    Case("ReduceMax", [X, ints([1])], (2,), "ReduceMax picks elements"),
    Case("Cast", [X], (2,), "Cast rounds it", {"to": TensorProto.INT64}),
    Case("Trilu", [X], (0,), "Trilu is not known to pass a shift on"),
    Case("GatherElements", [X, ints([[[0]]])], (0,), "picks elements"),
    Case("Dropout", [X, None, np.array(True)], (2,), "Dropout in training", constant=(2,)),
    Case("Dropout", [X, None, np.array(True)], (2,), "Dropout in training"),
    Case("Dropout", [X], (2,), "in that output", outputs=2, output=1),
    Case("Mul", [X, real(8)], (2,), OWN),
    Case("Mul", [X, real(8)], (2,), OWN, constant=(1,)),
    Case("Mul", [X, real(2, 5, 8)], (2,), OWN),
    Case("Mul", [X, np.full(8, 3.0)], (2,), OWN),  # equal along the channel this time, perhaps not next time
    Case("Div", [X, real(8)], (2,), "divisor of its own", constant=(1,)),
    Case("Div", [real(2, 5, 1), X], (2,), "divisor of its own"),
    Case("Where", [real(8) > 0, X, X], (2,), "channel by channel", constant=(0,)),
    Case("Where", [real(2, 5, 8) > 0, X, X], (2,), "channel by channel"),
    Case("Add", [X, real(5)], (1,), "broadcasts in its own way", opset=6),
    Case("Concat", [X, X], (2,), "it joins channels", {"axis": -1}),
    Case("Split", [X], (2,), "separates channels", {"axis": 2}, outputs=2),
    Case("Slice", [X, ints([0]), ints([4]), ints([2])], (2,), "separates channels"),
    Case("Slice", [X, ints([-1]), ints([-99]), ints([-1]), ints([-1])], (2,), "separates channels"),
    Case("Gather", [X, ints([1, 0])], (2,), "picks channels", {"axis": 2}),
    Case("GatherND", [X, ints([[0, 1], [1, 4]])], (0,), "picks channels"),
    Case("ScatterND", [X, ints([[0, 1], [1, 4]]), real(2, 8)], (1,), "replaces channels"),
    Case("ScatterND", [X, ints([[1]]), real(1, 5, 8)], (2,), "multiplies", {"reduction": "mul"}),
    Case("Tile", [X, ints(1, 1, 2)], (2,), "repeats channels"),
    Case("Pad", [X, ints(0, 0, 1, 0, 0, 0)], (2,), "adds channels"),
    Case("Pad", [X, ints(0, 0, 1, 0, 0, -1)], (2,), "adds channels"),
    Case("Pad", [X], (2,), "not 0", {"pads": [0, 1, 0, 0, 0, 0], "value": 0.5}, opset=10),
    Case("AveragePool", [IMAGE], (3,), "averages over them", {"kernel_shape": [2, 2]}),
    Case("Resize", [IMAGE, None, None, ints(2, 4, 9, 9)], (3,), "resizes them"),
    Case("Resize", [IMAGE, None, np.array([1, 1.1, 2, 2], np.float32)], (1,), "resizes them", constant=(2,)),
    Case("CumSum", [X, np.array(-1, np.int64)], (2,), "sums up channels"),
    Case("MatMul", [X, real(8, 6)], (1, 2), "along several axes"),
    Case("MatMul", [X, real(8)], (1,), "vector"),
    Case("Gemm", [real(5, 8), real(8, 6)], (0, 1), "along several axes"),
    Case("Conv", [IMAGE, real(4, 1, 3, 3)], (1,), "depthwise convolution treats each channel", {"group": 4}),
    Case("Conv", [IMAGE, real(4, 2, 3, 3)], (1,), "each group of channels", {"group": 2}),
    Case("Conv", [IMAGE, real(6, 4, 3, 3)], (3,), "convolution over them"),
]  # fmt: skip


def shape_of(case: Case) -> tuple[int, ...]:
    if isinstance(case.through, str) and case.op in (
        "Gelu",
        "Cast",
        "Pad",
        "GatherElements",
        "Add",
        "Dropout",
    ):
        known = {"GatherElements": (1, 1, 1), "Pad": (2, 6, 8) if case.opset == 10 else (2, 5, 9)}
        return known.get(case.op, X.shape)
    return case.evaluate(case.inputs).shape


@pytest.mark.parametrize("case", PASSES, ids=str)
def test_what_passes_and_along_what(case: Case) -> None:
    shape = shape_of(case)
    wanted = Digits.along(shape, case.wanted)
    assert wanted is not None
    found = case.found(shape, wanted)
    assert found.stop == ""
    assert isinstance(case.through, Mapping)
    expected = {i: Digits.along(case.inputs[i].shape, axes) for i, axes in case.through.items()}
    assert found.through == expected
    assert found.must_vanish == {i for i, digits in expected.items() if not digits}
    for i in range(len(case.inputs)):
        assert bool(found.reason(i)) == (i not in expected)


@pytest.mark.parametrize("case", PASSES, ids=str)
def test_shifts_of_the_operands_shift_the_output(case: Case) -> None:
    before = case.evaluate(case.inputs)
    wanted = Digits.along(before.shape, case.wanted)
    assert wanted is not None
    moved = list(case.inputs)
    for i, digits in case.found(before.shape, wanted).through.items():
        x = case.inputs[i]
        assert x is not None
        moved[i] = x + mean_along(OTHER.normal(size=x.shape) * 5, digits)
    shift = case.evaluate(moved) - before
    assert np.abs(shift).max() > 1e-3
    np.testing.assert_allclose(shift, mean_along(shift, wanted), atol=1e-5 if case.op == "Resize" else 1e-12)


@pytest.mark.parametrize("case", PASSES, ids=str)
def test_operands_of_mean_zero_give_an_output_of_mean_zero(case: Case) -> None:
    shape = shape_of(case)
    wanted = Digits.along(shape, case.wanted)
    assert wanted is not None
    centred = list(case.inputs)
    for i, digits in case.found(shape, wanted).through.items():
        x = case.inputs[i]
        assert x is not None
        centred[i] = x - mean_along(x, digits)
    mean = mean_along(case.evaluate(centred), wanted)
    np.testing.assert_allclose(mean, 0, atol=1e-5 if case.op == "Resize" else 1e-12)


@pytest.mark.parametrize("case", STOPS, ids=str)
def test_what_does_not_pass_and_why(case: Case) -> None:
    shape = shape_of(case)
    wanted = Digits.along(shape, case.wanted)
    assert wanted is not None
    found = case.found(shape, wanted)
    assert isinstance(case.through, str)
    assert case.through in found.stop
    assert not found.through
    assert all(found.reason(i) == found.stop for i in range(len(case.inputs)))


def test_a_part_of_an_axis_passes_where_the_axis_is_not_cut() -> None:
    heads = Digits(((1, 4),))  # pairs of heads of 4 along a channel of 8
    case = Case("Add", [X, real(8)], (), {})
    assert case.found(X.shape, heads).through == {0: heads, 1: heads}
    case = Case("MatMul", [X, real(6, 8)], (), {})
    assert case.found((2, 5, 8), heads).through == {1: heads}
    # a factor that is the same within each head
    gain = np.repeat(real(2), 4)
    case = Case("Mul", [X, gain], (), {}, constant=(1,))
    assert case.found(X.shape, heads).through == {0: heads}
    assert OWN in case.found(X.shape, Digits(((1, 8),))).stop


def test_digits_that_an_axis_cuts_through_pass_only_what_keeps_the_flat_index() -> None:
    across = Digits(((1, 16),))  # two positions of 8 channels and their channels, of 5
    x = real(5, 6, 8)
    assert Case("Reshape", [x, ints(30, 8)], (), {}).found((30, 8), across).through == {0: across}
    assert Case("Mul", [x, np.array(2.0)], (), {}).found(x.shape, across).through == {0: across}
    odd = Digits(((1, 80),))
    assert "cut through" in Case("Transpose", [x], (), {}).found((8, 6, 5), odd).stop


def test_operands_that_do_not_carry_have_a_reason_of_their_own() -> None:
    found = Case("Mul", [X, real(2, 5, 1)], (2,), {}).found(X.shape, Digits(((1, 8),)))
    assert found.reason(0) == "" and found.reason(1) == "it is a factor of a product"
    found = Case("MatMul", [X, real(8, 6)], (2,), {}).found((2, 5, 6), Digits(((1, 6),)))
    assert found.reason(0) == "it gives every channel weights of its own"
    found = Case("Div", [X, real(2, 5, 1)], (2,), {}).found(X.shape, Digits(((1, 8),)))
    assert found.reason(1) == "it is a divisor"


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_blocks_of_pixels_are_digits_of_channels(mode: str) -> None:
    x = real(2, 12, 3, 5)
    case = Case("DepthToSpace", [x], (), {}, {"blocksize": 2, "mode": mode})
    y = case.evaluate([x])
    wanted = Digits.along(y.shape, (1,))
    assert wanted is not None
    # of the channels the outer digits in DCR, the inner ones in CRD are blocks, and the others are channels
    expected = Digits(((15, 45),)) if mode == "DCR" else Digits(((60, 180),))
    (found,) = case.found(y.shape, wanted).through.values()
    assert found == expected
    shift = case.evaluate([mean_along(OTHER.normal(size=x.shape), found)])
    np.testing.assert_allclose(shift, mean_along(shift, wanted), atol=1e-12)
    back = Case("SpaceToDepth", [y], (), {}, {"blocksize": 2})
    assert mode == "CRD" or back.found(x.shape, expected).through == {0: wanted}
    along_rows = Digits.along(y.shape, (3,))
    assert along_rows is not None
    assert "cut through" in case.found(y.shape, Digits(((1, 5),))).stop
    assert case.found(y.shape, along_rows).stop == ""


def test_an_empty_cache_is_of_no_account() -> None:
    found = Case("Concat", [real(2, 0, 8), X], (2,), {}, {"axis": 1}).found(X.shape, Digits(((1, 8),)))
    assert found.through == {0: Digits.EMPTY, 1: Digits(((1, 8),))}


def test_strange_nodes_stop_and_do_not_raise() -> None:
    channel = Digits(((1, 8),))
    unknown = "is not known before the model runs"
    strange: list[tuple[Call, list[Fact | None]]] = [
        (Call("Add", version=18), [Fact(), Fact((8,))]),
        (Call("Concat", version=18, attributes={"axis": 9}), [Fact((2, 5, 8)), None]),
        (Call("Transpose", version=18, attributes={"perm": [0, 0, 7]}), [Fact((2, 5, 8))]),
        (Call("ReduceMean", version=18), [Fact((2, 5, 8)), Fact((1,))]),
        (Call("Pad", version=18), [Fact((2, 5, 8)), Fact((6,))]),
        (Call("Reshape", version=18), [Fact((2, 5, 9)), Fact((3,))]),
        (Call("Resize", version=18), [Fact((2, 5, 8)), None, Fact((3,))]),
        (Call("MatMul", version=18), []),
        (Call("Gemm", version=18), [Fact((2, 5, 8)), Fact((8, 8))]),
        (Call("Conv", version=18), [Fact((2, 5)), None]),
    ]
    for call, inputs in strange:
        found = carriers(call, inputs, (2, 5, 8), channel)
        assert not found.through and unknown in found.stop, call
    assert carriers(Call("Identity"), [Fact((0, 8))], (0, 8), channel).stop
    assert (
        carriers(Call("Add", "com.example"), [], (2, 8), channel).stop
        == "nothing is known of com.example.Add"
    )
