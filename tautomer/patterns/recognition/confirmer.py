"""Confirming cones, each distinct structure once."""

from __future__ import annotations

import numpy as np

from tautomer.graph.naming import label
from tautomer.patterns.recognition.computation_type import computation_type
from tautomer.patterns.recognition.cones import Cone, ConeFinder
from tautomer.patterns.recognition.confirm_fitted import confirm_fitted
from tautomer.patterns.recognition.confirm_operands import confirm_operands
from tautomer.patterns.recognition.confirm_pointwise import IDENTITY, confirm_pointwise
from tautomer.patterns.recognition.confirm_rows import confirm_rows
from tautomer.patterns.recognition.evaluation import Program, compile_cone, repeated_number
from tautomer.patterns.recognition.match import Match, Refusal
from tautomer.patterns.recognition.readings import Mode

_LARGEST_CHANGE = ("Log", "ReduceLogSumExp", "ReduceLogSum")
# Where every operation on rows has one of these besides its sum or mean, a cone without them is a fragment.
_OF_ROWS = frozenset({"Sqrt", "Pow", "Exp", "ReduceL2", "ReduceLogSumExp", "ReduceLogSum"})


class Confirmer:
    """Decides what a cone computes; equal structures are evaluated once for a whole model.

    Args:
        mode: how constants are read.
    """

    def __init__(self, mode: Mode) -> None:
        self.mode = mode
        self._results: dict[tuple[int | float | None, ...], Match | Refusal] = {}
        self.evaluated = 0

    def __call__(self, cone: Cone, finder: ConeFinder) -> Match | Refusal:
        """The operation that a cone computes, or why it is none."""
        key = (cone.key, *(repeated_number(finder.fact(leaf)) for leaf in cone.leaves))
        known = self._results.get(key)
        if known is None:
            known = self._results[key] = self._confirm(cone, finder)
        return known

    def _confirm(self, cone: Cone, finder: ConeFinder) -> Match | Refusal:
        for leaf in cone.leaves:
            fact = finder.fact(leaf)
            if fact.shape is None or fact.dtype is None or not fact.dtype.is_floating_point():
                return Refusal(f"reads '{leaf.name}', which is not a float tensor of known shape")
        obstacle = _fragment(cone, finder)
        if obstacle is not None:
            return obstacle
        try:
            program = compile_cone(cone, finder, self.mode)
        except ValueError as error:
            return Refusal(str(error))
        self.evaluated += 1
        found = confirm_rows(program) if program.reduces else confirm_pointwise(program)
        if isinstance(found, Refusal) and found is not IDENTITY:
            other = confirm_operands(program)
            known = isinstance(other, Match) or other.certain
            found = other if known else confirm_fitted(program) or found
        if isinstance(found, Refusal):
            found = _over_the_batch(program, finder) or found
        if isinstance(found, Match):
            stash = computation_type(cone, found, finder)
            if isinstance(stash, str):
                return Refusal(stash, nearest=found.definition.op)
        return found


def _over_the_batch(program: Program, finder: ConeFinder) -> Refusal | None:
    """A reason that says more, where means are taken over the examples and the places of each channel."""
    contents = dict(program.constants)
    for node, (call, operands) in zip(program.cone.nodes, program.steps, strict=True):
        axes = call.get("axes", contents.get(operands[1]) if len(operands) > 1 else None)
        x = node.inputs[0]
        if call.op_type != "ReduceMean" or axes is None or x is None:
            continue
        rank = len(finder.fact(x).shape or ())
        if rank > 2 and rank == len(program.source_shape):
            over = sorted({int(axis) % rank for axis in np.asarray(axes).reshape(-1)})
            if over[:1] == [0] and 1 < len(over) < rank:
                like = (
                    "EvoNormB0" if "Max" in [one.op_type for one in program.calls] else "BatchNormalization"
                )
                reason = f"takes its statistics from the batch at '{label(node)}', as in training"
                return Refusal(reason, like, True, "export the model for inference")
    return None


def _fragment(cone: Cone, finder: ConeFinder) -> Refusal | None:
    """A cone that can be refused without running it."""
    operators = finder.operators
    names = {node.op_type for node in cone.nodes}
    before, after = finder.fact(cone.source).shape, finder.fact(cone.output).shape
    if before is not None and after is not None and before != after and names.isdisjoint(_LARGEST_CHANGE):
        return Refusal(f"gives shape {list(after)} from {list(before)}: not the shape of its input")
    if not any(operators.reduces(node) for node in cone.nodes):
        return None
    named = any(operators.named_rows(node) for node in cone.nodes)
    if operators.curved and names.isdisjoint(_OF_ROWS) and not named:
        return Refusal("takes neither a root nor an exponential of its rows")
    return None
