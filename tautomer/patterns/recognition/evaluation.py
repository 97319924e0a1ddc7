"""Running a cone in float64 on a probe."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx_ir as ir

from tautomer.graph.call import Call
from tautomer.graph.facts import Fact
from tautomer.graph.semantics.mathematics import Float64
from tautomer.graph.semantics.table import Unsupported
from tautomer.patterns.meaning import compute, named, row_axes
from tautomer.patterns.recognition.cone_operators import BY_PLACE, is_movement
from tautomer.patterns.recognition.cones import Cone, ConeFinder, is_content
from tautomer.patterns.recognition.probe import ROWS as PROBE_ROWS
from tautomer.patterns.recognition.probe import Array
from tautomer.patterns.recognition.readings import Mode, Reading, read_scalar

FLOAT64 = Float64()
FAILURES = (ValueError, IndexError, Unsupported)  # what running a cone on a probe may raise
_SMALL = 1 << 15
LARGEST = 1 << 23  # 64 MiB of doubles
_DTYPES = {ir.DataType.DOUBLE: np.float64, ir.DataType.FLOAT: np.float32, ir.DataType.FLOAT16: np.float16}


def constant(fact: Fact, mode: Mode) -> tuple[Any, Reading | None]:
    """A known content as an operand, floats read as the numbers that were meant."""
    array = fact.array
    assert array is not None
    if not _is_float(fact, array):
        return array, None
    if array.size != 1:
        return array.astype(np.float64), None
    reading = read_scalar(float(array.reshape(())), storage(fact), mode)
    return np.full(array.shape, reading.value), reading


def _with_read_attributes(call: Call, mode: Mode) -> tuple[Call, list[Reading]]:
    """The call with its float attributes, stored in float32, read as the numbers that were meant."""
    read = {
        name: read_scalar(value, np.dtype(np.float32), mode)
        for name, value in call.attributes.items()
        if isinstance(value, float)
    }
    if not read:
        return call, []
    meant = {name: reading.value for name, reading in read.items()}
    return replace(call, attributes={**call.attributes, **meant}), list(read.values())


def repeated_number(fact: Fact) -> float | None:
    """The number that a constant tensor repeats, as the gains of a norm without gains do."""
    array = fact.array
    if array is None or not fact.constant or not array.size or (array != array.flat[0]).any():
        return None
    return float(array.flat[0])


def storage(fact: Fact) -> Any:
    """The numpy type whose rounding a stored constant went through."""
    if fact.dtype in _DTYPES:
        return np.dtype(_DTYPES[fact.dtype])
    return (
        fact.array.dtype if fact.array is not None and fact.array.dtype.kind == "V" else np.dtype(np.float32)
    )


def _is_float(fact: Fact, array: Any) -> bool:
    return np.issubdtype(array.dtype, np.floating) or (
        fact.dtype is not None and fact.dtype.is_floating_point()
    )


@dataclass(frozen=True)
class Program:
    """A cone ready to run: nodes bound to slots, constants read once.

    Attributes:
        cone: what it was made from.
        readings: the scalar constants of the cone, in order of first use.
        reduces: whether any node mixes the elements of a row.
        moves: whether any node moves elements, or looks at where they are.
        source_shape: the source's shape under the binding.
        output_shape: the output's.
        leaf_shapes: those of the side inputs.
        leaf_numbers: the number that all elements of a side input are, where it is constant and they are one.
        shapes: every shape that holds as many elements as the source, its own first.
        largest: elements of the largest tensor in it, which an Expand can make as large as it likes.
    """

    cone: Cone
    readings: tuple[Reading, ...]
    reduces: bool
    moves: bool
    steps: tuple[tuple[Any, tuple[int, ...]], ...]
    constants: tuple[tuple[int, Any], ...]
    slots: int
    result: int
    source_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    leaf_shapes: tuple[tuple[int, ...], ...]
    leaf_numbers: tuple[float | None, ...]
    shapes: tuple[tuple[int, ...], ...]
    largest: int

    @property
    def calls(self) -> tuple[Call, ...]:
        """The operators of the cone, in order."""
        return tuple(call for call, _ in self.steps)

    def calls_by_name(self, op: str, domain: str) -> bool:
        """Whether a node of the cone has this name."""
        return any((call.op_type, call.domain) == (op, domain) for call in self.calls)

    @property
    def too_large(self) -> bool:
        """True when a probe of full size would not fit; where nothing moves, probes are cut short."""
        return self.moves and self.largest > LARGEST

    def probe_shape(self) -> tuple[int, ...]:
        """The source's shape, with axes cut short that provably only repeat the work.

        An axis may be cut when nothing in the cone moves elements, every reduction keeps its axes and leaves
        this one alone, and no side input extends along it.
        """
        shape = list(self.source_shape)
        if self.moves or math.prod(shape) <= _SMALL:
            return tuple(shape)
        kept = _reduced_axes(self, len(shape))
        if kept is None:
            return tuple(shape)
        for leaf in self.leaf_shapes:
            kept |= {len(shape) - len(leaf) + axis for axis, extent in enumerate(leaf) if extent > 1}
        budget = PROBE_ROWS
        for axis in range(len(shape)):
            if axis not in kept:
                shape[axis] = min(shape[axis], budget)
                budget = max(1, budget // shape[axis])
        return tuple(shape)

    def __call__(self, source: Array, leaves: Sequence[Array]) -> Array:
        """The output on one probe; raises whatever the arithmetic of a badly shaped probe raises."""
        return np.asarray(self._run(source, leaves)[self.result], dtype=np.float64)

    def values_at(self, points: Array, leaves: Sequence[Array] = ()) -> list[list[Array]] | None:
        """What each step reads at some points, with numbers for side inputs; None where elements move."""
        if self.moves:
            return None
        rank = len(self.source_shape)
        values = self._run(points.reshape((1,) * (rank - 1) + (-1,)) if rank else points, leaves)
        return [
            [
                np.broadcast_to(np.asarray(values[slot], np.float64).reshape(-1), points.shape)
                for slot in slots
            ]
            for _, slots in self.steps
        ]

    def _run(self, source: Array, leaves: Sequence[Array]) -> list[Any]:
        values: list[Any] = [None] * self.slots
        values[1] = source
        for index, leaf in enumerate(leaves):
            values[2 + index] = leaf
        for slot, content in self.constants:
            values[slot] = content
        first = 2 + len(self.cone.leaves) + len(self.constants)
        for index, (call, operands) in enumerate(self.steps):
            values[first + index] = compute(FLOAT64, call, [values[slot] for slot in operands])[0]
        return values


def compile_cone(cone: Cone, finder: ConeFinder, mode: Mode) -> Program:
    """Binds a cone's values to slots: 0 the absent input, 1 the source, then leaves, constants, results."""
    slots: dict[ir.Value, int] = {cone.source: 1}
    for leaf in cone.leaves:
        slots[leaf] = len(slots) + 1
    constants: list[tuple[int, Any]] = []
    readings: list[Reading] = []
    inner = {node.outputs[0] for node in cone.nodes}
    for node in cone.nodes:
        for value in node.inputs:
            if value is None or value in slots or value in inner:
                continue
            fact = finder.fact(value)
            if not is_content(fact):
                raise ValueError(f"reads '{value.name}', which is neither constant nor computed inside")
            content, reading = constant(fact, mode)
            slots[value] = len(slots) + 1
            constants.append((slots[value], content))
            if reading is not None and reading not in readings:
                readings.append(reading)
    steps = []
    for node in cone.nodes:
        operands = tuple(0 if value is None else slots[value] for value in node.inputs)
        slots[node.outputs[0]] = len(slots) + 1
        call, read = _with_read_attributes(finder.call(node), mode)
        steps.append((call, operands))
        readings += [reading for reading in read if reading not in readings]
    operators = finder.operators
    return Program(
        cone,
        tuple(readings),
        any(operators.reduces(node) for node in cone.nodes),
        any(is_rearranging(node) or node.op_type in BY_PLACE for node in cone.nodes),
        tuple(steps),
        tuple(constants),
        len(slots) + 1,
        slots[cone.output],
        finder.fact(cone.source).shape or (),
        finder.fact(cone.output).shape or (),
        tuple(finder.fact(leaf).shape or () for leaf in cone.leaves),
        tuple(repeated_number(finder.fact(leaf)) for leaf in cone.leaves),
        _arrangements(cone, finder),
        max(math.prod(finder.fact(node.outputs[0]).shape or ()) for node in cone.nodes),
    )


def _arrangements(cone: Cone, finder: ConeFinder) -> tuple[tuple[int, ...], ...]:
    """The source's shape, then the other shapes of as many elements that it takes inside the cone."""
    shapes = [finder.fact(cone.source).shape or ()]
    for node in cone.nodes:
        shape = finder.fact(node.outputs[0]).shape
        if shape is not None and math.prod(shape) == math.prod(shapes[0]) and shape not in shapes:
            shapes.append(shape)
    return tuple(shapes)


def _reduced_axes(program: Program, rank: int) -> set[int] | None:
    """The axes that the reductions of a cone work over; None when they cannot be told."""
    axes: set[int] = set()
    contents = dict(program.constants)
    for call, operands in program.steps:
        if call.op_type.startswith("Reduce"):
            given = call.get("axes")
            if given is None and len(operands) > 1:
                given = contents.get(operands[1])
            if given is None or not call.get("keepdims", 1):
                return None
            axes |= {int(axis) % rank for axis in np.asarray(given).reshape(-1)}
        elif (found := named(call)) is not None and found[0].rows:
            axes |= set(row_axes(found[0], found[1], call.version, rank))
    return axes


def is_rearranging(node: ir.Node) -> bool:
    """True when the node changes where an element is or what the shape is."""
    return is_movement(node) and node.op_type != "Identity"
