"""Pointwise operators."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from tautomer.graph.fx.emitter import Emitter
from tautomer.graph.fx.site import Opaque, Operand, Site
from tautomer.graph.fx.sizes import element_type, is_plain, torch_type
from tautomer.graph.fx.table import Row, reads, rows, writes

_TWO = ("self", "other")
SELU = (1.6732632423543772, 1.0507009873554805)  # alpha and gamma, as torch computes with them

rows(
    *(
        Row(f"aten.{name}.{form}", op, _TWO, fixed, number=True, widens=True, floats=name == "div")
        for name, op, fixed in (
            ("add", "Add", {"alpha": 1}),
            ("sub", "Sub", {"alpha": 1}),
            ("mul", "Mul", {}),
            ("div", "Div", {}),
        )
        for form in ("Tensor", "Scalar")
    ),
    Row("aten.pow.Tensor_Scalar", "Pow", ("self", "exponent"), written=False),
    Row("aten.pow.Tensor_Tensor", "Pow", ("self", "exponent"), written=False),
    Row("aten.maximum.default", "Max", _TWO, floats=False),
    Row("aten.minimum.default", "Min", _TWO, floats=False),
    Row("aten.max.other", "Max", _TWO, floats=False, written=False),
    Row("aten.min.other", "Min", _TWO, floats=False, written=False),
    Row("aten.neg.default", "Neg", floats=False),
    Row("aten.abs.default", "Abs", floats=False),
    *(
        Row(f"aten.{name}.default", op)
        for name, op in {
            "exp": "Exp",
            "log": "Log",
            "sqrt": "Sqrt",
            "reciprocal": "Reciprocal",
            "erf": "Erf",
            "tanh": "Tanh",
            "sin": "Sin",
            "cos": "Cos",
            "acos": "Acos",
            "arccos": "Acos",
            "atan": "Atan",
            "arctan": "Atan",
            "sigmoid": "Sigmoid",
            "relu": "Relu",
            "mish": "Mish",
            "hardswish": "HardSwish",
            "sign": "Sign",
            "floor": "Floor",
            "ceil": "Ceil",
        }.items()
    ),
    Row("aten.silu.default", "Swish", constant={"alpha": 1.0}),
    Row("aten.hardsigmoid.default", "HardSigmoid", constant={"alpha": 1.0 / 6.0, "beta": 0.5}),
    Row("aten.leaky_relu.default", "LeakyRelu", attributes={"alpha": "negative_slope"}),
    Row("aten.elu.default", "Elu", ("self",), {"scale": 1, "input_scale": 1}, {"alpha": "alpha"}),
    Row("aten.softplus.default", "Softplus", ("self",), {"beta": 1, "threshold": 20}),
    Row("aten.gelu.default", "Gelu", attributes={"approximate": "approximate"}),
    Row("aten.selu.default", "Selu", constant={"alpha": SELU[0], "gamma": SELU[1]}, written=False),
)


@reads("aten.rsqrt.default")
def rsqrt(site: Site) -> ir.Value:
    """1 / sqrt(x)."""
    site.of_one_type("self")
    site.of_floats()
    return site.op("Reciprocal", site.op("Sqrt", site.tensor("self")))


@reads("aten.square.default")
def square(site: Site) -> ir.Value:
    """x * x."""
    site.of_one_type("self")
    x = site.tensor("self")
    return site.op("Mul", x, x)


@reads("aten.rsub.Scalar")
def reversed_difference(site: Site) -> ir.Value:
    """c - x, as -(x - c): the same number in every rounding."""
    site.expect(alpha=1)
    site.of_one_type("self")
    return site.op("Neg", site.op("Sub", site.tensor("self"), site.tensor("other")))


@reads("aten.where.self", "aten.where.ScalarOther", "aten.where.ScalarSelf", "aten.where.Scalar")
def where(site: Site) -> ir.Value:
    """Where."""
    site.of_one_type("self", "other")
    return site.op("Where", site.tensor("condition"), site.rounded("self"), site.rounded("other"))


@reads("aten.masked_fill.Scalar")
def masked_fill(site: Site) -> ir.Value:
    """Where(mask, value, x)."""
    site.of_one_type("self")
    return site.op("Where", site.tensor("mask"), site.rounded("value"), site.tensor("self"))


@reads("aten.index_put.default")
def masked_write(site: Site) -> ir.Value:
    """x[mask] = number, as Where(mask, number, x)."""
    import torch

    site.of_one_type("self", "values")
    mask, *others = site.tensors("indices").values()
    held = site.given("indices")[0].meta["val"]
    if (
        others
        or len(site.given("indices")) > 1
        or held.dtype != torch.bool
        or held.shape != site.result.shape
    ):
        raise Opaque("it writes to places that are listed")
    if site.number("accumulate") or site.meta("values").dim():
        raise Opaque("it writes more than one number")
    return site.op("Where", mask, site.tensor("values"), site.tensor("self"))


@reads("aten.threshold.default")
def threshold(site: Site) -> ir.Value:
    """Where(x <= threshold, value, x)."""
    site.of_one_type("self")
    x = site.tensor("self")
    return site.op(
        "Where", site.op("LessOrEqual", x, site.rounded("threshold")), site.rounded("value"), x.value
    )


@reads("aten.clamp.default", "aten.clamp_min.default")
def clamp(site: Site) -> ir.Value:
    """Clip."""
    site.of_one_type("self")
    low, high = (
        None if name not in site.attributes or site.number(name) is None else site.rounded(name)
        for name in ("min", "max")
    )
    return site.op("Clip", site.tensor("self"), low, *([] if high is None else [high]))


_COMPARISONS = {"gt": "Greater", "ge": "GreaterOrEqual", "lt": "Less", "le": "LessOrEqual", "eq": "Equal"}


@reads(*(f"aten.{name}.{form}" for name in _COMPARISONS for form in ("Tensor", "Scalar")))
def comparison(site: Site) -> ir.Value:
    """x > y and so on, of two tensors of one type, or of a tensor and a number that its type holds."""
    name = str(site.fx.target).split(".")[1]
    x, y = site.tensor("self"), site.tensor("other")
    other = site.given("other")
    if isinstance(other, (bool, int, float)):
        dtype = site.meta("self").dtype
        if not dtype.is_floating_point and int(other) != other:
            raise Opaque("it compares integers with a fraction")
        kind = element_type(dtype)
        assert kind is not None
        y = type(y)(site.constant(other, kind.numpy()), y.path)
    elif site.meta("other").dtype != site.meta("self").dtype:
        raise Opaque("it compares two element types")
    return site.op(_COMPARISONS[name], x, y)


@reads(
    *("aten.to.dtype", "aten.to.device", "aten.to.dtype_layout", "aten._to_copy.default", "aten.to.other"),
    *("aten.type_as.default", "aten.float.default"),
)
def cast(site: Site) -> ir.Value | Operand:
    """Cast, or nothing."""
    before, after = site.meta("self"), site.result
    if before.device != after.device:
        raise Opaque("it moves to another device")
    x = site.tensor("self")
    if before.dtype == after.dtype:
        return x
    dtype = element_type(after.dtype)
    assert dtype is not None
    return site.op("Cast", x, to=int(dtype))


@reads(
    *("aten.contiguous.default", "aten.clone.default", "aten.alias.default", "aten.lift_fresh_copy.default")
)
def nothing(site: Site) -> Operand:
    """The same numbers."""
    return site.tensor("self")


@reads("aten.detach.default")
def detached(site: Site) -> Operand:
    """The same numbers, where no gradient is stopped."""
    if site.differentiable:
        raise Opaque("it stops gradients")
    return site.tensor("self")


@reads("aten.dropout.default", "aten.feature_dropout.default", "aten.alpha_dropout.default")
def dropout(site: Site) -> Operand:
    """Nothing, outside of training."""
    if site.number("train") and site.number("p") != 0.0:
        raise Opaque("it drops elements in training")
    return site.tensor("input")


@writes("Pow")
def write_power(emit: Emitter, node: ir.Node) -> Any:
    """A power."""
    exponent = emit.operand(node.inputs[1], weak=True)
    form = "Tensor_Scalar" if isinstance(exponent, (int, float)) else "Tensor_Tensor"
    return emit.call(f"aten.pow.{form}", emit.operand(node.inputs[0]), exponent)


@writes("Identity")
def write_identity(emit: Emitter, node: ir.Node) -> Any:
    """The operand itself."""
    return emit.operand(node.inputs[0])


@writes("Cast")
def write_cast(emit: Emitter, node: ir.Node) -> Any:
    """A conversion."""
    return _converted(
        emit, emit.operand(node.inputs[0]), torch_type(ir.DataType(node.attributes["to"].as_int()))
    )


@writes("CastLike")
def write_cast_like(emit: Emitter, node: ir.Node) -> Any:
    """A conversion to the type of another value."""
    x, like = (emit.operand(value) for value in node.inputs)
    return _converted(emit, x, like.meta["val"].dtype)


def _converted(emit: Emitter, x: Any, dtype: Any) -> Any:
    """A tensor of that type, of a tensor or a size."""
    if not is_plain(getattr(x, "meta", {}).get("val")):
        return emit.call("aten.full.default", [], x, dtype=dtype)
    return x if x.meta["val"].dtype == dtype else emit.call("aten.to.dtype", x, dtype)


@writes("Where")
def write_where(emit: Emitter, node: ir.Node) -> Any:
    """Where."""
    return emit.call("aten.where.self", *(emit.operand(value) for value in node.inputs))


@writes("Clip")
def write_clip(emit: Emitter, node: ir.Node) -> Any:
    """Clamp between numbers."""
    bounds = [None if value is None else emit.number(value) for value in node.inputs[1:3]]
    return emit.call("aten.clamp.default", emit.operand(node.inputs[0]), *bounds)


@writes("Swish")
def write_swish(emit: Emitter, node: ir.Node) -> Any:
    """x * sigmoid(alpha x)."""
    x = emit.operand(node.inputs[0])
    alpha = node.attributes["alpha"].as_float() if "alpha" in node.attributes else 1.0
    if alpha == 1.0:
        return emit.call("aten.silu.default", x)
    inner = emit.call("aten.mul.Tensor", x, alpha)
    return emit.call("aten.mul.Tensor", x, emit.call("aten.sigmoid.default", inner))


@writes("Selu")
def write_selu(emit: Emitter, node: ir.Node) -> Any:
    """Torch has it with the usual numbers only."""
    return emit.call("aten.selu.default", emit.operand(node.inputs[0]))


@writes("Celu")
def write_celu(emit: Emitter, node: ir.Node) -> Any:
    """celu."""
    alpha = node.attributes["alpha"].as_float() if "alpha" in node.attributes else 1.0
    return emit.call("aten.celu.default", emit.operand(node.inputs[0]), alpha)


@writes("Softsign")
def write_softsign(emit: Emitter, node: ir.Node) -> Any:
    """x / (1 + |x|)."""
    x = emit.operand(node.inputs[0])
    below = emit.call("aten.add.Tensor", emit.call("aten.abs.default", x), 1.0)
    return emit.call("aten.div.Tensor", x, below)


@writes("SquaredRelu")
def write_squared_relu(emit: Emitter, node: ir.Node) -> Any:
    """relu(x)^2."""
    positive = emit.call("aten.relu.default", emit.operand(node.inputs[0]))
    return emit.call("aten.mul.Tensor", positive, positive)
