"""Attention: f(q k^T * scale + masks) v, proposed by two matrix products and confirmed by evaluation.

Between the products lies a cone from the scores to the weights; it is run on random scores and masks and
compared with each score function. Outside them, scalings, head transposes and repeated key heads are walked
back and confirmed by running that movement, too.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx_ir as ir

from tautomer.graph.facts import Facts
from tautomer.graph.naming import label
from tautomer.patterns.attention import native as native_attention
from tautomer.patterns.attention.form import Causal
from tautomer.patterns.attention.operands import Walked, walk_heads, walk_key, walk_query, walk_value
from tautomer.patterns.attention.score_functions import SCORE_FUNCTIONS, weights_of
from tautomer.patterns.attention.weights import Leaf, Role, Weights
from tautomer.patterns.attention.weights_search import weights_in
from tautomer.patterns.operation import Definition
from tautomer.patterns.recognition.computation_type import rounding_cast
from tautomer.patterns.recognition.cones import Cone, ConeFinder, is_content
from tautomer.patterns.recognition.evaluation import FAILURES, LARGEST, compile_cone, is_rearranging
from tautomer.patterns.recognition.readings import Mode
from tautomer.patterns.recognition.recognised import Recognised
from tautomer.remarks import Remark

_MAX_BACK = 48
_MAX_SCORES = 1 << 22
_CUT = 24  # as much of each axis of scores is evaluated where nothing moves them


def score_attention(m: Any, q: Any, k: Any, v: Any, *, score: str = "softmax", scale: float = 1.0) -> Any:
    """f(q k^T * scale + bias) v, f a score function; masks add to the scores."""
    scores = m.matmul(q, m.move(lambda x: np.swapaxes(x, -1, -2), k)) * scale
    return m.matmul(weights_of(m, SCORE_FUNCTIONS[score], scores), v)


DEFINITION = Definition(
    "ScoreAttention",
    score_attention,
    domain="tautomer",
    operands=("k", "v"),
    formula=(score_attention.__doc__ or ""),
    source="arXiv 1706.03762; arXiv 2409.04431 (sigmoid)",
)


@dataclass
class Attention:
    """What was found: operations, and remarks on products of products that are none."""

    found: list[Recognised] = field(default_factory=list)
    remarks: list[Remark] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class RecognisedAttention(Recognised):
    """Attention as it is written in a graph.

    Attributes:
        heads: q, k and v as far back as they are only rearranged.
        weights: from scores to weights.
        leaves: what a tensor does that enters between the products, and the tensor.
        scores: q k^T; None where no value of the graph holds it.
        left: the first operand of that product.
        values: the second operand of the other one.
        inner: the nodes from that product to the one with v.
        causal: what its nodes themselves say of positions; what masks say is among the leaves.
    """

    heads: tuple[Walked, Walked, Walked] = ()  # type: ignore[assignment]
    weights: Weights = field(default_factory=lambda: Weights("softmax"))
    leaves: tuple[tuple[Role, ir.Value], ...] = ()
    scores: ir.Value | None = None
    left: ir.Value = field(default_factory=lambda: ir.Value(name=""))
    values: ir.Value = field(default_factory=lambda: ir.Value(name=""))
    inner: tuple[ir.Node, ...] = ()
    causal: Causal = ""

    def score_shape(self, facts: Facts) -> tuple[int, ...] | None:
        """The shape of q k^T, with queries and keys last."""
        if self.scores is not None:
            return facts.get(self.scores).shape
        left, values = facts.get(self.left).shape, facts.get(self.values).shape
        return None if left is None or values is None else (*left[:-1], values[-2])


def find_attention(
    graph: ir.Graph, finder: ConeFinder, mode: Mode, elsewhere: Callable[[], Facts]
) -> Attention:
    """Finds attention in one graph; operations inside it stay reported, too.

    Args:
        graph: the graph.
        finder: proposes its cones.
        mode: how constants are read.
        elsewhere: gives what is known of the graph's values at other sizes.
    """
    result = Attention()
    known: dict[int, Weights | str] = {}
    for node in finder.nodes:
        if native_attention.is_native(node):
            result.found.append(_native(node, finder, graph))
        if node.op_type != "MatMul" or node.inputs[0] is None or node.inputs[1] is None:
            continue
        scores = _scores(node.inputs[0], finder)
        if scores is None:
            continue
        cone = finder.cone(scores, node.inputs[0])
        if cone is None:
            continue
        cone = _with_sizes(cone, finder, elsewhere)
        truths = tuple(_is_truth(leaf, finder) for leaf in cone.leaves)
        cone = replace(cone, key=hash((cone.key, truths))) if any(truths) else cone
        weights = known.get(cone.key)
        if weights is None:
            weights = known[cone.key] = _weights(cone, truths, finder, mode)
        found = _assemble(node, cone, weights, finder, graph) if isinstance(weights, Weights) else weights
        if isinstance(found, Recognised):
            result.found.append(found)
        else:
            result.remarks.append(Remark("missed", "recognise", "ScoreAttention", label(node), found))
    return result


def _with_sizes(cone: Cone, finder: ConeFinder, elsewhere: Callable[[], Facts]) -> Cone:
    """The cone with numbers that are made from sizes, as -log n is, among its leaves."""
    varying = []
    for node in cone.nodes:
        for value in node.inputs:
            fact = finder.fact(value) if value is not None else None
            if value is None or fact is None or fact.constant or not is_content(fact) or value in varying:
                continue
            assert fact.array is not None
            there = elsewhere().get(value).array
            if fact.array.dtype.kind == "f" and (there is None or not np.array_equal(there, fact.array)):
                varying.append(value)
    return (
        replace(cone, leaves=(*cone.leaves, *varying), key=hash((cone.key, len(varying))))
        if varying
        else cone
    )


def _scores(weights: ir.Value, finder: ConeFinder) -> ir.Value | None:
    """The product that the weights are computed from, walking back through pointwise and row operators."""
    stack, seen = [weights], {weights: None}
    products: dict[ir.Value, None] = {}
    while stack and len(seen) < _MAX_BACK:
        value = stack.pop()
        producer = value.producer()
        if producer is None:
            continue
        if producer.op_type == "MatMul":
            if all(operand is not None and not finder.fact(operand).constant for operand in producer.inputs):
                products[value] = None
            continue
        if not finder.owns(producer):
            continue
        for operand in producer.inputs:
            if operand is None or operand in seen:
                continue
            fact = finder.fact(operand)
            if fact.array is None and not fact.constant:
                seen[operand] = None
                stack.append(operand)
    if len(products) != 1 or weights in products:
        return None
    (scores,) = products
    shape = finder.fact(scores).shape
    return scores if shape is not None and len(shape) >= 2 else None


def _is_truth(value: ir.Value, finder: ConeFinder) -> bool:
    """Whether all elements of a float tensor are 0 or 1, as those of a boolean are that was cast."""
    kind, node = finder.fact(value).dtype, value.producer()
    if kind is None or not kind.is_floating_point():
        return False
    before = node.inputs[0] if node is not None and node.op_type == "Cast" else None
    if before is not None and finder.fact(before).dtype == ir.DataType.BOOL:
        return True
    content = finder.content(value)
    return content is not None and bool(np.isin(content, (0.0, 1.0)).all())


def _weights(cone: Cone, truths: tuple[bool, ...], finder: ConeFinder, mode: Mode) -> Weights | str:
    shape = finder.fact(cone.source).shape
    weights_shape = finder.fact(cone.output).shape
    if shape is None or weights_shape is None or math.prod(weights_shape) != math.prod(shape):
        return "the weights do not have the shape of the scores"
    leaves = [finder.fact(leaf) for leaf in cone.leaves]
    kinds = [fact.dtype for fact in leaves]
    if any(kind is None or not (kind.is_floating_point() or kind == ir.DataType.BOOL) for kind in kinds):
        return "something that is neither a float nor a boolean mask enters between the products"
    rounding = rounding_cast(cone, finder)
    if rounding is not None:
        return f"node '{label(rounding)}' (Cast) rounds the scores or weights to a narrower type"
    other = next((node for node in cone.nodes if _is_other_triangle(node, finder)), None)
    if other is not None:
        return f"node '{label(other)}' (Trilu) keeps other keys than those up to the place of each query"
    try:
        program = compile_cone(cone, finder, mode)
        moves = any(map(is_rearranging, cone.nodes))  # a corner of a triangle is one
        cut = _CUT if not moves else max(shape, default=0)
        shape = tuple(min(size, cut) for size in shape)
        if math.prod(shape) > _MAX_SCORES or math.prod(shape) == 0:
            return f"the scores have shape {list(shape)}: too large or too small to be evaluated"
        if moves and program.largest > LARGEST:
            return "what happens between the products is too large to be evaluated"
        tensors = []
        for truth, fact, kind in zip(truths, leaves, kinds, strict=True):
            assert kind is not None and fact.shape is not None
            tensors.append(Leaf(kind, tuple(min(size, cut) for size in fact.shape), truth))
        if not moves:
            program = replace(program, source_shape=shape, shapes=(shape,))
        weights = weights_in(program, tensors, shape, weights_shape[-1])
    except FAILURES as error:
        return f"the weights cannot be evaluated on their own: {error}"
    return weights or "what happens between the two products is no score function that is known"


def _is_other_triangle(node: ir.Node, finder: ConeFinder) -> bool:
    """Whether a node is a Trilu that is not of the keys j <= i of query i."""
    if node.op_type != "Trilu":
        return False
    diagonal = finder.fact(node.inputs[1]).array if len(node.inputs) > 1 and node.inputs[1] else np.zeros(1)
    return bool(finder.call(node).get("upper", 1)) or diagonal is None or bool(np.any(diagonal))


def _assemble(node: ir.Node, cone: Cone, weights: Weights, finder: ConeFinder, graph: ir.Graph) -> Recognised:
    product = cone.source.producer()
    assert product is not None
    left, right, values = product.inputs[0], product.inputs[1], node.inputs[1]
    assert left is not None and right is not None and values is not None
    q = walk_query(left, finder)
    k = walk_key(right, finder)
    v = walk_value(values, finder)
    scale = weights.scale * q.factor * k.factor
    if v.factor != 1.0:
        v = Walked(values, 1.0, ())
    attributes: dict[str, Any] = {"score": weights.score, "scale": scale}
    attributes |= {name: number for name in ("bias", "softcap") if (number := getattr(weights, name))}
    attributes |= {"factor": weights.factor} if weights.factor != 1.0 else {}
    attributes |= {"power": weights.power} if weights.power else {}
    attributes |= {"is_causal": 1} if weights.triangle else {}
    q_shape, k_shape = finder.fact(q.value).shape, finder.fact(k.value).shape
    if q_shape and k_shape and len(q_shape) == len(k_shape) == 4:
        attributes |= {"q_num_heads": q_shape[1], "kv_num_heads": k_shape[k.layout.index("h") + 1]}
    if k.layout != "hmd":
        attributes["k_layout"] = k.layout
    heads = (
        walk_heads(left, finder, "h"),
        walk_heads(right, finder, "t"),
        walk_heads(values, finder, "h"),
    )
    nodes = (*q.nodes, *k.nodes, *v.nodes, product, *cone.nodes, node)
    return RecognisedAttention(
        DEFINITION,
        (q.value, k.value, v.value, *cone.leaves),
        node.outputs[0],
        attributes,
        nodes,
        graph,
        heads=heads,
        weights=weights,
        leaves=tuple(zip(weights.roles, cone.leaves, strict=True)),
        scores=cone.source,
        left=left,
        values=values,
        inner=(product, *cone.nodes, node),
        causal="start" if weights.triangle else "",
        key=cone.key,
    )


def _native(node: ir.Node, finder: ConeFinder, graph: ir.Graph) -> Recognised:
    common = (
        DEFINITION,
        tuple(node.inputs[:4]),
        node.outputs[0],
        native_attention.numbers_of(node),
        (node,),
        graph,
    )
    if native_attention.obstacle(node, finder):
        return Recognised(*common)
    return RecognisedAttention(*common, **native_attention.parts(node, finder))
