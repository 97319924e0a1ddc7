"""Planting a mistake: small operations on the named nodes and constants of a model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from onnx import ModelProto, NodeProto, helper, numpy_helper


class Surgery:
    """One model, to be made wrong in place.

    Args:
        model: the model; it is copied.
    """

    def __init__(self, model: ModelProto) -> None:
        self.model = ModelProto()
        self.model.CopyFrom(model)
        self._graph = self.model.graph

    def set(self, name: str, array: object) -> None:
        """Gives a constant another value of the same type."""
        old = next(one for one in self._graph.initializer if one.name == name)
        made = np.asarray(array, dtype=numpy_helper.to_array(old).dtype)
        old.CopyFrom(numpy_helper.from_array(made, name))

    def constant(self, name: str) -> np.ndarray:
        """The value of a constant."""
        return numpy_helper.to_array(next(one for one in self._graph.initializer if one.name == name))

    def change(self, node: str, kind: str | None = None, **attributes: object) -> None:
        """Gives a node another operator, or other attributes."""
        found = self._node(node)
        found.op_type = kind or found.op_type
        for name, value in attributes.items():
            kept = [one for one in found.attribute if one.name != name]
            del found.attribute[:]
            found.attribute.extend([*kept, helper.make_attribute(name, value)])

    def rewire(self, node: str, slot: int, value: str) -> None:
        """Lets a node read another value; one that is made later is moved before it."""
        self._node(node).input[slot] = value
        self._sort()

    def bypass(self, value: str, slot: int = 0) -> None:
        """Lets the readers of a node's result read one of its operands."""
        self._redirect(value, self._node(value).input[slot])

    def flip(self, node: str) -> None:
        """Exchanges the operands of a node of two."""
        operands = self._node(node).input
        operands[0], operands[1] = operands[1], operands[0]

    def exchange(self, a: str, b: str) -> None:
        """Exchanges two values for all their readers."""
        swapped = {a: b, b: a}
        for node in self._graph.node:
            for slot, name in enumerate(node.input):
                node.input[slot] = swapped.get(name, name)
        self._sort()

    def after(
        self, value: str, kind: str, *operands: object, first: bool = True, **attributes: object
    ) -> None:
        """Puts a node behind a value: its readers read the new node, which reads the value and arrays."""
        made = f"{value}/wrong"
        names = []
        for slot, operand in enumerate(operands):
            names.append(operand if isinstance(operand, str) else f"{made}/{slot}")
            if not isinstance(operand, str):
                self._graph.initializer.append(numpy_helper.from_array(np.asarray(operand), names[-1]))
        self._redirect(value, made)
        reads = [value, *names] if first else [*names, value]
        self._graph.node.append(helper.make_node(kind, reads, [made], name=made, **attributes))
        self._sort()

    def _node(self, name: str) -> NodeProto:
        return next(node for node in self._graph.node if node.name == name)

    def _redirect(self, old: str, new: str) -> None:
        for node in self._graph.node:
            for slot, name in enumerate(node.input):
                if name == old:
                    node.input[slot] = new

    def _sort(self) -> None:
        """Puts every node behind what it reads, otherwise in the order in which they stand."""
        made = {name for node in self._graph.node for name in node.output}
        waiting, ready, done = list(self._graph.node), list[NodeProto](), set[str]()
        while waiting:
            node = next(node for node in waiting if self._can_run(node.input, made - done))
            waiting.remove(node)
            ready.append(node)
            done.update(node.output)
        del self._graph.node[:]
        self._graph.node.extend(ready)

    @staticmethod
    def _can_run(names: Sequence[str], missing: set[str]) -> bool:
        return not any(name in missing for name in names)
