"""Attention: f(q k^T * scale + masks) v, proposed by two matrix products and confirmed by evaluation.

Between the products lies a cone from the scores to the weights; it is run on random scores and masks and
compared with each score function. Outside them, scalings, head transposes and repeated key heads are walked
back and confirmed by running that movement, too.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from tautomer.graph.naming import label
from tautomer.patterns.attention_operands import Walked, walk_key, walk_query, walk_value
from tautomer.patterns.computation_type import rounding_cast
from tautomer.patterns.cones import Cone, ConeFinder
from tautomer.patterns.evaluation import FAILURES, FLOAT64, LARGEST, Program, compile_cone
from tautomer.patterns.operation import Definition
from tautomer.patterns.readings import Mode
from tautomer.patterns.recognised import Recognised
from tautomer.patterns.score_functions import SCORE_FUNCTIONS, weights_of
from tautomer.remarks import Remark

_MAX_BACK = 48
_MAX_SCORES = 1 << 22
_TOLERANCE = 1e-9  # float64 rounding of a softmax row
# What a mask adds to a score to remove it: far below any score, so that the function gives 0.
_REMOVED = -1e30
# What is swept twice has numbers of its own beside scale and bias.
_SCORES = tuple(one.name for one in SCORE_FUNCTIONS.values() if one.kind != "two sweeps")


def score_attention(m: Any, q: Any, k: Any, v: Any, *, score: str = "softmax", scale: float = 1.0) -> Any:
    """f(q k^T * scale + bias) v, f a score function; masks add to the scores."""
    scores = m.matmul(q, m.move(lambda x: np.swapaxes(x, -1, -2), k)) * scale
    return m.matmul(weights_of(m, SCORE_FUNCTIONS[score], scores), v)


DEFINITION = Definition(
    "ScoreAttention",
    score_attention,
    domain="tautomer",
    formula=(score_attention.__doc__ or ""),
    source="arXiv 1706.03762; arXiv 2409.04431 (sigmoid)",
)


@dataclass
class Attention:
    """What was found: operations, and remarks on products of products that are none."""

    found: list[Recognised] = field(default_factory=list)
    remarks: list[Remark] = field(default_factory=list)


@dataclass(frozen=True)
class _Weights:
    """Scores to weights: f(cap(scores * scale) + bias + masks), cap(s) = softcap * tanh(s / softcap)."""

    score: str
    scale: float
    bias: float
    masks: tuple[int, ...]
    softcap: float = 0.0


def find_attention(graph: ir.Graph, finder: ConeFinder, simple: list[Recognised], mode: Mode) -> Attention:
    """Finds attention in one graph; operations inside it stay reported, too."""
    result = Attention()
    known: dict[int, _Weights | str] = {}
    for node in finder.nodes:
        if node.op_type == "Attention" and node.domain in ("", "ai.onnx"):
            result.found.append(_native(node, graph))
        if node.op_type != "MatMul" or node.inputs[0] is None or node.inputs[1] is None:
            continue
        scores = _scores(node.inputs[0], finder)
        if scores is None:
            continue
        cone = finder.cone(scores, node.inputs[0])
        if cone is None:
            continue
        weights = known.get(cone.key)
        if weights is None:
            weights = known[cone.key] = _weights(cone, finder, mode)
        found = _assemble(node, cone, weights, finder, graph) if isinstance(weights, _Weights) else weights
        if isinstance(found, Recognised):
            result.found.append(found)
        else:
            result.remarks.append(Remark("missed", "recognise", "ScoreAttention", label(node), found))
    return result


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


def _weights(cone: Cone, finder: ConeFinder, mode: Mode) -> _Weights | str:
    shape = finder.fact(cone.source).shape
    weights_shape = finder.fact(cone.output).shape
    if shape is None or weights_shape is None or math.prod(weights_shape) != math.prod(shape):
        return "the weights do not have the shape of the scores"
    if math.prod(shape) > _MAX_SCORES or math.prod(shape) == 0:
        return f"the scores have shape {list(shape)}: too large or too small to be evaluated"
    kinds = [finder.fact(leaf).dtype for leaf in cone.leaves]
    if any(kind is None or not (kind.is_floating_point() or kind == ir.DataType.BOOL) for kind in kinds):
        return "something that is neither a float nor a boolean mask enters between the products"
    rounding = rounding_cast(cone, finder)
    if rounding is not None:
        return f"node '{label(rounding)}' (Cast) rounds the scores or weights to a narrower type"
    try:
        program = compile_cone(cone, finder, mode)
        if program.largest > LARGEST:
            return "what happens between the products is too large to be evaluated"
        trial = functools.cache(functools.partial(_Trial, program, kinds, shape))
        for weights in _hypotheses(program, kinds):
            if all(_holds(trial(weights.masks, seed), weights) for seed in (1, 2)):
                return weights
    except FAILURES as error:
        return f"the weights cannot be evaluated on their own: {error}"
    return "what happens between the two products is no score function that is known"


def _hypotheses(program: Program, kinds: list[Any]) -> Iterator[_Weights]:
    """Every reading of the scalars as scale and bias, and of each mask as added, kept or removed."""
    numbers = [r.value for r in program.readings if np.isfinite(r.value) and 0.0 < abs(r.value) < 1e4]
    scales = list(
        dict.fromkeys(
            [1.0, *numbers, *(1.0 / x for x in numbers), *(a * b for a in numbers for b in numbers)]
        )
    )
    biases = list(dict.fromkeys([0.0, *numbers, *(-x for x in numbers)]))
    choices: list[tuple[int, ...]] = [()]
    for kind in kinds:
        signs = (1, -1) if kind == ir.DataType.BOOL else (1,)
        choices = [(*choice, sign) for choice in choices for sign in signs]
    capped = any(call.op_type == "Tanh" for call in program.calls)
    for score in _SCORES:
        for scale in scales:
            for bias in biases if score != "softmax" else [0.0]:
                for masks in choices:
                    for cap in [x for x in numbers if x > 0.0] if capped else [0.0]:
                        yield _Weights(score, scale, bias, masks, cap)


class _Trial:
    """Random scores and masks for a cone; what it makes of them is computed when it is first asked for.

    Args:
        program: the cone.
        kinds: the types of its masks.
        shape: of the scores.
        signs: by mask, -1 where a boolean removes instead of keeping.
        seed: of the random numbers.
    """

    def __init__(
        self, program: Program, kinds: list[Any], shape: tuple[int, ...], signs: tuple[int, ...], seed: int
    ) -> None:
        rng = np.random.default_rng(seed)
        self._program, self._shape = program, shape
        self.scores = rng.standard_normal(shape) * 2.0
        self.masks: list[Any] = []
        self._leaves: list[Any] = []
        for kind, leaf_shape, sign in zip(kinds, program.leaf_shapes, signs, strict=True):
            mask = _random_mask(kind, leaf_shape, rng)
            self.masks.append(_as_scores(mask, program))
            self._leaves.append(mask if sign > 0 else ~mask)

    @functools.cached_property
    def found(self) -> Any:
        """The weights that the cone makes."""
        return self._program(self.scores, self._leaves).reshape(self._shape)


def _holds(trial: _Trial, weights: _Weights) -> bool:
    total: Any = trial.scores * weights.scale
    if weights.softcap:
        total = weights.softcap * np.tanh(total / weights.softcap)
    total = total + weights.bias
    for mask in trial.masks:
        if mask is None:
            return False
        total = np.where(mask, total, _REMOVED) if mask.dtype == bool else total + mask
    expected = weights_of(FLOAT64, SCORE_FUNCTIONS[weights.score], total)
    return bool(np.allclose(trial.found, expected, rtol=_TOLERANCE, atol=1e-13))


def _random_mask(kind: Any, shape: tuple[int, ...], rng: np.random.Generator) -> Any:
    """What a float mask adds, or which scores a boolean one is about; of each row always the first."""
    if kind != ir.DataType.BOOL:
        return rng.standard_normal(shape)
    mask = np.asarray(rng.random(shape) < 0.7)
    if shape:
        mask[..., 0] = True
    return mask


def _as_scores(mask: Any, program: Program) -> Any:
    """A mask in the shape of the scores; it may have been applied to the same scores in another shape."""
    for shape in program.shapes:
        try:
            return np.broadcast_to(mask, shape).reshape(program.source_shape)
        except ValueError:
            continue
    return None


def _assemble(
    node: ir.Node, cone: Cone, weights: _Weights, finder: ConeFinder, graph: ir.Graph
) -> Recognised:
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
    q_shape, k_shape = finder.fact(q.value).shape, finder.fact(k.value).shape
    if q_shape and k_shape and len(q_shape) == len(k_shape) == 4:
        attributes |= {"q_num_heads": q_shape[1], "kv_num_heads": k_shape[k.layout.index("h") + 1]}
    if k.layout != "hmd":
        attributes["k_layout"] = k.layout
    nodes = (*q.nodes, *k.nodes, *v.nodes, product, *cone.nodes, node)
    return Recognised(
        DEFINITION, (q.value, k.value, v.value, *cone.leaves), node.outputs[0], attributes, nodes, graph
    )


def _native(node: ir.Node, graph: ir.Graph) -> Recognised:
    attributes: dict[str, Any] = {"score": "softmax"}
    for name in ("scale", "is_causal", "q_num_heads", "kv_num_heads", "softcap"):
        if name in node.attributes:
            attributes[name] = node.attributes[name].value
    return Recognised(DEFINITION, tuple(node.inputs[:4]), node.outputs[0], attributes, (node,), graph)
