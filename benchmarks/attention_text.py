"""Models of attention alone, and a transformer of four layers with sigmoid attention, as ONNX text."""

from __future__ import annotations

import math

import numpy as np
import onnx
import onnx.parser
from onnx import numpy_helper

WEIGHTS = {
    "softmax": "p = Softmax <axis = -1> (z)",
    "softmax1": "m = ReduceMax (z, last) t = Max (m, zero) d = Sub (z, t) e = Exp (d) "
    "s = ReduceSum (e, last) n = Neg (t) o = Exp (n) u = Add (s, o) p = Div (e, u)",
    "sigmoid": "p = Sigmoid (z)",
    "relu": "p = Relu (z)",
    "relu2": "r = Relu (z) p = Mul (r, r)",
    "softplus": "r = Softplus (z) s = ReduceSum (r, last) p = Div (r, s)",
    "softplus_reweighted": "r = Softplus (z) s = ReduceSum (r, last) a = Div (r, s) n = Mul (a, keys) "
    "o = Sub (n, one) b = Relu (o) c = Pow (b, three) g = ReduceSum (c, last) p = Div (c, g)",
}
"""Score function -> what a model writes for it, from scores z to weights p."""


def attention(score: str, length: int, heads: int = 12, depth: int = 64) -> onnx.ModelProto:
    """q, k, v [1, heads, length, depth] -> y, not masked."""
    shape = f"float[1, {heads}, {length}, {depth}]"
    numbers = {"scale": depth**-0.5, "bias": -math.log(length), "zero": 0.0, "one": 1.0, "three": 3.0}
    numbers["keys"] = float(length)
    biased = "z = Add (w, bias)" if score == "sigmoid" else "z = Identity (w)"
    scores = f"t0 = Transpose <perm = [0, 1, 3, 2]> (k) x = MatMul (q, t0) w = Mul (x, scale) {biased}"
    text = f'<ir_version: 10, opset_import: ["": 20]> g ({shape} q, {shape} k, {shape} v) => ({shape} y)'
    model = onnx.parser.parse_model(f"{text} {{ {scores} {WEIGHTS[score]} y = MatMul (p, v) }}")
    return _with(model, numbers, {})


def sigmoid_transformer(
    layers: int = 4, width: int = 768, heads: int = 12, *, causal: bool = False, attends: bool = True
) -> onnx.ModelProto:
    """A pre-norm transformer with sigmoid attention, an encoder or causal: x [batch, tokens, width] -> y.

    One that does not attend has all that is around attention, and q + k + v in the place of its result.
    """
    depth, rng = width // heads, np.random.default_rng(0)
    numbers = {"scale": depth**-0.5, "bias": -math.log(2048.0)}
    tensors: dict[str, np.ndarray] = {
        "split": np.array([0, 0, heads, depth]),
        "join": np.array([0, 0, width]),
    }
    lines, x = [], "x"
    if causal:
        lines.append("shape = Shape (x) tokens = Gather (shape, first) places = Range (none, tokens, first)")
        lines.append("rows = Unsqueeze (places, column) later = Greater (places, rows) seen = Not (later)")
        tensors |= {"first": np.array(1), "none": np.array(0), "column": np.array([1])}
        numbers["removed"] = -math.inf
    for i in range(layers):
        sizes = {"q": (width, width), "k": (width, width), "v": (width, width), "o": (width, width)}
        sizes |= {"up": (width, 4 * width), "down": (4 * width, width)}
        for name, (rows, columns) in sizes.items():
            tensors[f"w{name}{i}"] = rng.standard_normal((rows, columns)) * rows**-0.5
            tensors[f"b{name}{i}"] = rng.standard_normal(columns) * 0.1
        for name in ("n1", "n2"):
            tensors[f"g{name}{i}"] = 1.0 + rng.standard_normal(width) * 0.1
            tensors[f"b{name}{i}"] = rng.standard_normal(width) * 0.1
        lines.append(f"a{i} = LayerNormalization <axis = -1> ({x}, gn1{i}, bn1{i})")
        for name in "qkv":
            lines.append(f"m{name}{i} = MatMul (a{i}, w{name}{i}) l{name}{i} = Add (m{name}{i}, b{name}{i})")
            lines.append(f"r{name}{i} = Reshape (l{name}{i}, split)")
            lines.append(f"h{name}{i} = Transpose <perm = [0, 2, 1, 3]> (r{name}{i})")
        if attends:
            lines.append(f"t{i} = Transpose <perm = [0, 1, 3, 2]> (hk{i}) s{i} = MatMul (hq{i}, t{i})")
            lines.append(f"c{i} = Mul (s{i}, scale) b{i} = Add (c{i}, bias)")
            kept = f"Where (seen, b{i}, removed)" if causal else f"Identity (b{i})"
            lines.append(f"z{i} = {kept} p{i} = Sigmoid (z{i}) y{i} = MatMul (p{i}, hv{i})")
        else:
            lines.append(f"y{i} = Sum (hq{i}, hk{i}, hv{i})")
        lines.append(f"u{i} = Transpose <perm = [0, 2, 1, 3]> (y{i})")
        lines.append(f"j{i} = Reshape (u{i}, join) mo{i} = MatMul (j{i}, wo{i}) lo{i} = Add (mo{i}, bo{i})")
        lines.append(
            f"x1{i} = Add ({x}, lo{i}) d{i} = LayerNormalization <axis = -1> (x1{i}, gn2{i}, bn2{i})"
        )
        lines.append(f"mu{i} = MatMul (d{i}, wup{i}) lu{i} = Add (mu{i}, bup{i}) e{i} = Gelu (lu{i})")
        lines.append(
            f"md{i} = MatMul (e{i}, wdown{i}) ld{i} = Add (md{i}, bdown{i}) x2{i} = Add (x1{i}, ld{i})"
        )
        x = f"x2{i}"
    shape = f"float[batch, tokens, {width}]"
    text = f'<ir_version: 10, opset_import: ["": 20]> g ({shape} x) => ({shape} y)'
    model = onnx.parser.parse_model(f"{text} {{ {' '.join(lines)} y = Identity ({x}) }}")
    return _with(model, numbers, tensors)


def _with(
    model: onnx.ModelProto, numbers: dict[str, float], tensors: dict[str, np.ndarray]
) -> onnx.ModelProto:
    """With the constants that it reads."""
    read = {name for node in model.graph.node for name in node.input}
    arrays = {name: np.float32(value) for name, value in numbers.items()}
    arrays |= {n: x if x.dtype.kind == "i" else x.astype(np.float32) for n, x in tensors.items()}
    arrays["last"] = np.array([-1])
    for name in sorted(read & set(arrays)):
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(arrays[name]), name))
    return model
