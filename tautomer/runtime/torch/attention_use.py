"""Attention of torch graphs by our kernels: where they run and gain, and how their calls are written.

Attention is recognised and rewritten by `passes.fuse_attention`, in torch graphs as in ONNX files.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import onnx_ir as ir
import torch
from torch import fx

from tautomer.codegen.attention.backward import has_backward
from tautomer.codegen.storage import DTYPES
from tautomer.graph.fx.emitter import Emitter
from tautomer.graph.fx.groups import FxModel
from tautomer.graph.fx.table import Writing
from tautomer.patterns.attention.form import AttentionForm
from tautomer.patterns.attention.operators import LAYOUTS, AttentionOperator, form_text, operator_named
from tautomer.patterns.attention.recognise import RecognisedAttention
from tautomer.patterns.onnx_body import DOMAIN
from tautomer.runtime.torch import attention_cuda
from tautomer.runtime.torch.attention_library import attach
from tautomer.runtime.torch.attention_rules import overload

# Hopper: from how many queries and keys on ours gains on torch's flash attention, and on stored scores; what
# was not measured by `benchmarks.gpu` counts as no gain. Alone it gains on flash attention from 1024 on, but
# a model with 1024 positions lost an eighth by it; its gradient gains at some sizes and loses at others. On
# stored scores it was measured at 2048, and in a model, forward and in training, at 1024.
_LEAST_OF_FLASH, _LEAST_OF_STORED = 4096, 1024
_HEADS = (64, 128)
_PRODUCTS = (
    torch.ops.aten.scaled_dot_product_attention.default,
    torch.ops.aten.matmul.default,
    torch.ops.aten.bmm.default,
)
_NO_GRADIENT = "gradients flow through it, and there is a kernel for those of softmax and sigmoid only"


class AttentionUse:
    """Says which attention of a graph our kernels run.

    Args:
        read: the graph.
        differentiated: the nodes that gradients flow through.
    """

    def __init__(self, read: FxModel, differentiated: Collection[fx.Node] = ()) -> None:
        self._read, self._differentiated = read, differentiated

    def refuses(
        self, op: RecognisedAttention, operator: AttentionOperator, inputs: Sequence[ir.Value]
    ) -> str:
        """Why the operator cannot take the place of an attention, or ""."""
        group = self._read.groups.get(op.node)
        if group is None:
            return "another rewrite made it"
        node = group.fx
        y = node.meta["val"]
        dtype = str(y.dtype).removeprefix("torch.")
        if dtype not in DTYPES:
            return f"there is no kernel for {dtype}"
        form = replace(operator.form, dtype=dtype)
        trains = node in self._differentiated
        if any(source_of(self._read, value) in self._differentiated for _, value in op.leaves):
            return "gradients flow to what is added to its scores, for which there is no kernel"
        if y.device.type == "cpu":
            return _NO_GRADIENT if trains and not has_backward(form) else attach(form)
        if y.device.type != "cuda":
            return f"there are no kernels for {y.device.type}"
        return _refused_on_gpu(form, [self._meta(walked.value) for walked in op.heads], op, y, trains=trains)

    def _meta(self, value: ir.Value) -> Any:
        source = self._read.origin.get(value)
        return None if source is None else source.meta.get("val")


def source_of(read: FxModel, value: ir.Value) -> fx.Node | None:
    """The FX node that gives a value of a graph, or in which it is made."""
    producer = value.producer()
    group = None if producer is None else read.groups.get(producer)
    return read.origin.get(value) or (None if group is None else group.fx)


def differentiated(module: fx.GraphModule, values: Sequence[Any]) -> set[fx.Node]:
    """The nodes that gradients flow through.

    Args:
        module: the graph.
        values: what its placeholders get; nothing where no gradients are wanted.
    """
    if not torch.is_grad_enabled():
        return set()
    given = dict(zip(module.graph.find_nodes(op="placeholder"), values, strict=False))
    found: set[fx.Node] = set()
    for node in module.graph.nodes:
        own = given.get(node)
        if (isinstance(own, torch.Tensor) and own.requires_grad) or (
            node.target is not torch.ops.aten.detach.default
            and any(one in found for one in node.all_input_nodes)
        ):
            found.add(node)
    return found


def _refused_on_gpu(
    form: AttentionForm, heads: list[Any], op: RecognisedAttention, y: torch.Tensor, *, trains: bool
) -> str:
    """Why attention on a GPU stays, or ""; by the rows of benchmarks.gpu on a Hopper."""
    if y.dtype != torch.bfloat16:
        return f"it was not measured for {y.dtype}"
    if not torch.cuda.is_available() or torch.cuda.get_device_capability(y.device)[0] != 9:
        return "it was not measured on this device"
    if any(one is None or not all(isinstance(size, int) for size in one.shape[1:]) for one in heads):
        return "its sizes are not known before it runs"
    if replace(form, score="softmax", dtype="float32", causal="", empty="nan") != AttentionForm():
        return "no gain was measured with such masks"
    q, k, v = (
        one.permute([LAYOUTS[walked.layout].index(axis) for axis in range(4)])
        for one, walked in zip(heads, op.heads, strict=True)
    )
    flash, width = op.scores is None, q.shape[-1]
    if width not in _HEADS or v.shape[-1] != width:
        return f"no gain was measured with heads of {width} and {v.shape[-1]}"
    if flash and trains:
        return "no gain on torch's own attention was measured in training"
    least = _LEAST_OF_FLASH if flash else _LEAST_OF_STORED
    if min(q.shape[2], k.shape[2]) < least:
        return f"it gains from {least} queries and keys on"
    if trains and not attention_cuda.has_gradient(form):
        return _NO_GRADIENT
    return attention_cuda.attach(form, q, v)


def multiplies_twice(module: fx.GraphModule) -> bool:
    """Whether there can be attention in a graph: torch's own, or two products of tensors."""
    products = [node for node in module.graph.nodes if node.target in _PRODUCTS]
    return len(products) > 1 or any(node.target in _PRODUCTS[:1] for node in products)


def writing_of_attention(domain: str, op_type: str) -> Writing | None:
    """How a call of attention is written into a torch graph; None for any other operator."""
    return _write if domain == DOMAIN and operator_named(op_type) is not None else None


def _write(emit: Emitter, node: ir.Node) -> Any:
    """A call of torch's operator; how axes lie is a view."""
    operator = operator_named(node.op_type)
    assert operator is not None
    letters, last = operator.layouts[:3], operator.layouts[3]

    def turned(x: Any, order: list[int]) -> Any:
        return x if order == [0, 1, 2, 3] else emit.call("aten.permute.default", x, order)

    tensors = [emit.operand(value) for value in node.inputs]
    q, k, v = (
        turned(x, [LAYOUTS[letter].index(axis) for axis in range(4)])
        for x, letter in zip(tensors, letters, strict=False)
    )
    more = dict(zip(operator.inputs[3:], tensors[3:], strict=True))
    numbers = {name: attribute.value for name, attribute in node.attributes.items()}
    y = emit.call_target(
        overload(),
        *(q, k, v, *(more.get(name) for name in ("mask", "lengths", "slopes", "sink"))),
        *(form_text(operator.form), numbers["scale"], numbers["bias"]),
        *(numbers.get("softcap", 1.0), numbers.get("window", 0), numbers.get("free", 0)),
    )
    return turned(y, list(LAYOUTS[last]))
