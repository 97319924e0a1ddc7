"""Puts attention by our kernels into a torch graph for a GPU, where it was measured to gain.

    scaled_dot_product_attention(q, k, v, ...)        ->  score_attention(q, k, v, "softmax", ...)
    f(a (q k^T) + b) v, f sigmoid, relu or softmax    ->  score_attention(q, k, v, f, scale=a, bias=b)

Condition: nothing else reads the scores or the weights; what stands between the product and f is a multiple
and a sum, which is found by evaluating it; there is no dropout. Both sides are the same function; ours rounds
less, because scores are never stored.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from tautomer.patterns.attention_form import AttentionForm
from tautomer.patterns.attention_operator import form_text
from tautomer.remarks import Remark
from tautomer.runtime.torch import attention_cuda
from tautomer.runtime.torch.attention_rules import overload

RULE = "attention"
aten = torch.ops.aten
_SCORES = {aten.sigmoid.default: "sigmoid", aten.relu.default: "relu", aten.softmax.int: "softmax"}
_AFFINE = (
    *(
        getattr(op, kind)
        for op in (aten.mul, aten.div, aten.add, aten.sub, aten.rsub)
        for kind in ("Tensor", "Scalar")
    ),
    aten.neg.default,
)
_PRODUCTS = (aten.matmul.default, aten.bmm.default)
_TURNS = (aten.transpose.int, aten.permute.default, aten.mT.default)
_LAST_TWO: list[set[Any]] = [{-1, -2}, {2, 3}, {2, -1}, {-2, 3}, set()]
# Hopper: from how many queries and keys on ours gains on torch's flash attention, and on stored scores. Alone
# it gains on flash attention from 1024 on, but a model with 1024 positions lost an eighth by it; its gradient
# gains at some sizes and loses at others.
_LEAST_OF_FLASH, _LEAST_OF_STORED = 4096, 256


@dataclass(frozen=True)
class _Site:
    """Attention as a graph has it; mask may be None."""

    form: AttentionForm
    q: fx.Node
    k: fx.Node
    v: fx.Node
    mask: fx.Node | None = None
    scale: float = 1.0
    bias: float = 0.0
    stored: bool = False


def use_attention(graph: fx.GraphModule) -> list[Remark]:
    """Changes a pre-dispatch ATen graph so that attention on a GPU runs by our kernels where that gains.

    Args:
        graph: with `meta["val"]` on its nodes; it is changed in place.

    Returns:
        "passed" for each attention that is ours now, and "missed" with the reason for each that is not.
    """
    remarks: list[Remark] = []
    for node in list(graph.graph.nodes):
        site = _site(node)
        if site is None:
            continue
        reason = site if isinstance(site, str) else _obstacle(site, node)
        if isinstance(site, _Site) and not reason:
            _place(graph.graph, node, site)
            remarks.append(Remark("passed", RULE, "ScoreAttention", node.name, f"as {form_text(site.form)}"))
        else:
            remarks.append(Remark("missed", RULE, "ScoreAttention", node.name, str(reason)))
    if any(one.kind == "passed" for one in remarks):
        graph.graph.eliminate_dead_code()
        graph.graph.lint()
        graph.recompile()
    return remarks


def _site(node: fx.Node) -> _Site | str | None:
    """The attention that a node gives the result of, why it is left alone, or None."""
    value = node.meta.get("val")
    if node.op != "call_function" or not isinstance(value, torch.Tensor) or value.device.type != "cuda":
        return None
    if node.target is aten.scaled_dot_product_attention.default:
        return _native(node)
    return _written_out(node) if node.target in _PRODUCTS else None


def _native(node: fx.Node) -> _Site | str:
    names = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
    given = dict(zip(names, node.args, strict=False)) | dict(node.kwargs)
    q, k, v, mask = (given.get(name) for name in names[:4])
    if given.get("dropout_p", 0.0) != 0.0:
        return "it has dropout"
    assert isinstance(q, fx.Node) and isinstance(k, fx.Node) and isinstance(v, fx.Node)
    kind = ""
    if isinstance(mask, fx.Node):
        kind = "boolean" if mask.meta["val"].dtype == torch.bool else "additive"
    scale = given.get("scale")
    scale = float(q.meta["val"].shape[-1]) ** -0.5 if scale is None else scale
    if not isinstance(scale, float | int):
        return "its scale is computed in the graph"
    causal = "start" if given.get("is_causal") else ""
    form = AttentionForm("softmax", mask=kind, causal=causal, empty="zero")  # type: ignore[arg-type]
    return _Site(form, q, k, v, mask if kind else None, float(scale))  # type: ignore[arg-type]


def _written_out(node: fx.Node) -> _Site | None:
    """f(a (q k^T) + b) v, if it is that."""
    weights, v = node.args
    if not isinstance(weights, fx.Node) or not isinstance(v, fx.Node) or weights.target not in _SCORES:
        return None
    score = _SCORES[weights.target]
    if score == "softmax" and (len(weights.args) != 2 or weights.args[1] not in (-1, 3) or weights.kwargs):
        return None
    chain = [weights]
    source = weights.args[0]
    while isinstance(source, fx.Node) and source.target in _AFFINE and len(source.all_input_nodes) == 1:
        chain.append(source)
        (source,) = source.all_input_nodes
    if not isinstance(source, fx.Node) or source.target not in _PRODUCTS:
        return None
    if any(len(one.users) != 1 for one in (*chain, source)):
        return None
    numbers = _line(chain[:0:-1], source)
    q, turned = source.args
    k = _untransposed(turned)
    if numbers is None or k is None or not isinstance(q, fx.Node):
        return None
    scale, bias = numbers
    return _Site(AttentionForm(score), q, k, v, None, scale, bias, stored=True)


def _line(chain: list[fx.Node], source: fx.Node) -> tuple[float, float] | None:
    """a and b, if nodes one after the other make a x + b of what they begin with."""
    known: dict[fx.Node, Any] = {source: torch.tensor([0.0, 1.0, -2.0], dtype=torch.float64)}
    for node in chain:
        try:
            known[node] = node.target(*fx.map_arg(node.args, known.__getitem__), **node.kwargs)  # type: ignore[operator]
        except (RuntimeError, TypeError, KeyError):
            return None
    at_0, at_1, at_2 = known[chain[-1] if chain else source].tolist()
    slope = at_1 - at_0
    straight = abs(at_2 - at_0 + 2.0 * slope) <= 1e-12 * (abs(slope) + abs(at_0) + abs(at_2))
    return (slope, at_0) if straight else None


def _untransposed(node: Any) -> fx.Node | None:
    """k of k^T."""
    if not isinstance(node, fx.Node) or node.target not in _TURNS or len(node.users) != 1:
        return None
    x, *axes = node.args
    turned = axes == [[0, 1, 3, 2]] if node.target is aten.permute.default else {*axes} in _LAST_TWO
    return x if turned and isinstance(x, fx.Node) else None


def _obstacle(site: _Site, node: fx.Node) -> str:
    """Why attention stays as it is, or ""."""
    tensors = [one.meta.get("val") for one in (site.q, site.k, site.v)]
    if not all(isinstance(one, torch.Tensor) and one.dim() == 4 for one in tensors):
        return "q, k and v do not have four axes"
    q, k, v = (one for one in tensors if isinstance(one, torch.Tensor))
    if not q.dtype == k.dtype == v.dtype == node.meta["val"].dtype:
        return "its types differ"
    if q.dtype not in (torch.bfloat16, torch.float16):
        return f"it was not measured for {q.dtype}"
    if not all(isinstance(size, int) for one in (q, k, v) for size in one.shape[1:]):
        return "its sizes are not known before it runs"
    if q.shape[1] % k.shape[1] or k.shape[0] != q.shape[0] or k.shape[:3] != v.shape[:3]:
        return "its heads are broadcast"
    if not torch.cuda.is_available() or torch.cuda.get_device_capability(q.device)[0] != 9:
        return "it was not measured on this device"
    trains = torch.is_grad_enabled() and any(one.requires_grad for one in (q, k, v))
    return _no_gain(site, q.shape[2], k.shape[2], q.shape[3], trains=trains) or attention_cuda.attach(
        site.form, q, v
    )


def _no_gain(site: _Site, rows: int, columns: int, head: int, *, trains: bool) -> str:
    """Why it would not be faster, or "": on a Hopper, by the rows of benchmarks.gpu."""
    least = _LEAST_OF_STORED if site.stored else _LEAST_OF_FLASH
    if not site.stored and (trains or site.mask is not None or head not in (64, 128)):
        return "no gain on torch's own attention was measured here"
    if min(rows, columns) < least:
        return f"it gains from {least} queries and keys on"
    return ""


def _place(graph: fx.Graph, node: fx.Node, site: _Site) -> None:
    arguments = (site.q, site.k, site.v, site.mask, None, None, None, form_text(site.form))
    with graph.inserting_before(node):
        made = graph.call_function(overload(), (*arguments, site.scale, site.bias, 1.0, 0, 0))
        made.meta["val"] = overload()(*fx.map_arg(made.args, lambda one: one.meta["val"]))
        if made.meta["val"].stride() != node.meta["val"].stride() and any(map(_views, node.users)):
            value = made.meta["val"]
            made = graph.call_function(
                aten.clone.default, (made,), {"memory_format": torch.contiguous_format}
            )
            made.meta["val"] = value.clone(memory_format=torch.contiguous_format)
    node.replace_all_uses_with(made)
    graph.erase_node(node)


def _views(user: fx.Node) -> bool:
    return user.target in (aten.view.default, aten._unsafe_view.default)
