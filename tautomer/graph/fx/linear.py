"""Linear maps: products of matrices, convolutions, tables."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from tautomer.graph.fx.emitter import Emitter, Unwritable
from tautomer.graph.fx.site import Opaque, Site
from tautomer.graph.fx.sizes import element_type
from tautomer.graph.fx.table import reads, writes


@reads("aten.linear.default")
def linear(site: Site) -> ir.Value:
    """x W^T + b, with x of any rank."""
    site.of_one_type("input", "weight", "bias")
    if len(site.meta("weight").shape) != 2:
        raise Opaque("its weight is a vector")
    product = site.op("MatMul", site.tensor("input"), site.transposed(site.tensor("weight")))
    bias = site.optional("bias")
    return product if bias is None else site.op("Add", product, bias)


@reads("aten.addmm.default")
def addmm(site: Site) -> ir.Value:
    """beta b + alpha A B."""
    site.of_one_type("self", "mat1", "mat2")
    return site.op(
        "Gemm",
        *(site.tensor(name) for name in ("mat1", "mat2", "self")),
        alpha=float(site.number("alpha")),
        beta=float(site.number("beta")),
    )


@reads("aten.matmul.default", "aten.mm.default", "aten.bmm.default")
def matmul(site: Site) -> ir.Value:
    """A B, over leading axes."""
    first, second = [argument.name for argument in site.fx.target._schema.arguments[:2]]  # type: ignore[union-attr]
    site.of_one_type(first, second)
    return site.op("MatMul", site.tensor(first), site.tensor(second))


@reads("aten.baddbmm.default")
def baddbmm(site: Site) -> ir.Value:
    """beta b + alpha A B, over a leading axis."""
    site.of_one_type("self", "batch1", "batch2")
    product = site.op("MatMul", site.tensor("batch1"), site.tensor("batch2"))
    if site.number("alpha") != 1:
        product = site.op("Mul", product, site.constant(site.number("alpha"), np.float64))
    added: Any = site.tensor("self")
    if site.number("beta") != 1:
        added = site.op("Mul", added, site.constant(site.number("beta"), np.float64))
    return site.op("Add", product, added)


@reads("aten.conv1d.default", "aten.conv2d.default", "aten.conv3d.default")
def convolution(site: Site) -> ir.Value:
    """Conv."""
    site.of_one_type("input", "weight", "bias")
    weight = site.meta("weight").shape
    spatial = len(weight) - 2
    if len(site.meta("input").shape) != len(weight):
        raise Opaque("it has no batch axis")

    def each(name: str) -> list[int]:
        held = list(site.number(name))
        return held * spatial if len(held) == 1 else held

    bias = site.optional("bias")
    return site.op(
        "Conv",
        site.tensor("input"),
        site.tensor("weight"),
        *([] if bias is None else [bias]),
        strides=each("stride"),
        pads=each("padding") * 2,
        dilations=each("dilation"),
        group=int(site.number("groups")),
        kernel_shape=[int(size) for size in weight[2:]],
    )


@reads("aten.einsum.default")
def einsum(site: Site) -> ir.Value:
    """Einstein's summation."""
    site.of_floats()
    if any(each.meta["val"].dtype != site.result.dtype for each in site.given("tensors")):
        raise Opaque("it joins tensors of several kinds")
    return site.op("Einsum", *site.tensors("tensors").values(), equation=site.given("equation"))


@reads("aten.eye.default")
def identity_matrix(site: Site) -> ir.Value:
    """Ones on the diagonal: adapters are multiplied by it to get the product of their matrices."""
    site.of_floats()
    dtype = element_type(site.result.dtype)
    size = int(site.number("n"))
    zero = ir.tensor(np.zeros(1, np.int8))
    zeros = site.op("ConstantOfShape", site.constant([size, size]), value=ir.AttrTensor("value", zero))
    assert dtype is not None
    return site.op("EyeLike", zeros, dtype=int(dtype))


@reads("aten.embedding.default")
def embedding(site: Site) -> ir.Value:
    """Rows of a table; what happens to gradients stays with the node."""
    return site.op("Gather", site.tensor("weight"), site.tensor("indices"), axis=0)


@writes("MatMul")
def write_matmul(emit: Emitter, node: ir.Node) -> Any:
    """A product."""
    return emit.call("aten.matmul.default", *(emit.operand(value) for value in node.inputs))


@writes("Gemm")
def write_gemm(emit: Emitter, node: ir.Node) -> Any:
    """addmm, or mm without a third operand."""
    get = {name: attribute.value for name, attribute in node.attributes.items()}
    factors = []
    for value, flag in zip(node.inputs, ("transA", "transB"), strict=False):
        operand = emit.operand(value)
        factors.append(emit.call("aten.t.default", operand) if get.get(flag) else operand)
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        scaled = {"beta": get.get("beta", 1.0), "alpha": get.get("alpha", 1.0)}
        numbers = {name: number for name, number in scaled.items() if number != 1.0}
        return emit.call("aten.addmm.default", emit.operand(node.inputs[2]), *factors, **numbers)
    product = emit.call("aten.mm.default", *factors)
    alpha = get.get("alpha", 1.0)
    return product if alpha == 1.0 else emit.call("aten.mul.Tensor", product, alpha)


@writes("Conv")
def write_convolution(emit: Emitter, node: ir.Node) -> Any:
    """A convolution with the same padding in front and behind."""
    get = {name: attribute.value for name, attribute in node.attributes.items()}
    operands = [emit.operand(value) for value in node.inputs]
    pads = list(get["pads"])
    spatial = len(pads) // 2
    if pads[:spatial] != pads[spatial:]:
        raise Unwritable("torch pads a convolution by as much in front as behind")
    bias = operands[2:] or [None]
    moves = list(get["strides"]), pads[:spatial], list(get["dilations"]), int(get["group"])
    return emit.call(f"aten.conv{spatial}d.default", *operands[:2], *bias, *moves)


@writes("Gather")
def write_gather(emit: Emitter, node: ir.Node) -> Any:
    """Rows of a table, or one index of an axis; of a shape, a size."""
    axis = node.attributes["axis"].as_int() if "axis" in node.attributes else 0
    x = emit.operand(node.inputs[0])
    if isinstance(x, tuple):
        return x[emit.number(node.inputs[1])]
    rank = emit.rank(node.inputs[0])
    if emit.rank(node.inputs[1]) == 0:
        return emit.call("aten.select.int", x, axis, emit.number(node.inputs[1]))
    if axis == 0 and rank == 2:
        return emit.call("aten.embedding.default", x, emit.operand(node.inputs[1]))
    return emit.call("aten.index.Tensor", x, [*[None] * (axis % rank), emit.operand(node.inputs[1])])
