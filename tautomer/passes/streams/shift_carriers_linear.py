"""Shifts through operators that compute: sums, products with a steady factor, reductions, linear layers."""

from __future__ import annotations

import onnx_ir as ir

from tautomer.graph.digits import Local
from tautomer.graph.semantics.reductions import axes_of
from tautomer.graph.shape_rules import Unknown, given, numbers
from tautomer.passes.streams.shift_carriers import Carriers, Site, Stop, Through, carrier

FLOATS = frozenset({ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16, ir.DataType.BFLOAT16})
_OWN_WEIGHTS = "it gives every channel weights of its own"


@carrier("Identity", "Neg")
def same(site: Site) -> Through:
    """Element by element."""
    return {0: site.wanted}


@carrier("Cast")
def cast(site: Site) -> Through:
    """Between floats; to integers it would round."""
    if site.call.get("to") not in FLOATS:
        raise Stop("Cast rounds it")
    return {0: site.wanted}


@carrier("Dropout")
def dropout(site: Site) -> Through:
    """Nothing at all, outside training."""
    version = site.call.version
    mode = site.inputs[2] if given(site.inputs, 2) else None
    if 0 < version < 7:
        training = not site.call.get("is_test", 0)
    else:
        training = mode is not None and (mode.array is None or bool(mode.array.any()))
    if training:
        raise Stop("Dropout in training removes elements")
    return {0: site.wanted}


def _old_broadcast(site: Site) -> None:
    """Before opset 7 an attribute said where the second operand goes."""
    if 0 < site.call.version < 7 and any(site.shape(i) != site.out for i in range(len(site.inputs))):
        raise Stop(f"{site.call.op_type} of an opset before 7 broadcasts in its own way")


@carrier("Add", "Sub", "Sum", "Mean")
def total(site: Site) -> Through:
    """s + t is constant along J when both are."""
    _old_broadcast(site)
    return {i: site.broadcast(i) for i in range(len(site.inputs))}


def _steady(site: Site, i: int) -> bool:
    """Whether an operand is the same number along the wanted digits, whatever the inputs of the model."""
    digits, fact = site.broadcast(i), site.inputs[i]
    if not digits:
        return True
    return fact is not None and fact.constant and fact.array is not None and digits.contains(fact.array)


@carrier("Mul")
def product(site: Site) -> Carriers:
    """s * c is constant along J when s and c are; c is what it is, and may not be shifted."""
    _old_broadcast(site)
    through = {i: site.broadcast(i) for i in (0, 1) if _steady(site, 1 - i)}
    if not through:
        raise Stop("it gives every channel a factor of its own")
    return Carriers(through, kept={0: "it is a factor of a product", 1: "it is a factor of a product"})


@carrier("Div")
def quotient(site: Site) -> Carriers:
    """s / c likewise; not linear in c."""
    _old_broadcast(site)
    if not _steady(site, 1):
        return Carriers(stop="it gives every channel a divisor of its own")
    return Carriers({0: site.broadcast(0)}, kept={1: "it is a divisor"})


@carrier("Where")
def choice(site: Site) -> Through:
    """Along J either all of a or all of b."""
    if not _steady(site, 0):
        raise Stop("it chooses channel by channel")
    return {1: site.broadcast(1), 2: site.broadcast(2)}


@carrier("ReduceMean", "ReduceSum")
def reduction(site: Site) -> Through:
    """A sum over other axes: each summand of a row is shifted by what the whole row is shifted by."""
    shape = site.shape(0)
    gone = axes_of(site.call, numbers(site.call, site.inputs, "axes", 1), len(shape))
    cut = list(site.cut)
    if not site.call.get("keepdims", 1):
        for axis in gone:
            cut.insert(axis, ())
    return {0: site.digits(0, [() if axis in gone else pieces for axis, pieces in enumerate(cut)])}


@carrier("CumSum")
def running_sum(site: Site) -> Through:
    """A running sum over another axis, which is an operand."""
    axis = numbers(site.call, site.inputs, "axis", 1)
    if axis is None:
        raise Unknown
    site.untouched(axis, "it sums up channels")
    return {0: site.wanted}


@carrier("GlobalAveragePool", "AveragePool")
def average(site: Site) -> Through:
    """Averages over pixels."""
    site.untouched(range(2, len(site.out)), "it averages over them")
    return {0: site.digits(0, [*site.cut[:2], *[()] * (len(site.out) - 2)])}


@carrier("MatMul")
def matrix_product(site: Site) -> Carriers:
    """(A (B + s))[i, j] = (A B)[i, j] + sum_k A[i, k] s[k, j]: constant along j when s is; likewise for A."""
    a, b = site.shape(0), site.shape(1)
    if len(a) < 2 or len(b) < 2:
        raise Stop("it is a product with a vector")
    rank, cut = len(site.out), site.cut
    if site.only([rank - 1]):
        return Carriers({1: site.digits(1, [*[()] * (len(b) - 1), cut[-1]])}, kept={0: _OWN_WEIGHTS})
    if site.only([rank - 2]):
        return Carriers({0: site.digits(0, [*[()] * (len(a) - 2), cut[-2], ()])}, kept={1: _OWN_WEIGHTS})
    raise Stop("it is a matrix product along several axes of them")


@carrier("Gemm")
def affine(site: Site) -> Carriers:
    """alpha A B + beta C: B and C, or A and C."""
    rows, columns = site.cut
    through = {2: site.broadcast(2)} if given(site.inputs, 2) else {}
    if site.only([1]):
        local: list[Local] = [columns, ()] if site.call.get("transB", 0) else [(), columns]
        return Carriers({1: site.digits(1, local), **through}, kept={0: _OWN_WEIGHTS})
    if site.only([0]):
        local = [(), rows] if site.call.get("transA", 0) else [rows, ()]
        return Carriers({0: site.digits(0, local), **through}, kept={1: _OWN_WEIGHTS})
    raise Stop("it is a matrix product along several axes of them")


@carrier("Conv", "ConvTranspose")
def convolution(site: Site) -> Carriers:
    """The weights and biases of all output channels may be shifted together."""
    groups, weights = int(site.call.get("group", 1)), site.shape(1)
    if groups > 1:
        alone = groups == site.shape(0)[1]
        raise Stop(
            "a depthwise convolution treats each channel on its own"
            if alone
            else "a grouped convolution treats each group of channels on its own"
        )
    if not site.only([1]):
        raise Stop("it is a convolution over them")
    local: list[Local] = [()] * len(weights)
    local[0 if site.call.op_type == "Conv" else 1] = site.cut[1]
    through = {1: site.digits(1, local)}
    if given(site.inputs, 2):
        through[2] = site.digits(2, [site.cut[1]])
    return Carriers(through, kept={0: _OWN_WEIGHTS})
