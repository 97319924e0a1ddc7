"""What attention operators compute, and the other fusions that onnxruntime and onnxscript put into graphs.

scores  = scale * q k^T;  cap * tanh(scores / cap)  where a softcap is set
weights = softmax(scores + bias) over the keys that a query may see; 0 for a query that may see none
result  = weights v
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tautomer.graph.call import Call
from tautomer.graph.semantics.arrays import integer_list
from tautomer.graph.semantics.domain import Array, Mathematics, Unsupported
from tautomer.graph.semantics.table import evaluate
from tautomer.patterns.meaning import compute

Given = Sequence[Any]
_Meaning = Callable[[Mathematics, Call, Given], tuple[Any, ...]]
_MEANINGS: dict[tuple[str, str], _Meaning] = {}
_MICROSOFT = "com.microsoft"


def meaning_here(call: Call) -> _Meaning | None:
    """The meaning of an operator of this file as f(m, call, inputs), or None."""
    return _MEANINGS.get((call.domain, call.op_type))


def _means(*names: str, domain: str = "") -> Callable[[_Meaning], _Meaning]:
    def register(function: _Meaning) -> _Meaning:
        _MEANINGS.update({(domain, name): function for name in names})
        return function

    return register


def _at(inputs: Given, slot: int) -> Any:
    return inputs[slot] if slot < len(inputs) else None


def _refuse(call: Call, inputs: Given, slots: Sequence[int], what: str) -> None:
    if any(_at(inputs, slot) is not None for slot in slots):
        raise Unsupported(call.op_type, what)


# --- the core -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Weighted:
    """The stages of attention, on (batch, head, position, channel)."""

    scores: Any
    capped: Any
    biased: Any
    weights: Any
    result: Any


def _attend(
    m: Mathematics,
    q: Any,
    k: Any,
    v: Any,
    *,
    scale: float | None,
    softcap: float = 0.0,
    bias: Any = None,
    keep: Array | None = None,
) -> _Weighted:
    """Attention of every head; heads of k and v serve equal groups of heads of q."""
    groups = m.shape(q)[1] // m.shape(k)[1]
    if groups > 1:
        k, v = (m.move(lambda a: np.repeat(a, groups, 1), x) for x in (k, v))
    factor: Any = scale if scale else m.rsqrt(m.constant(np.asarray(float(m.shape(q)[3]))))
    scores = m.matmul(q, m.move(lambda a: np.swapaxes(a, -1, -2), k)) * factor
    capped = softcap * m.tanh(scores / softcap) if softcap else scores
    biased = capped if bias is None else capped + bias
    alive = None if bias is None else _alive(m, bias)
    if keep is not None:
        keep = np.broadcast_to(keep, m.shape(scores))
        biased = m.where(keep, biased, m.constant(np.asarray(-np.inf)))
        alive = np.asarray(keep if alive is None else keep & alive)

    alive = None if alive is None else np.asarray(alive.any(-1, keepdims=True))
    top = m.amax(biased, (3,), True)
    e = m.exp(biased - top)
    weights = e / m.sum(e, (3,), True)
    if alive is not None and not alive.all():
        weights = m.where(alive, weights, m.constant(np.asarray(0.0)))
    return _Weighted(scores, capped, biased, weights, m.matmul(weights, v))


def _alive(m: Mathematics, bias: Any) -> Array:
    """Where a bias is not -inf."""
    infinite = m.isinf(bias)
    return ~(infinite & m.compare("<", bias, 0.0)) if infinite.any() else ~infinite


def _heads(m: Mathematics, x: Any, heads: int) -> Any:
    """(batch, position, head * channel) as (batch, head, position, channel)."""
    batch, length, width = m.shape(x)
    return m.move(lambda a: a.reshape(batch, length, heads, width // heads).transpose(0, 2, 1, 3), x)


def _joined(m: Mathematics, x: Any) -> Any:
    """The inverse of `_heads`."""
    batch, heads, length, width = m.shape(x)
    return m.move(lambda a: a.transpose(0, 2, 1, 3).reshape(batch, length, heads * width), x)


def _after(m: Mathematics, past: Any, x: Any) -> Any:
    """What was cached, and then the new keys or values."""
    return x if past is None else m.move(lambda a, b: np.concatenate([a, b], 2), past, x)


def _causal(queries: int, keys: int, offset: Any) -> Array:
    """Query i sees key j where j <= i + offset; an offset for each batch, or one for all."""
    offsets = np.asarray(offset).reshape(-1, 1, 1, 1)
    return np.asarray(np.arange(keys) <= np.arange(queries)[:, None] + offsets)


def _and(a: Array | None, b: Array) -> Array:
    return b if a is None else a & b


# --- ai.onnx --------------------------------------------------------------------------------------------


@_means("Attention")
def attention(m: Mathematics, call: Call, inputs: Given) -> tuple[Any, ...]:
    """softmax(scale * q k^T + mask) v, of Attention-23 and -24."""
    q, k, v = inputs[:3]
    mask, past_key, past_value, filled = (_at(inputs, slot) for slot in (3, 4, 5, 6))
    flat = len(m.shape(q)) == 3
    if flat:
        q = _heads(m, q, int(call.attributes["q_num_heads"]))
        k, v = (_heads(m, x, int(call.attributes["kv_num_heads"])) for x in (k, v))
    k, v = _after(m, past_key, k), _after(m, past_value, v)
    queries, keys = m.shape(q)[2], m.shape(k)[2]
    bias, keep = (mask, None) if mask is not None and m.is_value(mask) else (None, mask)
    short = keys - (m.shape(mask)[-1] if mask is not None else keys)
    if keep is not None:
        keep = np.pad(keep, [(0, 0)] * (keep.ndim - 1) + [(0, short)])
    elif short:
        end = m.constant(np.full((*m.shape(bias)[:-1], short), -np.inf))
        bias = m.move(lambda a, b: np.concatenate([a, b], -1), bias, end)
    offset: Any = 0 if past_key is None else m.shape(past_key)[2]
    if filled is not None:
        counts = np.asarray(filled).reshape(-1)
        keep = _and(keep, np.arange(keys) < counts.reshape(-1, 1, 1, 1))
        offset = counts - queries if past_key is None else offset
    if call.get("is_causal", 0):
        keep = _and(keep, _causal(queries, keys, offset))
    left, right = (int(call.get(f"{side}_window_size", -1)) for side in ("left", "right"))
    if left >= 0:
        keep = _and(keep, ~_causal(queries, keys, np.asarray(offset) - left - 1))
    if right >= 0:
        keep = _and(keep, _causal(queries, keys, np.asarray(offset) + right))
    done = _attend(
        m, q, k, v, scale=call.get("scale"), softcap=float(call.get("softcap", 0.0)), bias=bias, keep=keep
    )
    stages = (done.scores, done.capped, done.biased, done.weights)
    result = _joined(m, done.result) if flat else done.result
    return (result, k, v, stages[int(call.get("qk_matmul_output_mode", 0))])[: call.outputs]


def _rotated(m: Mathematics, x: Any, cos: Any, sin: Any, interleaved: bool) -> Any:
    """Turns pairs (a, b) of channels to (a cos - b sin, a sin + b cos); x as `_heads` makes it."""
    half = m.shape(cos)[-1]
    cos, sin = (m.move(lambda a: np.expand_dims(a, 1), table) for table in (cos, sin))
    pick: tuple[Any, Any] = (
        (slice(0, 2 * half, 2), slice(1, 2 * half, 2))
        if interleaved
        else (slice(0, half), slice(half, 2 * half))
    )
    a, b = (m.move(lambda array, s=s: array[..., s], x) for s in pick)

    def placed(first: Array, second: Array, whole: Array) -> Array:
        if interleaved:
            turned = np.stack([first, second], -1).reshape(*first.shape[:-1], 2 * half)
        else:
            turned = np.concatenate([first, second], -1)
        return np.concatenate([turned, whole[..., 2 * half :]], -1)

    return m.move(placed, a * cos - b * sin, a * sin + b * cos, x)


def _rotary(m: Mathematics, call: Call, x: Any, cos: Any, sin: Any) -> tuple[Any, ...]:
    flat = len(m.shape(x)) == 3
    if flat:
        heads = int(call.get("num_heads", 0))
        width = m.shape(cos)[-1] * 2
        if not heads and not call.get("rotary_embedding_dim", 0):
            heads = m.shape(x)[-1] // width
        x = _heads(m, x, heads)
    turned = _rotated(m, x, cos, sin, bool(call.get("interleaved", 0)))
    return (_joined(m, turned) if flat else turned,)


@_means("RotaryEmbedding")
def rotary_embedding(m: Mathematics, call: Call, inputs: Given) -> tuple[Any, ...]:
    """Pairs of channels turned by the angle of their position, RotaryEmbedding-23."""
    x, cos, sin = inputs[:3]
    positions = _at(inputs, 3)
    if positions is not None:
        cos, sin = (m.move(lambda a: a[positions], table) for table in (cos, sin))
    return _rotary(m, call, x, cos, sin)


@_means("LayerNormalization")
@_means("LayerNormalization", domain=_MICROSOFT)
def layer_normalization(m: Mathematics, call: Call, inputs: Given) -> tuple[Any, ...]:
    """The normalised rows, their means, and the inverses of their standard deviations."""
    result = compute(m, replace(call, outputs=1), inputs)
    if call.outputs == 1:
        return result
    x, rank = inputs[0], len(m.shape(inputs[0]))
    axes = tuple(range(int(call.get("axis", -1)) % rank, rank))
    mean = m.mean(x, axes, True)
    spread = m.mean((x - mean) * (x - mean), axes, True)
    return (*result, mean, m.rsqrt(spread + float(call.get("epsilon", 1e-5))))[: call.outputs]


# --- com.microsoft --------------------------------------------------------------------------------------


@_means("RotaryEmbedding", domain=_MICROSOFT)
def rotary_embedding_of_onnxruntime(m: Mathematics, call: Call, inputs: Given) -> tuple[Any, ...]:
    """As ONNX's; one position alone is where the first token stands."""
    x, positions, cos, sin = inputs
    if call.get("is_packed_batching", 0) or float(call.get("scale", 1.0)) != 1.0:
        raise Unsupported("RotaryEmbedding", "a scale or a packed batch")
    shape = m.shape(x)
    rows = np.asarray(positions)
    if rows.shape == (1,):
        rows = np.broadcast_to(rows[0] + np.arange(shape[-2]), (shape[0], shape[-2]))
    cos, sin = (m.move(lambda a: a[rows], table) for table in (cos, sin))
    return _rotary(m, call, x, cos, sin)


def _mask_bias(m: Mathematics, call: Call, mask: Any, batch: int, queries: int, keys: int) -> Any:
    """What onnxruntime adds to the scores: `mask_filter_value` where a key is masked."""
    given = np.asarray(mask)
    if given.ndim == 1:
        if given.size not in (batch, 2 * batch):
            raise Unsupported(call.op_type, "a mask of packed sequences")
        place = np.arange(keys)
        kept = place < given[:batch, None]
        if given.size == 2 * batch:
            kept &= place >= given[batch:, None]
    else:
        kept = given > 0
    if kept.ndim == 2:
        kept = np.broadcast_to(kept[:, None, None, :], (batch, 1, 1, keys))
    elif kept.ndim == 3:
        kept = kept[:, None]
    elif kept.shape[-1] != keys or kept.shape[-2] != queries:  # the triangle of the longest sequence
        kept = kept[:, :, keys - queries : keys, :keys]
    number = np.float32(call.get("mask_filter_value", -10000.0))
    return m.constant(np.where(kept, np.float32(0.0), number))


def _added(a: Any, b: Any) -> Any:
    return b if a is None else a if b is None else a + b


@_means("Attention", domain=_MICROSOFT)
def packed_attention(m: Mathematics, call: Call, inputs: Given) -> tuple[Any, ...]:
    """Attention of x W + b, whose columns are the queries, the keys and the values."""
    x, weights, bias, mask, past, extra = (_at(inputs, slot) for slot in range(6))
    _refuse(call, inputs, (6,), "a shared cache")
    if call.get("do_rotary", 0) or call.get("past_present_share_buffer", 0):
        raise Unsupported("Attention", "rotation or a shared cache")
    packed = m.matmul(x, weights)
    packed = packed if bias is None else packed + bias
    third = m.shape(packed)[-1] // 3
    widths = list(call.get("qkv_hidden_sizes") or [third, third, third])
    ends = np.cumsum([0, *widths])
    cuts = [m.move(lambda a, i=i: a[..., ends[i] : ends[i + 1]], packed) for i in range(3)]
    q, k, v = (_heads(m, cut, int(call.attributes["num_heads"])) for cut in cuts)
    if past is not None:
        k, v = (_after(m, m.move(lambda a, i=i: a[i], past), y) for i, y in enumerate((k, v)))
    done = _masked(m, call, q, k, v, mask, extra)
    outputs = [_joined(m, done.result)]
    if call.outputs > 1:
        outputs.append(m.move(lambda a, b: np.stack([a, b]), k, v))
    return tuple(outputs)


def _masked(m: Mathematics, call: Call, q: Any, k: Any, v: Any, mask: Any, extra: Any) -> _Weighted:
    batch, _, queries, _ = m.shape(q)
    keys = m.shape(k)[2]
    bias = None if mask is None else _mask_bias(m, call, mask, batch, queries, keys)
    keep = _causal(queries, keys, keys - queries) if call.get("unidirectional", 0) else None
    return _attend(m, q, k, v, scale=call.get("scale"), bias=_added(bias, extra), keep=keep)


@_means("MultiHeadAttention", domain=_MICROSOFT)
def multi_head_attention(m: Mathematics, call: Call, inputs: Given) -> tuple[Any, ...]:
    """Attention of q, k and v that may come packed, with a bias of the projection."""
    q, k, v, bias, mask, extra, past_key, past_value = (_at(inputs, slot) for slot in range(8))
    _refuse(call, inputs, (8, 9), "a shared cache or beams")
    heads = int(call.attributes["num_heads"])
    if k is None:  # (batch, position, head, 3, channel)
        q, k, v = (m.move(lambda a, i=i: a[:, :, :, i].transpose(0, 2, 1, 3), q) for i in range(3))
    else:
        q = _heads(m, q, heads)
        if v is None:
            k, v = (m.move(lambda a, i=i: a[:, :, :, i].transpose(0, 2, 1, 3), k) for i in range(2))
        else:
            k, v = (_heads(m, y, heads) if len(m.shape(y)) == 3 else y for y in (k, v))
    if bias is not None:
        ends = np.cumsum([0, *(heads * m.shape(y)[3] for y in (q, k, v))])
        parts = [
            m.move(lambda a, i=i: a[ends[i] : ends[i + 1]].reshape(heads, 1, -1), bias) for i in range(3)
        ]
        q, k, v = q + parts[0], k + parts[1], v + parts[2]
    k, v = _after(m, past_key, k), _after(m, past_value, v)
    done = _masked(m, call, q, k, v, mask, extra)
    return (_joined(m, done.result), k, v, done.scores)[: call.outputs]


@_means("GroupQueryAttention", domain=_MICROSOFT)
def group_query_attention(m: Mathematics, call: Call, inputs: Given) -> tuple[Any, ...]:
    """Causal attention with fewer heads of keys, where the cache is exactly as long as what was cached."""
    q, k, v, past_key, past_value, lengths = (_at(inputs, slot) for slot in range(6))
    cos, sin, positions, bias = (_at(inputs, slot) for slot in range(7, 11))
    _refuse(call, inputs, (11, 12, 13, 14, 15), "sinks, a quantised cache or norms")
    unusual = {"smooth_softmax": (0, -1), "sliding_window_cache": (0,), "qk_output": (0,), "causal": (1,)}
    for name, usual in unusual.items():
        if int(call.get(name, usual[0])) not in usual:
            raise Unsupported("GroupQueryAttention", name)
    heads, few = int(call.attributes["num_heads"]), int(call.attributes["kv_num_heads"])
    if k is None:
        size = m.shape(q)[-1] // (heads + 2 * few)
        ends = np.cumsum([0, heads * size, few * size, few * size])
        q, k, v = (m.move(lambda a, i=i, q=q: a[..., ends[i] : ends[i + 1]], q) for i in range(3))
    q, k, v = _heads(m, q, heads), _heads(m, k, few), _heads(m, v, few)
    queries, before = m.shape(q)[2], 0 if past_key is None else m.shape(past_key)[2]
    if any(length + 1 != before + queries for length in integer_list(m, lengths)):
        raise Unsupported("GroupQueryAttention", "a padded batch or a cache of another length")
    if call.get("do_rotary", 0):
        rows = before + np.arange(queries)[None] if positions is None else np.asarray(positions)
        cos, sin = (m.move(lambda a: a[rows], table) for table in (cos, sin))
        q, k = (_rotated(m, y, cos, sin, bool(call.get("rotary_interleaved", 0))) for y in (q, k))
    k, v = _after(m, past_key, k), _after(m, past_value, v)
    keys = before + queries
    keep = _causal(queries, keys, before)
    window = int(call.get("local_window_size", -1))
    if window > 0:
        keep = keep & ~_causal(queries, keys, before - window)
    softcap = float(call.get("softcap", 0.0))
    done = _attend(m, q, k, v, scale=call.get("scale"), softcap=softcap, bias=bias, keep=keep)
    return (_joined(m, done.result), k, v)[: call.outputs]


@_means("SkipLayerNormalization", "SkipSimplifiedLayerNormalization", domain=_MICROSOFT)
def skip_normalization(m: Mathematics, call: Call, inputs: Given) -> tuple[Any, ...]:
    """The norm of x + skip + bias, with mean and inverse deviation, and that sum itself."""
    simplified = call.op_type.startswith("SkipSimplified")
    total = inputs[0] + inputs[1]
    extra = _at(inputs, 3 if simplified else 4)
    total = total if extra is None else total + extra
    epsilon = float(call.get("epsilon", 1e-12))
    rank = len(m.shape(total))
    mean = None if simplified else m.mean(total, (rank - 1,), True)
    centred = total if simplified else total - mean
    scale = m.rsqrt(m.mean(centred * centred, (rank - 1,), True) + epsilon)
    result = centred * scale * inputs[2]
    shift = None if simplified else _at(inputs, 3)
    return (result if shift is None else result + shift, mean, scale, total)[: call.outputs]


@_means("SimplifiedLayerNormalization")
@_means("SimplifiedLayerNormalization", domain=_MICROSOFT)
def simplified_layer_normalization(m: Mathematics, call: Call, inputs: Given) -> tuple[Any, ...]:
    """x / sqrt(mean(x^2) + epsilon) * scale, and the factor of each row."""
    x, rank = inputs[0], len(m.shape(inputs[0]))
    axes = tuple(range(int(call.get("axis", -1)) % rank, rank))
    factor = m.rsqrt(m.mean(x * x, axes, True) + float(call.get("epsilon", 1e-5)))
    return (x * factor * inputs[1], factor)[: call.outputs]


@_means("EmbedLayerNormalization", domain=_MICROSOFT)
def embed_layer_normalization(m: Mathematics, call: Call, inputs: Given) -> tuple[Any, ...]:
    """The layer norm of word + position + segment embeddings, the lengths by the mask, and that sum."""
    ids, segments, words, places, kinds, scale, bias, mask, positions = (_at(inputs, s) for s in range(9))
    rows = np.arange(ids.shape[1])[None] if positions is None else np.asarray(positions)
    total = m.move(lambda a: a[ids], words) + m.move(lambda a: a[rows], places)
    if segments is not None and kinds is not None:
        total = total + m.move(lambda a: a[segments], kinds)
    epsilon = {"epsilon": float(call.get("epsilon", 1e-12))}
    (result,) = compute(m, Call("LayerNormalization", "", 17, epsilon), [total, scale, bias])
    lengths = np.zeros(ids.shape[0]) if mask is None else np.asarray(mask).sum(1)
    return (result, lengths.astype(np.int32), total)[: call.outputs]


@_means("BiasSoftmax", domain=_MICROSOFT)
def bias_softmax(m: Mathematics, call: Call, inputs: Given) -> tuple[Any, ...]:
    """softmax(x + bias) over the axes from `axis` on."""
    total = inputs[0] + inputs[1]
    rank = len(m.shape(total))
    axes = tuple(range(int(call.get("axis", 1)) % rank, rank))
    e = m.exp(total - m.amax(total, axes, True))
    return (e / m.sum(e, axes, True),)


@_means("FusedMatMul", domain=_MICROSOFT)
def fused_matrix_product(m: Mathematics, call: Call, inputs: Given) -> tuple[Any, ...]:
    """alpha * a @ b; transBatch moves the first axis behind the batch axes, trans swaps the last two."""
    operands = []
    for x, side in zip(inputs, "AB", strict=True):
        if call.get(f"transBatch{side}", 0):
            x = m.move(lambda a: np.moveaxis(a, 0, -2), x)
        if call.get(f"trans{side}", 0) and len(m.shape(x)) > 1:
            x = m.move(lambda a: np.swapaxes(a, -1, -2), x)
        operands.append(x)
    alpha = float(call.get("alpha", 1.0))
    product = m.matmul(*operands)
    return (product if alpha == 1.0 else product * alpha,)


def _activated(m: Mathematics, name: str, numbers: dict[str, Any], x: Any) -> Any:
    return compute(m, Call(name, "", 22, numbers), [x])[0] if name else x


@_means("FusedGemm", domain=_MICROSOFT)
def fused_gemm(m: Mathematics, call: Call, inputs: Given) -> tuple[Any, ...]:
    """f(alpha * a @ b + beta * c)."""
    (x,) = evaluate(m, replace(call, op_type="Gemm", domain="", version=13), list(inputs))
    numbers = {
        n: call.attributes[f"activation_{n}"]
        for n in ("alpha", "beta")
        if f"activation_{n}" in call.attributes
    }
    return (_activated(m, call.get("activation", ""), numbers, x),)


@_means("FusedConv", domain=_MICROSOFT)
def fused_convolution(m: Mathematics, call: Call, inputs: Given) -> tuple[Any, ...]:
    """f(conv(x) + z)."""
    (x,) = evaluate(m, replace(call, op_type="Conv", domain="", version=22), list(inputs[:3]))
    name, numbers = call.get("activation", ""), list(call.get("activation_params") or [])
    names = ("min", "max") if name == "Clip" else ("alpha", "beta")
    extra = _at(inputs, 3)
    named = dict(zip(names, numbers, strict=False))
    return (_activated(m, name, named, x if extra is None else x + extra),)
