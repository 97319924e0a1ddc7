"""Parameters of the wrong shape, or known only as the model runs: declined, with node, reason and remedy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

import tautomer
from tests.zoo.case import Sketch
from tests.zoo.channels import CHANNELS, GROUPS, SHAPE, SMALL, V, deviation_of, in_groups
from tests.zoo.rationals import per_channel
from tests.zoo.unary import of_x

FEW, PLACES = np.linspace(0.5, 1.5, GROUPS).astype("f"), np.linspace(0.5, 1.5, SHAPE[-1]).astype("f")
IMAGE, ROWS = "2, 6, 3, 4", "4, 6"


def gained_by_groups(s: Sketch, x: str) -> str:
    parts = in_groups(s, x)
    off = s.Sub(parts, s.ReduceMean(parts, axes=[2, 3, 4], keepdims=1))
    y = s.Div(off, deviation_of(s, parts, [2, 3, 4], SMALL))
    return s.Reshape(s.Mul(y, s.const(FEW.reshape(1, -1, 1, 1, 1), name="w")), s.const(list(SHAPE)))


def gated_by_places(s: Sketch, x: str) -> str:
    parts = [2, GROUPS, CHANNELS // GROUPS, *SHAPE[2:]]
    wide = s.Expand(deviation_of(s, in_groups(s, x), [2, 3, 4], SMALL), s.const(parts))
    y = s.Mul(x, s.Sigmoid(s.Mul(x, s.const(PLACES, name="w"))))
    return s.Div(y, s.Reshape(wide, s.const(list(SHAPE))))


def parsed(body: str, shape: str, size: tuple[int, ...] = (3,), inputs: str = "") -> onnx.ModelProto:
    graph = f"g (float[{shape}] x{inputs}) => (float[{shape}] y) {{ {body} }}"
    model = parser.parse_model(f'<ir_version: 10, opset_import: ["" : 21]> {graph}')
    held = {"w": np.ones(size, "f"), "one": np.float32(1)}
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in held.items())
    return model


DICE = "p = Sigmoid(x) q = Sub(one, p) h = Mul(w, q) i = Mul(h, x) j = Mul(p, x) y = Add(i, j)"
RATIONAL = "s = Mul(x, x) a = Mul(s, w) b = Add(a, x) d = Abs(x) e = Add(d, one) y = Div(b, e)"
# the model, what it would be, why it is not, and what would help
CASES: dict[str, tuple[Callable[[], onnx.ModelProto], str, str, str]] = {
    "a gain of each group": (
        lambda: of_x(gained_by_groups, shape=SHAPE),
        "GroupNormalization",
        "'w' of shape [1, 3, 1, 1, 1] has one number for each group",
        "repeat each number of 'w' for the 2 channels",
    ),
    "a gate of each place": (
        lambda: of_x(gated_by_places, shape=SHAPE),
        "EvoNormS0",
        "'w' of shape [4] has other numbers along axis 3",
        "give 'w' the shape [6, 1, 1]",
    ),
    "a bound that may be negative": (
        lambda: of_x(lambda s, x: s.Min(s.Relu(x), s.const(V, name="w"))),
        "ClippedRelu",
        "computes ClippedRelu only of positive 'w'",
        "write it as max(min(x, bound), 0)",
    ),
    "coefficients of each channel": (
        lambda: of_x(per_channel),
        "Rational",
        "of shape [6], and each must be one constant number",
        "share the coefficients",
    ),
    "coefficients of each call": (
        lambda: parsed(RATIONAL.replace("w", "c"), ROWS, inputs=", float c"),
        "Rational",
        "takes coefficients from 'c' of shape []",
        "share the coefficients",
    ),
    "a degree of each call": (
        lambda: parsed("r = Relu(x) y = Pow(r, n)", ROWS, inputs=", float n"),
        "Pow",
        "its power 'n' is computed when the model runs",
        "degree as a constant",
    ),
    "v of half of the channels": (
        lambda: parsed("a = Mul(w, x) s = Sigmoid(a) y = Mul(x, s)", IMAGE, (3, 1, 1)),
        "Mul",
        "'w' of shape [3, 1, 1] does not go with 'x' of [2, 6, 3, 4]",
        "one number, or one for each channel or element",
    ),
    "alpha of each example": (
        lambda: parsed(DICE, ROWS, (4,)),
        "Mul",
        "'w' of shape [4] does not go with 'q' of [4, 6]",
        "one number, or one for each channel or element",
    ),
    "a gain of a shorter row": (
        lambda: parsed("y = LayerNormalization(x, w)", ROWS, (5,)),
        "LayerNormalization",
        "'w' of shape [5] does not go with 'x' of [4, 6]",
        "the shape of a row",
    ),
    **{
        f"{op} with a gain of each group": (
            lambda op=op, rest=rest: parsed(f"y = {op}(x, {rest})", IMAGE),
            op.split("<")[0],
            "'w' of shape [3] does not go with 'x'",
            "one number for each of 6 channels",
        )
        for op, rest in {
            "GroupNormalization<num_groups = 3>": "w, w",
            "InstanceNormalization": "w, w",
            "BatchNormalization": "w, w, w, w",
        }.items()
    },
}


@pytest.mark.parametrize("name", CASES)
def test_it_is_declined_with_the_reason_and_the_remedy(name: str) -> None:
    build, op, reason, remedy = CASES[name]
    told = [one for one in tautomer.explain(build()) if (one.kind, one.rule) == ("missed", "recognise")]
    assert [one.op for one in told] == [op]
    assert reason in told[0].reason and remedy in told[0].hint and told[0].node
