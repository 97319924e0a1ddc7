"""A graph written down step by step, and built for whichever opset is asked for."""

import itertools
from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

AXES_ARE_AN_INPUT_SINCE = {"ReduceSum": 13, "Squeeze": 13, "Unsqueeze": 13}
OTHER_REDUCTIONS = 18
SPLIT_IS_AN_INPUT_SINCE = 13

Value = str | float | int | np.ndarray | np.generic


class Step(NamedTuple):
    kind: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, object]


class Branch(NamedTuple):
    """A sub-graph as the value of an attribute: the steps, and the values that leave it."""

    steps: "Sketch"
    outputs: list[str]


class Sketch:
    """`s.Add(a, 1.5, name="y")` adds a node and gives its output's name; numbers become initializers."""

    def __init__(self, dtype: str = "float32", *, prefix: str = "", inline: bool = False) -> None:
        self.dtype, self.prefix, self.inline = dtype, prefix, inline
        self.inputs: dict[str, tuple[str, list[int | str]]] = {}
        self.constants: dict[str, np.ndarray] = {}
        self.steps: list[Step] = []
        self.numbers: Iterator[int] = itertools.count()

    def input(self, name: str, shape: Sequence[int | str], dtype: str | None = None) -> str:
        self.inputs[name] = (dtype or self.dtype, list(shape))
        return name

    def const(self, value: object, dtype: str | None = None, *, name: str | None = None) -> str:
        name = name or f"{self.prefix}constant_{next(self.numbers)}"
        array = np.array(value)
        if dtype is None:
            number = array.dtype.kind == "f" or (array.dtype.kind == "i" and array.ndim == 0)
            dtype = self.dtype if number else array.dtype.name
        array = array.astype(dtype)
        if self.inline:
            self.steps.append(Step("Constant", [], [name], {"value": numpy_helper.from_array(array)}))
        else:
            self.constants[name] = array
        return name

    def op(self, kind: str, *inputs: Value, name: str | None = None, **attributes: object) -> str:
        return self.ops(kind, *inputs, names=[name or self._fresh(kind)], **attributes)[0]

    def ops(self, kind: str, *inputs: Value, names: Sequence[str], **attributes: object) -> list[str]:
        operands = [value if isinstance(value, str) else self.const(value) for value in inputs]
        self.steps.append(Step(kind, operands, list(names), attributes))
        return list(names)

    def renamed(self, value: str, name: str) -> str:
        """A value that nothing has read yet, under another name."""
        outputs = next(step.outputs for step in self.steps if value in step.outputs)
        outputs[outputs.index(value)] = name
        return name

    def split(self, value: str, parts: int, width: int, axis: int = -1) -> list[str]:
        names = [self._fresh("Split") for _ in range(parts)]
        return self.ops("Split", value, names=names, axis=axis, split=[width] * parts)

    def __getattr__(self, kind: str) -> "partial[str]":
        if not kind[:1].isupper():
            raise AttributeError(kind)
        return partial(self.op, kind)

    def model(self, outputs: str | Sequence[str], opset: int = 17) -> onnx.ModelProto:
        outputs = [outputs] if isinstance(outputs, str) else list(outputs)
        known = {value.name: value for value in self._inferred(opset)}
        return self._wrapped(self.graph([known[name] for name in outputs], opset), opset)

    def graph(self, outputs: Sequence[onnx.ValueInfoProto], opset: int) -> onnx.GraphProto:
        constants = dict(self.constants)
        nodes = [self._lowered(step, opset, constants) for step in self.steps]
        inputs = [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape)
            for name, (dtype, shape) in self.inputs.items()
        ]
        initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
        return helper.make_graph(nodes, self.prefix + "graph", inputs, outputs, initializers)

    def _fresh(self, kind: str) -> str:
        return f"{self.prefix}{kind.lower()}_{next(self.numbers)}"

    def _inferred(self, opset: int) -> Sequence[onnx.ValueInfoProto]:
        graph = onnx.shape_inference.infer_shapes(self._wrapped(self.graph([], opset), opset)).graph
        return [*graph.value_info, *graph.input]

    def _wrapped(self, graph: onnx.GraphProto, opset: int) -> onnx.ModelProto:
        versions = [helper.make_opsetid("", opset)]
        return helper.make_model(
            graph, opset_imports=versions, ir_version=max(helper.find_min_ir_version_for(versions), 4)
        )

    def _lowered(self, step: Step, opset: int, constants: dict[str, np.ndarray]) -> onnx.NodeProto:
        kind, attributes, inputs = step.kind, dict(step.attributes), list(step.inputs)
        first = AXES_ARE_AN_INPUT_SINCE.get(kind, OTHER_REDUCTIONS if kind.startswith("Reduce") else None)
        if first is not None and opset >= first and "axes" in attributes:
            self._demote(attributes, "axes", inputs, constants, step.outputs[0])
        if kind == "Split" and opset >= SPLIT_IS_AN_INPUT_SINCE:
            self._demote(attributes, "split", inputs, constants, step.outputs[0])
        for key, value in attributes.items():
            if isinstance(value, Branch):
                leaving = [
                    helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in value.outputs
                ]
                attributes[key] = value.steps.graph(leaving, opset)
            if key == "to" and isinstance(value, str):
                attributes[key] = helper.np_dtype_to_tensor_dtype(np.dtype(value))
        return helper.make_node(kind, inputs, step.outputs, name=f"node_{step.outputs[0]}", **attributes)

    @staticmethod
    def _demote(
        attributes: dict[str, object],
        key: str,
        inputs: list[str],
        constants: dict[str, np.ndarray],
        output: str,
    ) -> None:
        name = f"{output}_{key}"
        constants[name] = np.array(attributes.pop(key), dtype=np.int64)
        inputs.append(name)
