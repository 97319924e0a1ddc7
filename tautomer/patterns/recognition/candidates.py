"""Candidates that were not recognised: the nodes that could be an operation, and the first reason against.

A root over a mean could be a norm, an exponential over its sum a softmax, an error function a GELU. Where
no operation took such a node, the refusal of the largest cone around it is what the user wants to know.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import onnx_ir as ir

from tautomer.graph.naming import label
from tautomer.patterns.recognition.cones import Cone, ConeFinder
from tautomer.patterns.recognition.diagnose import diagnose
from tautomer.patterns.recognition.evaluation import compile_cone
from tautomer.patterns.recognition.match import Refusal
from tautomer.patterns.recognition.misfits import misfits
from tautomer.patterns.recognition.readings import Mode
from tautomer.patterns.recognition.recognised import Recognised
from tautomer.remarks import Remark

_NEAR = 6  # operators between a root and its mean, or an exponential and its sum
_FAR = 1000  # values between one and the first whose shape is not known; each candidate looks for its own
_ROOTS = ("Sqrt", "Pow", "Reciprocal", "Div")
_MEANS = ("ReduceMean", "ReduceSum", "ReduceSumSquare", "ReduceL2")
_ACTIVATIONS = {"Erf": "Gelu", "Tanh": "Gelu", "Softplus": "Mish", "Exp": "Sigmoid", "Log": "Softplus"}

_COMPARISONS = ("Less", "Greater", "LessOrEqual", "GreaterOrEqual")

Refusals = dict[ir.Value, list[tuple[Cone, Refusal]]]


def missed_candidates(
    finder: ConeFinder, simple: list[Recognised], refusals: Refusals, mode: Mode
) -> list[Remark]:
    """One remark per candidate that no recognised operation covers."""
    covered = {id(node) for op in simple for node in op.nodes}
    remarks: list[Remark] = []
    told: set[int] = set()
    for refused, refusal in _certain(finder, refusals):
        if told.isdisjoint(map(id, refused.nodes)):
            told.update(map(id, refused.nodes))
            remarks.append(_remark(refused, refusal, refusal.nearest))
    remarks += _training(finder)
    remarks += misfits(finder)
    for anchor, op in _anchors(finder, covered):
        if id(anchor) in told:
            continue
        remark, cone = _explain(anchor, op, finder, refusals, covered, mode)
        told.update(id(node) for node in (cone.nodes if cone else (anchor,)))
        remarks.append(remark)
    return remarks


def _certain(finder: ConeFinder, refusals: Refusals) -> list[tuple[Cone, Refusal]]:
    """What is an operation but for one thing, the largest first."""
    position = {node: index for index, node in enumerate(finder.nodes)}
    found = [entry for entries in refusals.values() for entry in entries if entry[1].certain]
    return sorted(found, key=lambda entry: (-len(entry[0].nodes), position[entry[0].nodes[-1]]))


def _training(finder: ConeFinder) -> Iterator[Remark]:
    """Batch norms whose statistics are not those that are stored, and which are therefore part of nothing."""
    for node in finder.nodes:
        training = node.attributes.get_int("training_mode", 0) if node.op_type == "BatchNormalization" else 0
        if training and node.domain in ("", "ai.onnx"):
            gates = any(user.op_type == "Sigmoid" for user, _ in node.outputs[0].uses())
            reason = "it takes its statistics from the batch, as in training"
            op = "Dice" if gates else "BatchNormalization"
            yield Remark("missed", "recognise", op, label(node), reason, "export the model for inference")


def _remark(cone: Cone, refusal: Refusal, op: str) -> Remark:
    reason = f"from '{cone.source.name}' to '{cone.output.name}' it {refusal.reason}"
    return Remark("missed", "recognise", op, label(cone.nodes[-1]), reason, _hint(refusal))


def _anchors(finder: ConeFinder, covered: set[int]) -> Iterator[tuple[ir.Node, str]]:
    for node in finder.nodes:
        if id(node) in covered or not finder.owns(node):
            continue
        if finder.fact(node.outputs[0]).array is not None:
            continue
        if node.op_type in _MEANS and (norm := _norm_above(node, finder, covered)):
            yield node, norm
        elif node.op_type == "Exp" and _reaches(node, ("ReduceSum", "ReduceLogSum"), finder, covered):
            yield node, "Softmax"
    for node in finder.nodes:
        if id(node) not in covered and finder.owns(node) and node.op_type in _ACTIVATIONS:
            fact = finder.fact(node.outputs[0])
            if fact.array is None and not fact.constant:
                yield node, _ACTIVATIONS[node.op_type]
    for node in finder.nodes:
        if (
            id(node) not in covered
            and finder.owns(node)
            and node.op_type == "Where"
            and _compares(node, finder)
        ):
            yield node, "LeakyRelu"


def _compares(node: ir.Node, finder: ConeFinder) -> bool:
    """Whether the condition of a Where is a comparison of floats made nearby: a piecewise activation."""
    made = node.inputs[0].producer() if node.inputs[0] is not None else None
    if made is None or made.op_type not in _COMPARISONS or not finder.owns(made):
        return False
    facts = [finder.fact(value) for value in made.inputs if value is not None]
    return any(
        f.array is None and not f.constant and f.dtype is not None and f.dtype.is_floating_point()
        for f in facts
    )


def _norm_above(node: ir.Node, finder: ConeFinder, covered: set[int]) -> str | None:
    """The norm that a mean could belong to: one of squares whose root is taken."""
    if not _reaches(node, ("Sqrt", "Pow", "Reciprocal"), finder, covered):
        return None
    squared = node.inputs[0].producer() if node.inputs[0] is not None else None
    before = (
        squared.inputs[0].producer() if squared is not None and squared.inputs and squared.inputs[0] else None
    )
    centred = {n.op_type for n in (squared, before) if n is not None} & {"Sub", "Add"}
    return "LayerNormalization" if centred else "RMSNormalization"


def _reaches(node: ir.Node, targets: tuple[str, ...], finder: ConeFinder, covered: set[int]) -> bool:
    """Whether a node leads to one of the operators within a few steps, past no recognised operation."""
    level, seen = [node], {id(node)}
    for _ in range(_NEAR):
        following: list[ir.Node] = []
        for current in level:
            for value in current.outputs:
                for user, _ in value.uses():
                    if not finder.owns(user) or id(user) in seen or id(user) in covered:
                        continue
                    if user.op_type in targets:
                        return True
                    seen.add(id(user))
                    following.append(user)
        level = following
    return False


def _explain(
    anchor: ir.Node, op: str, finder: ConeFinder, refusals: Refusals, covered: set[int], mode: Mode
) -> tuple[Remark, Cone | None]:
    around = [
        (cone, refusal)
        for entries in refusals.values()
        for cone, refusal in entries
        if anchor in cone.nodes and not any(id(node) in covered for node in cone.nodes)
    ]
    if not around:
        return Remark("missed", "recognise", op, label(anchor), *_no_cone(anchor, finder)), None
    # the cone that came closest, then the largest: small cones are fragments of the operation
    cone, refusal = max(
        around, key=lambda entry: (entry[1].nearest == op, bool(entry[1].nearest), len(entry[0].nodes))
    )
    with suppress(ValueError):  # an operand that is not known: the refusal already says so
        refusal = diagnose(compile_cone(cone, finder, mode), refusal)
    return _remark(cone, refusal, refusal.nearest or op), cone


def _no_cone(anchor: ir.Node, finder: ConeFinder) -> tuple[str, str]:
    for value in (*anchor.inputs, *anchor.outputs):
        if value is not None and finder.fact(value).shape is None:
            return f"the shape of '{value.name}' is not known", _shape_hint(value, finder)
    return "more than one value that varies enters it, so it is no function of one input", ""


def _shape_hint(value: ir.Value, finder: ConeFinder) -> str:
    """What gives a value its shape: the shape of the first value on the way to it that has none."""
    for _ in range(_FAR):
        node = value.producer()
        if node is None:
            return f"declare the shape of the input '{value.name}'"
        unknown = (one for one in node.inputs if one is not None and finder.fact(one).shape is None)
        before = next(unknown, None)
        if before is None:
            kind = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
            return (
                f"declare the shape of '{value.name}' in the file (graph.value_info): "
                f"none follows for the result of {kind}"
            )
        value = before
    return "declare the shapes of the model's inputs, and of what its loops and own operators give"


def _hint(refusal: Refusal) -> str:
    if "rounds to" in refusal.reason:
        return "export without the cast to lower precision inside the operation"
    return refusal.hint
