"""A graph written step by step, in which every node and its result are called after their place."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from mutants.weights import BATCH, LENGTH, WORDS, Weights

OPSET = 23


class Sketch:
    """`g.op("Add", a, b, at="layer0/sum")`; a number becomes the constant "layer0/sum/1".

    Args:
        stored: the initializers that it may read.
    """

    def __init__(self, stored: Weights) -> None:
        self.stored = stored
        self.nodes: list[NodeProto] = []
        self.constants: Weights = {}

    def op(self, kind: str, *operands: str | float | Sequence[int], at: str, **attributes: object) -> str:
        """Adds a node; its name and its result are the place."""
        names = [self._named(operand, f"{at}/{slot}") for slot, operand in enumerate(operands)]
        self.nodes.append(helper.make_node(kind, names, [at], name=at, **attributes))
        return at

    def split(self, value: str, parts: int, at: str) -> list[str]:
        """Cuts the last axis into equal parts."""
        names = [f"{at}/part{index}" for index in range(parts)]
        self.nodes.append(helper.make_node("Split", [value], names, name=at, axis=-1, num_outputs=parts))
        return names

    def constant(self, array: object, at: str) -> str:
        """A constant of its own."""
        self.constants[at] = np.asarray(array)
        return at

    def model(self, output: str) -> ModelProto:
        """The whole, with one output and the tokens as input."""
        held = {**self.stored, **self.constants}
        graph = helper.make_graph(
            self.nodes,
            "transformer",
            [helper.make_tensor_value_info("tokens", TensorProto.INT64, [BATCH, LENGTH])],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, [BATCH, LENGTH, WORDS])],
            [numpy_helper.from_array(array, name) for name, array in held.items()],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)

    def _named(self, operand: str | float | Sequence[int], place: str) -> str:
        if isinstance(operand, str):
            return operand
        number = isinstance(operand, float)
        return self.constant(np.array(operand, np.float32 if number else np.int64), place)
