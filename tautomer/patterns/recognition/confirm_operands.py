"""Confirming y = f(x, p, q, ...), where each operand is a number or a tensor that is broadcast to x.

Bounds of neurons, the gains of channels inside an activation, statistics of a batch that were stored: they
cannot be solved for as gains are. So what enters the cone is drawn at random, each element another number,
and every way to give it to the operands of a definition is tried.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import permutations, product

import numpy as np

from tautomer.patterns.operation import Definition, definitions
from tautomer.patterns.recognition.confirm_pointwise import RELATIVE
from tautomer.patterns.recognition.evaluation import FAILURES, FLOAT64, Program
from tautomer.patterns.recognition.match import Match, Operand, Refusal
from tautomer.patterns.recognition.operand_samples import (
    OperandRun,
    operand_runs,
    touched,
    with_special_values,
)
from tautomer.patterns.recognition.probe import Array
from tautomer.patterns.recognition.row_samples import conditioning, first_rows, gap
from tautomer.patterns.recognition.special_values import special_elements
from tautomer.patterns.rows import apply

_LARGEST = 1 << 22  # elements of a probe
_FIRST = 1 << 12  # elements of a pointwise operation: the probe's points, many times over
_MOST_NUMBERS = 8  # of a cone, that a parameter is tried with
# Of operands between 0.5 and 2, in float64, where x is not rounded away: a dozen operations.
_ABSOLUTE = 1e-13
_OTHER = Refusal("computes another function")


def confirm_operands(program: Program) -> Match | Refusal:
    """Compares a cone with every definition whose operands are broadcast to x.

    All that enters is an operand, if that fits; else what is one number throughout may be that number.
    """
    everything = tuple(range(len(program.leaf_shapes)))
    varying = tuple(i for i in everything if program.leaf_numbers[i] is None)
    found = _confirm(program, everything)
    if isinstance(found, Match) or varying == everything:
        return found
    found = _confirm(program, varying)
    if isinstance(found, Match) and not found.special:
        fixed = next(i for i in everything if i not in varying)
        name, number = program.cone.leaves[fixed].name, program.leaf_numbers[fixed]
        return replace(found, special=f"it is that only while '{name}' is {number:g} throughout")
    return found


def _confirm(program: Program, free: tuple[int, ...]) -> Match | Refusal:
    shape = program.probe_shape()
    wanted = [
        one
        for one in definitions()
        if (one.channels or one.rows.startswith("channel"))
        and not one.composite
        and bool(one.rows) == program.reduces
        and len(free) <= len(one.channels)
    ]
    if not wanted or program.too_large or not 0 < math.prod(shape) <= _LARGEST or len(shape) < 2:
        return _OTHER
    try:
        later = operand_runs(program, shape, free)
        first = next(later, None)
        if first is None:
            return Refusal("has a tensor entering beside its input that is not broadcast to it")
        runs, misfit = [first], _OTHER
        cuts = _cuts(shape, first) if program.reduces else (0,)
        for definition in wanted:
            odd = _misfit(definition, first, shape)
            if odd and misfit.certain:
                continue
            for trial in _trials(definition, program, free, cuts, shape):
                if not trial.agrees(first):
                    continue
                runs += later  # nearly all cones are refused by the first
                if all(trial.agrees(run) for run in runs[1:]):
                    if not odd:
                        return trial.match(first)
                    misfit = odd
                    break
                if not odd and not misfit.certain and all(trial.agrees(run) for run in runs if run.positive):
                    misfit = _of_positive(definition, first)
    except FAILURES as error:
        return Refusal(f"cannot be evaluated on its own: {error}")
    return misfit


def _of_positive(definition: Definition, run: OperandRun) -> Refusal:
    """Of positive operands it is the definition, and of others it is not: weights may become negative."""
    names = ", ".join(f"'{run.program.cone.leaves[i].name}'" for i in run.free)
    formula = definition.formula.rstrip(".")
    reason = f"computes {definition.op} only of positive {names}"
    return Refusal(reason, definition.op, True, f"write it as {formula}")


def _misfit(definition: Definition, run: OperandRun, shape: tuple[int, ...]) -> Refusal | None:
    """Why operands may not have such shapes, or None: norms take one number for each channel."""
    for i, given, leaf in zip(run.free, run.given, run.leaves, strict=True):
        aligned = (1,) * (len(shape) - leaf.ndim) + leaf.shape
        others = [axis for axis, size in enumerate(aligned) if axis != 1 and size > 1]
        expanded = bool(definition.domain) and aligned[1] == shape[1]  # may hold the same for all places
        if given.size == leaf.size and not (definition.rows and others and not expanded):
            continue
        name, op, channels = run.program.cone.leaves[i].name, definition.op, shape[1]
        has = f"would be {op}, but '{name}' of shape {list(run.program.leaf_shapes[i])} has"
        if given.size == leaf.size:
            reason = f"{has} other numbers along axis {others[0]}, and it takes one for each channel"
            return Refusal(reason, op, True, f"give '{name}' the shape {[channels, *[1] * (len(shape) - 2)]}")
        reason = f"{has} one number for each group, and it takes one for each of {channels} channels"
        hint = f"repeat each number of '{name}' for the {channels // given.size} channels of its group"
        return Refusal(reason, op, True, hint)
    return None


def _cuts(shape: tuple[int, ...], run: OperandRun) -> tuple[int, ...]:
    """Into how many rows an example may be cut: into channels, and by what moves with its first element."""
    example, length = math.prod(shape[1:]), max(touched(run), default=-1) + 1
    if length == 0 or example % length or length % max(math.prod(shape[2:]), 1):
        return (shape[1],)
    return tuple(dict.fromkeys((shape[1], example // length)))


def _trials(
    definition: Definition,
    program: Program,
    free: tuple[int, ...],
    cuts: tuple[int, ...],
    shape: tuple[int, ...],
) -> Iterator[_Trial]:
    """All that a definition could be of a cone: what its operands and parameters are, and how rows are cut.

    An operand is what enters the cone, or what it is by default; where it has no default, a number.
    """
    names = tuple(definition.channels)
    numbers = [reading.value for reading in program.readings]
    numbers += [number for number in program.leaf_numbers if number is not None]
    pool = list(dict.fromkeys(abs(number) for number in numbers if np.isfinite(number)))[:_MOST_NUMBERS]
    choices = [dict.fromkeys((default, 0.0, *pool)) for default in definition.parameters.values()]
    for taken in permutations(names, len(free)):
        rest = [name for name in names if name not in taken and definition.channels[name] is None]
        for given in product(pool, repeat=len(rest)):
            operands = {name: Operand(leaf) for name, leaf in zip(taken, free, strict=True)}
            operands |= {name: Operand(-1, number) for name, number in zip(rest, given, strict=True)}
            for values in product(*choices):
                parameters = dict(zip(definition.parameters, values, strict=True))
                for groups in cuts:
                    if definition.rows != "channels" or groups == shape[1]:
                        yield _Trial(definition, groups, parameters, operands, free)


@dataclass(frozen=True)
class _Trial:
    """A definition with what its parameters and operands could be."""

    definition: Definition
    groups: int
    parameters: Mapping[str, float]
    operands: Mapping[str, Operand]
    free: tuple[int, ...]

    def expected(self, x: Array, leaves: tuple[Array, ...], elements: int) -> Array:
        """What the definition gives for the first elements of x; in rows [R, n] where it works on rows."""
        axes: tuple[int, ...] = ()
        cut: tuple[int, ...] = (-1,)
        if self.definition.rows:
            cut, axes = (-1, self._length(x)), (1,)

        def arranged(value: Array) -> Array:
            return np.broadcast_to(value, x.shape).flat[:elements].reshape(cut)

        given: dict[str, float | Array] = {
            name: operand.factor if operand.is_number else arranged(leaves[self.free.index(operand.leaf)])
            for name, operand in self.operands.items()
        }
        taken = arranged(x)
        found = apply(self.definition, FLOAT64, taken, axes=axes, operands=given, parameters=self.parameters)
        return np.asarray(found, np.float64)

    def agrees(self, run: OperandRun) -> bool:
        """Whether the cone gave that. Most trials fail, and the first elements show it."""
        rows = run.x.size // self._length(run.x)
        few = first_rows(rows, self._length(run.x)) * self._length(run.x)
        if not self.definition.rows:
            few = min(run.x.size, _FIRST)
        return all(self._agrees(run, elements) for elements in dict.fromkeys((few, run.x.size)))

    def _agrees(self, run: OperandRun, elements: int) -> bool:
        expected = self.expected(run.x, run.leaves, elements)
        found = run.y.reshape(-1)[:elements].reshape(expected.shape)
        x = run.x.reshape(-1)[:elements].reshape(expected.shape)
        ordinary = np.isfinite(found)
        if run.positive and ordinary.mean() < 0.5:
            return False
        with np.errstate(all="ignore"):
            if not np.allclose(found[ordinary], expected[ordinary], rtol=1e-4, atol=1e-7):
                return False
            if self.definition.rows:
                noise = conditioning(x, expected, lambda x: self._moved(run, x))
                return gap(found, expected, noise) <= 1.0
            allowed = RELATIVE * np.abs(expected) + _ABSOLUTE * (1.0 + np.abs(x))
            return bool(np.all((np.abs(found - expected) <= allowed)[ordinary]))

    def _moved(self, run: OperandRun, x: Array) -> Array:
        """The same of other first elements."""
        whole = run.x.copy()
        whole.reshape(-1)[: x.size] = x.reshape(-1)
        return self.expected(whole, run.leaves, x.size)

    def _length(self, x: Array) -> int:
        """How many elements a row has; those of an example where there are no rows."""
        return int(math.prod(x.shape[2:])) // max(self.groups, 1)

    def match(self, run: OperandRun) -> Match:
        """The match, with how the cone differs on special values."""
        kind, rank = self.definition.rows, run.x.ndim - 1
        x = with_special_values(run.x)
        expected = self.expected(x, run.leaves, x.size)
        special = special_elements(run.again(x).reshape(expected.shape), expected)
        axes = tuple(range(2 if kind == "channels" else 1, rank)) if kind else ()
        groups = self.groups if kind == "channel groups" else 0
        readings = run.program.readings
        return Match(self.definition, self.parameters, axes, self.operands, readings, special, groups)
