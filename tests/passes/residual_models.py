"""Small models with residual streams, every weight random and no gain 1 or bias 0."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
from onnx import numpy_helper

WIDTH, TOKENS, VOCABULARY, HIDDEN = 6, 4, 7, 10

INPUTS = "int64[batch, 4] ids"
OUTPUTS = "float[batch, 4, 7] logits"
# A tied table, learned positions, a block of two branches with biases, a scale per channel, a head.
LANGUAGE_MODEL = """
    rows = Gather <axis = 0> (table, ids)
    h0 = Add (rows, positions)
    n0 = LayerNormalization <axis = -1, epsilon = 0.001> (h0, g0, b0)
    q0 = MatMul (n0, w_in)
    q1 = Add (q0, c_in)
    q2 = Tanh (q1)
    q3 = MatMul (q2, w_out)
    q4 = Add (q3, c_out)
    h1 = Add (q4, h0)
    n1 = LayerNormalization <axis = -1, epsilon = 0.001> (h1, g1, b1)
    u0 = MatMul (n1, w_up)
    u1 = Add (u0, c_up)
    u2 = Tanh (u1)
    u3 = MatMul (u2, w_down)
    u4 = Add (u3, c_down)
    u5 = Mul (u4, layer_scale)
    h2 = Add (h1, u5)
    n2 = LayerNormalization <axis = -1, epsilon = 0.001> (h2, g2, b2)
    head = Transpose <perm = [1, 0]> (table)
    logits = MatMul (n2, head)
"""
WEIGHTS: Mapping[str, tuple[int, ...]] = {
    "table": (VOCABULARY, WIDTH),
    "positions": (TOKENS, WIDTH),
    "w_in": (WIDTH, HIDDEN),
    "c_in": (HIDDEN,),
    "w_out": (HIDDEN, WIDTH),
    "c_out": (WIDTH,),
    "w_up": (WIDTH, HIDDEN),
    "c_up": (HIDDEN,),
    "w_down": (HIDDEN, WIDTH),
    "c_down": (WIDTH,),
    "layer_scale": (WIDTH,),
    **{f"{kind}{i}": (WIDTH,) for i in range(3) for kind in "gb"},
}


def residual_model(
    body: str = LANGUAGE_MODEL,
    *,
    weights: Mapping[str, tuple[int, ...]] = WEIGHTS,
    inputs: str = INPUTS,
    outputs: str = OUTPUTS,
    opset: int = 18,
    dtype: type[np.generic] = np.float32,
    replace: Mapping[str, np.ndarray] | None = None,
) -> ir.Model:
    """The model of a text, with random weights of the given shapes where the text reads them.

    Args:
        body: the nodes, in the notation of onnx.parser.
        weights: shapes by name.
        inputs: declarations.
        outputs: declarations.
        opset: of ONNX's own domain.
        dtype: of the weights.
        replace: contents by name instead of random ones.
    """
    text = f'<ir_version: 10, opset_import: ["": {opset}]> m ({inputs}) => ({outputs}) {{ {body} }}'
    proto = onnx.parser.parse_model(text)
    read = {name for node in proto.graph.node for name in node.input}
    for index, (name, shape) in enumerate(weights.items()):
        if name in read:
            array = np.random.default_rng(index).standard_normal(shape).astype(dtype)
            array = (replace or {}).get(name, array)
            proto.graph.initializer.append(numpy_helper.from_array(array, name))
    return ir.from_proto(proto)
