"""The forms in which an operation can be written, and which of them a target wants."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from tautomer.graph.build import Builder
from tautomer.passes.spellings import KERNELS, SPELLINGS
from tautomer.passes.workspace import Workspace
from tautomer.patterns.onnx_body import CASTLIKE_SINCE, DOMAIN, PARAMETERS_SINCE, written
from tautomer.patterns.recognition.recognised import Recognised
from tautomer.target import Form, Target

_AXIS_FREE_SOFTMAX_SINCE = 13  # before it Softmax flattened its input from the axis on
_AXES_INPUT_SINCE = 18


@dataclass(frozen=True)
class Choice:
    """The form chosen for an operation, or why it is kept.

    Attributes:
        form: named, spelled, function or keep.
        kernels: how many kernels it runs as.
        reason: for keep, a sentence; for another form, why one that is better as a rule was not taken, or "".
        hint: what would change it.
    """

    form: Form
    kernels: int = 1
    reason: str = ""
    hint: str = ""


@dataclass(frozen=True)
class Site:
    """Where an operation stands: everything that decides about its form.

    Attributes:
        op: the recognised operation.
        dtype: the element type of its result.
        rank: the rank of its input.
        version: the model's opset.
        target: where it will run.
        elements: of its first input, where a size that varies counts as 1.
        varies: whether there is such a size.
    """

    op: Recognised
    dtype: ir.DataType | None
    rank: int
    version: int
    target: Target
    elements: int
    varies: bool

    @classmethod
    def at(cls, work: Workspace, op: Recognised, dtype: ir.DataType | None, target: Target) -> Site:
        """The site of an operation, the shape of whose first input is known."""
        x = op.inputs[0]
        assert x is not None
        shape = work.facts.get(x).shape
        assert shape is not None
        fixed = [work.recognition.static(work.origin(x), (axis,)) for axis in range(len(shape))]
        elements = math.prod(size for size, is_fixed in zip(shape, fixed, strict=True) if is_fixed)
        return cls(op, dtype, len(shape), work.version, target, elements, not all(fixed))


def choose(site: Site) -> Choice:
    """The first form of the target's list that opset and types allow."""
    op, dtype = site.op, site.dtype
    if "perm" in op.attributes:
        return Choice(
            "keep",
            reason=f"its rows lie along axis {op.axes[0]}, and two transposes would cost what it saves",
        )
    if dtype is None or not dtype.is_floating_point():
        return Choice("keep", reason="its element type is not known")
    reasons: list[str] = []
    for form in site.target.forms_of(op.op):
        obstacle = _OBSTACLES[form](site)
        if not obstacle:
            kernels = KERNELS.get(op.op, 1) if form == "spelled" else 1
            return Choice(form, kernels, reasons[0] if reasons else "")
        reasons.append(obstacle)
    reason = next(
        (r for r in reasons if r != _KEPT),
        f"the target {site.target.name} gains nothing from another form of it",
    )
    return Choice("keep", reason=reason)


_KEPT = "kept"


def _named_obstacle(site: Site) -> str:
    definition, dtype, version = site.op.definition, site.dtype, site.version
    assert dtype is not None
    if definition.domain:
        return "ONNX has no operator for it"
    if not site.target.has_kernel(definition.op, dtype.name):
        return f"the target {site.target.name} has no kernel of it for {dtype.name}"
    flat = definition.op in ("Softmax", "LogSoftmax") and version < _AXIS_FREE_SOFTMAX_SINCE
    if flat and site.op.attributes["axis"] != -1:
        return f"below opset {_AXIS_FREE_SOFTMAX_SINCE} it works on trailing axes only"
    if version < definition.since and not flat and definition.op != "ReduceLogSumExp":
        return f"ONNX has the operator from opset {definition.since} on, and the model is of opset {version}"
    if definition.rows == "trailing" and site.op.stash not in (ir.DataType.FLOAT, dtype):
        return f"it computes in {site.op.stash.name}"
    return ""


def _spelled_obstacle(site: Site) -> str:
    if site.op.op not in SPELLINGS and not _written_out(site.op):
        return "it has no spelling that the runtime fuses"
    if site.dtype != ir.DataType.FLOAT or site.op.stash != ir.DataType.FLOAT:
        return "the runtime fuses its spelling in FLOAT only, and this one is in another type"
    return ""


def _written_out(op: Recognised) -> bool:
    """Whether its definition, written in operators as it stands, is its best spelling."""
    return not op.definition.rows and not op.definition.operands


def _function_obstacle(site: Site) -> str:
    definition = site.op.definition
    gain = site.target.gain(definition.op, site.elements)
    if gain is not None and gain < 1.0:
        where = f"{site.elements} elements" + ", the sizes that vary taken as 1" * site.varies
        return f"the runtime's own kernel takes {gain:g} of the time of ours at {where}"
    if any(isinstance(value, tuple) for value in definition.parameters.values()):
        return "its function body would have as many coefficients as the definition"
    if definition.rows == "folded":
        return "its function body would need the axes as an attribute"
    if definition.rows.startswith("channel"):
        return "its function body works on rows, and these are channels of an image"
    if definition.rows and site.op.attributes.get("axis", -1) != -1:
        return "its function body works on the last axis"
    if site.dtype == ir.DataType.DOUBLE:
        return "its function body computes in FLOAT, and this one is in DOUBLE"
    if site.dtype != ir.DataType.FLOAT and site.version < CASTLIKE_SINCE:
        return f"its function body needs opset {CASTLIKE_SINCE}"
    if definition.parameters and site.version < PARAMETERS_SINCE:
        return f"its function body needs opset {PARAMETERS_SINCE}"
    return ""


def _keep_obstacle(site: Site) -> str:
    return _KEPT


_OBSTACLES: dict[Form, Callable[[Site], str]] = {
    "named": _named_obstacle,
    "spelled": _spelled_obstacle,
    "function": _function_obstacle,
    "keep": _keep_obstacle,
}


def write(
    form: Form, op: Recognised, inputs: Sequence[ir.Value | None], dtype: ir.DataType, rank: int, b: Builder
) -> ir.Value:
    """Writes the operation in a form; returns its result."""
    definition, attributes = op.definition, dict(op.attributes)
    if form == "spelled" and op.op in SPELLINGS:
        return SPELLINGS[op.op](b, inputs, attributes, dtype)
    if form == "spelled":
        assert inputs[0] is not None
        parameters = {name: attributes[name] for name in definition.parameters}
        return written(definition, b, inputs[0], parameters=parameters, numbers=op.numbers)
    if form == "function":
        return b.op(op.op, *inputs, domain=DOMAIN, **attributes)
    if op.op == "ReduceLogSumExp":
        assert inputs[0] is not None
        axes = (
            attributes["axes"]
            if b.version >= _AXES_INPUT_SINCE
            else [axis + rank for axis in attributes["axes"]]
        )
        return b.reduce(op.op, inputs[0], axes, bool(attributes["keepdims"]))
    if definition.rows == "axis" and b.version < _AXIS_FREE_SOFTMAX_SINCE:
        attributes["axis"] += rank
    trailing = list(inputs)
    while trailing[-1] is None:
        trailing.pop()
    return b.op(op.op, *trailing, **attributes)
