"""act(a) * b, with a and b two products of x or the halves of one."""

from collections.abc import Callable
from functools import partial

import numpy as np
import onnx

from . import references as ref
from .activations import silu_by_quotient
from .case import Feeds, NearMiss, Sketch, Spelling
from .gelu import by_erf, by_tanh

DEPTH, WIDTH = 4, 6
GATE = (7.0 * np.arange(DEPTH * WIDTH).reshape(DEPTH, WIDTH) % 11 - 5) / 8
UP = (5.0 * np.arange(DEPTH * WIDTH).reshape(DEPTH, WIDTH) % 13 - 6) / 8
BIAS = np.linspace(-0.5, 0.5, WIDTH)

Act = Callable[[Sketch, str], str]
Join = Callable[[Sketch, str, str], str]


def operands(s: Sketch, how: str) -> tuple[str, str]:
    """a and b, by each way to project x."""
    x = s.input("x", (3, DEPTH) if how == "gemm" else (2, 3, DEPTH))
    packed = np.concatenate([GATE, UP], axis=1)
    match how:
        case "products":
            return s.MatMul(x, s.const(GATE)), s.MatMul(x, s.const(UP))
        case "biased":
            a = s.Add(s.MatMul(x, s.const(GATE)), s.const(BIAS))
            return a, s.Add(s.const(BIAS), s.MatMul(x, s.const(UP)))
        case "gemm":
            return s.Gemm(x, s.const(GATE.T), transB=1), s.Gemm(x, s.const(UP))
        case "split":
            a, b = s.split(s.MatMul(x, s.const(packed)), 2, WIDTH)
            return a, b
        case "split_gate_last":
            b, a = s.split(s.MatMul(x, s.const(packed[:, ::-1])), 2, WIDTH)
            return a, b
        case "slices":
            both, last = s.MatMul(x, s.const(packed)), s.const([-1])
            a = s.Slice(both, s.const([0]), s.const([WIDTH]), last)
            return a, s.Slice(both, s.const([WIDTH]), s.const([2 * WIDTH]), last)
    raise ValueError(how)


def values(fed: Feeds, how: str) -> tuple[np.ndarray, np.ndarray]:
    bias = BIAS if how == "biased" else 0.0
    # the packed weights in reverse have the halves and their columns in reverse
    gate, up = (GATE[:, ::-1], UP[:, ::-1]) if how == "split_gate_last" else (GATE, UP)
    a, b = fed["x"] @ gate + bias, fed["x"] @ up + bias
    return a, b


def glu(join: Join, how: str = "products", opset: int = 17) -> onnx.ModelProto:
    s = Sketch()
    a, b = operands(s, how)
    return s.model(s.renamed(join(s, a, b), "y"), opset)


def gated(act: Act, gate_first: bool = True) -> Join:
    return lambda s, a, b: s.Mul(act(s, a), b) if gate_first else s.Mul(b, act(s, a))


def silu(s: Sketch, a: str) -> str:
    return s.Mul(a, s.Sigmoid(a))


def quick(s: Sketch, a: str) -> str:
    return s.Mul(a, s.Sigmoid(s.Mul(a, 1.702)))


def relu(s: Sketch, a: str) -> str:
    return s.Relu(a)


def spelling(op: str, name: str, act: Act, want: Callable, how: str = "products", **rest: object) -> Spelling:
    first, opset = rest.pop("gate_first", True), rest.pop("opset", 17)

    def wanted(fed: Feeds) -> np.ndarray:
        a, b = values(fed, how)
        return want(a) * b

    return Spelling(f"{op.lower()}_{name}", partial(glu, gated(act, first), how, opset), op, rest, wanted)


TANH = partial(ref.gelu, approximate="tanh")
SPELLINGS = [
    spelling("GLU", "plain", lambda s, a: s.Sigmoid(a), ref.sigmoid),
    spelling("GLU", "split", lambda s, a: s.Sigmoid(a), ref.sigmoid, "split_gate_last", gate_first=False),
    spelling("GLU", "quotient", lambda s, a: s.Reciprocal(s.Add(1.0, s.Exp(s.Neg(a)))), ref.sigmoid, "gemm"),
    spelling("SwiGLU", "plain", silu, ref.swish),
    spelling("SwiGLU", "gate_last", silu, ref.swish, gate_first=False, opset=18),
    spelling("SwiGLU", "biased", silu, ref.swish, "biased"),
    spelling("SwiGLU", "gemm", silu, ref.swish, "gemm", opset=13),
    spelling("SwiGLU", "split", silu, ref.swish, "split"),
    spelling("SwiGLU", "split_opset_11", silu, ref.swish, "split", opset=11),
    spelling("SwiGLU", "split_opset_18", silu, ref.swish, "split", opset=18),
    spelling("SwiGLU", "split_gate_last", silu, ref.swish, "split_gate_last", gate_first=False),
    spelling("SwiGLU", "slices", silu, ref.swish, "slices"),
    spelling("SwiGLU", "silu_as_a_quotient", silu_by_quotient, ref.swish),
    spelling("SwiGLU", "quick", quick, partial(ref.swish, alpha=1.702), alpha=1.702),
    spelling("GeGLU", "plain", by_erf, ref.gelu),
    spelling("GeGLU", "split", by_erf, ref.gelu, "split", gate_first=False),
    spelling("GeGLU", "split_opset_18", by_erf, ref.gelu, "split", opset=18),
    spelling("GeGLU", "gemm", by_erf, ref.gelu, "gemm"),
    spelling("GeGLU", "as_one_node", lambda s, a: s.Gelu(a), ref.gelu, opset=20),
    spelling("GeGLU", "tanh", by_tanh, TANH, "split"),
    spelling("GeGLU", "tanh_gate_last", by_tanh, TANH, gate_first=False, opset=18),
    spelling("ReGLU", "plain", relu, ref.relu),
    spelling("ReGLU", "split", relu, ref.relu, "split", gate_first=False),
    spelling("ReGLU", "slices", relu, ref.relu, "slices", opset=18),
    spelling("ReGLU", "maximum", lambda s, a: s.Max(a, 0.0), ref.relu, "biased"),
    spelling("ReGLU", "where", lambda s, a: s.Where(s.Greater(a, 0.0), a, 0.0), ref.relu),
]

MISSES: list[tuple[str, str, Join, str, tuple[str, ...]]] = [
    ("GLU", "sum", lambda s, a, b: s.Add(s.Sigmoid(a), b), "b is added", ("Sigmoid",)),
    ("GLU", "tanh", lambda s, a, b: s.Mul(s.Tanh(a), b), "the gate is a tanh", ("Tanh",)),
    ("SwiGLU", "sum", lambda s, a, b: s.Add(silu(s, a), b), "b is added", ("Swish",)),
    ("SwiGLU", "quotient", lambda s, a, b: s.Div(silu(s, a), b), "b divides", ("Swish",)),
    ("SwiGLU", "sigmoid", lambda s, a, b: s.Mul(s.Sigmoid(a), b), "a itself does not multiply", ("Sigmoid",)),
    ("SwiGLU", "tanh", lambda s, a, b: s.Mul(s.Tanh(a), b), "the gate is a tanh", ("Tanh",)),
    ("SwiGLU", "of_the_product", lambda s, a, b: silu(s, s.Mul(a, b)), "a b is the operand", ("Swish",)),
    (
        "SwiGLU",
        "shifted_gate",
        lambda s, a, b: s.Mul(s.Mul(a, s.Sigmoid(s.Add(a, 1.0))), b),
        "the sigmoid reads a + 1",
        ("Sigmoid",),
    ),
    ("GeGLU", "quick", lambda s, a, b: s.Mul(quick(s, a), b), "1.702 makes a Swish", ("Swish", "SwiGLU")),
    (
        "GeGLU",
        "root_of_four_decimals",
        lambda s, a, b: s.Mul(s.Mul(s.Mul(a, 0.5), s.Add(s.Erf(s.Div(a, 1.4142)), 1.0)), b),
        "sqrt(2) is written 1.4142",
        (),
    ),
    ("GeGLU", "sum", lambda s, a, b: s.Add(by_erf(s, a), b), "b is added", ("Gelu",)),
    ("ReGLU", "sum", lambda s, a, b: s.Add(s.Relu(a), b), "b is added", ("Relu",)),
    (
        "ReGLU",
        "step",
        lambda s, a, b: s.Where(s.Greater(a, 0.0), b, 0.0),
        "the gate opens and does not multiply",
        (),
    ),
    ("ReGLU", "of_the_product", lambda s, a, b: s.Relu(s.Mul(a, b)), "a b is the operand", ("Relu",)),
    ("ReGLU", "leaky", lambda s, a, b: s.Mul(s.LeakyRelu(a), b), "the gate leaks", ("LeakyRelu",)),
]

NEAR_MISSES = [
    NearMiss(f"not_{op.lower()}_{name}", partial(glu, join), op, why, allowed)
    for op, name, join, why, allowed in MISSES
]
