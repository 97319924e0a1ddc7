"""A transformer of two layers, in the form that is the original and in forms that are rewritten correctly.

h = tokens + positions;  h += Proj(mix(LN h));  h += Down(gelu(Up(LN h)));  logits = LN(h) tokens^T
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from onnx import ModelProto

from mutants import activations, attentions, norms
from mutants.sketch import Sketch
from mutants.weights import BATCH, HEAD, HEADS, LAYERS, LENGTH, WIDTH, weights

_OPERATOR = norms.Operator()


@dataclass(frozen=True)
class Form:
    """One way to write it.

    Attributes:
        key_bias: whether keys get their bias; q . b is the same for all of them, so softmax is blind to it.
    """

    norm: norms.Norm = _OPERATOR
    mix: attentions.Mix = attentions.operator
    scaling: attentions.Scaling = attentions.ON_SCORES
    activation: activations.Activation = activations.operator
    key_bias: bool = True


ORIGINAL = Form()
FORMS = {
    "decomposed": Form(norms.Decomposed(), attentions.decomposed, activation=activations.by_tanh),
    "moments": Form(norms.Moments(), attentions.base_two, attentions.ON_QUERIES, activations.by_sigmoid),
    "recentred": Form(norms.Recentred(), attentions.online, attentions.ON_QUERIES, activations.by_exp),
    "named": Form(norms.RecentredOperator(), attentions.operator, attentions.SPLIT, activations.by_tanh),
    "folded": Form(norms.Folded(), attentions.decomposed, attentions.SPLIT, activations.by_sigmoid),
    "compressed": Form(norms.Compressed(), attentions.base_two, activation=activations.by_exp),
    "operators": Form(mix=attentions.online, scaling=attentions.ON_QUERIES, key_bias=False),
}


def build(form: Form, regime: str) -> ModelProto:
    """The model in a form, with the weights of a regime."""
    g = Sketch(weights(regime))
    rows = g.op("Gather", form.norm.writer(g, "tokens", "tokens/table"), "tokens", at="tokens/rows", axis=0)
    h = g.op("Add", rows, form.norm.writer(g, "positions", "positions/table"), at="stream")
    for layer in range(LAYERS):
        place = f"layer{layer}"
        read = form.norm.norm(g, f"{place}/norm1", h, f"{place}/norm1/gain", f"{place}/norm1/bias")
        h = g.op("Add", h, _attention(g, form, place, read), at=f"{place}/stream1")
        read = form.norm.norm(g, f"{place}/norm2", h, f"{place}/norm2/gain", f"{place}/norm2/bias")
        up = form.norm.linear(g, f"{place}/up", read, f"{place}/up/weight", f"{place}/up/bias")
        active = form.activation(g, f"{place}/gelu", up)
        h = g.op("Add", h, _writer(g, form, f"{place}/down", active), at=f"{place}/stream2")
    read = form.norm.norm(g, "final", h, "final/gain", "final/bias")
    table = g.op("Transpose", "tokens/table", at="head/table", perm=[1, 0])
    return g.model(g.op("Identity", form.norm.linear(g, "head", read, table, None), at="logits"))


def load(model: ModelProto) -> ir.Model:
    """As the verifier takes it."""
    return ir.serde.deserialize_model(model)


def _writer(g: Sketch, form: Form, place: str, x: str) -> str:
    weight = form.norm.writer(g, f"{place}/weight", f"{place}/weight")
    bias = form.norm.writer(g, f"{place}/bias", f"{place}/bias")
    return g.op("Add", g.op("MatMul", x, weight, at=f"{place}/product"), bias, at=f"{place}/out")


def _attention(g: Sketch, form: Form, place: str, read: str) -> str:
    bias = f"{place}/qkv/bias"
    if not form.key_bias:
        queries, keys, values = g.split(bias, 3, f"{place}/qkv/biases")
        none = g.op("Mul", keys, 0.0, at=f"{place}/qkv/no_bias")
        bias = g.op("Concat", queries, none, values, at=f"{place}/qkv/bias_kept", axis=0)
    qkv = form.norm.linear(g, f"{place}/qkv", read, f"{place}/qkv/weight", bias)
    parts = g.split(qkv, 3, f"{place}/split")
    at = f"{place}/attention"
    heads = [
        g.op(
            "Transpose",
            g.op("Reshape", part, [BATCH, LENGTH, HEADS, HEAD], at=f"{at}/{name}_cut"),
            at=f"{at}/{name}",
            perm=perm,
        )
        for part, name, perm in zip(parts, "qkv", ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]), strict=True)
    ]
    queries = form.scaling.at(g, "queries", heads[0], at)
    keys = form.scaling.at(g, "keys", heads[1], at)
    scores = form.scaling.at(g, "scores", g.op("MatMul", queries, keys, at=f"{at}/products"), at)
    allowed = g.constant(np.tril(np.ones((LENGTH, LENGTH), bool)), f"{at}/allowed")
    masked = g.op("Where", allowed, scores, -np.inf, at=f"{at}/masked")
    mixed = form.mix(g, at, masked, heads[2])
    merged = g.op("Transpose", mixed, at=f"{at}/merged", perm=[0, 2, 1, 3])
    return _writer(g, form, f"{place}/proj", g.op("Reshape", merged, [BATCH, LENGTH, WIDTH], at=f"{at}/out"))
