"""What a model computes: in float32 by ONNX Runtime unoptimised, in float64 by the ONNX reference.

The float64 evaluation retypes a copy of the model, so that a difference of 1e-7 can be told from rounding.
"""

import math
from collections.abc import Iterator

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

SYMBOLS = {"batch": 2, "sequence": 3}
ROW_SCALES = np.array([1.0, 4e-3, 0.3, 20.0, 1.0, 5e-5, 1e-2, 3.0, 0.1, 8.0, 1.5])
ROW_OFFSETS = np.array([0.0, 0.0, 2.0, 0.0, -7.0, 0.0, 0.5, 0.3, 0.0, -30.0, 0.0])


class Erf(OpRun):
    op_domain = ""

    def _run(self, x: np.ndarray) -> tuple[np.ndarray]:
        return (np.vectorize(math.erf, otypes=[x.dtype])(x),)


def input_shape(value: onnx.ValueInfoProto) -> list[int]:
    return [SYMBOLS.get(axis.dim_param, axis.dim_value) for axis in value.type.tensor_type.shape.dim]


def feeds(model: onnx.ModelProto, seed: int, *, wild: bool = False) -> dict[str, np.ndarray]:
    """Normal numbers, or where `wild` rows of many scales and offsets; every boolean row begins with True."""
    generator = np.random.default_rng(seed)
    fed = {}
    for value in model.graph.input:
        shape = input_shape(value)
        kind = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        drawn = generator.standard_normal(shape)
        if kind == np.dtype(bool):
            drawn = np.atleast_1d(drawn > 0)
            drawn[..., 0] = True
            drawn = drawn.reshape(shape)
        elif kind == np.dtype(np.int64):
            drawn = generator.integers(0, 4, shape)
        elif wild and shape:
            rows = drawn.reshape(-1, shape[-1])
            turn = (np.arange(len(rows)) + generator.integers(len(ROW_SCALES))) % len(ROW_SCALES)
            drawn = (rows * ROW_SCALES[turn, None] + ROW_OFFSETS[turn, None]).reshape(shape)
        fed[value.name] = np.asarray(drawn).astype(kind)
    return fed


def run_onnxruntime(model: onnx.ModelProto, fed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, fed), strict=True))


def run_float64(model: onnx.ModelProto, fed: dict[str, np.ndarray], *, halves: bool) -> dict[str, np.ndarray]:
    """Every value of the main graph; `halves` says whether float16 becomes float64 too, or keeps rounding."""
    wide = retyped(model, halves=halves)
    kinds = {value.name: value.type.tensor_type.elem_type for value in wide.graph.input}
    typed = {
        name: array.astype(onnx.helper.tensor_dtype_to_np_dtype(kinds[name])) for name, array in fed.items()
    }
    with np.errstate(all="ignore"):
        values = ReferenceEvaluator(wide, new_ops=[Erf]).run(None, typed, intermediate=True)
    return {name: array for name, array in values.items() if isinstance(array, np.ndarray | np.generic)}


def retyped(model: onnx.ModelProto, *, halves: bool) -> onnx.ModelProto:
    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    narrow = {TensorProto.FLOAT, TensorProto.FLOAT16} if halves else {TensorProto.FLOAT}
    for graph in graphs(wide.graph):
        for value in (*graph.input, *graph.output, *graph.value_info):
            if value.type.tensor_type.elem_type in narrow:
                value.type.tensor_type.elem_type = TensorProto.DOUBLE
        for tensor in graph.initializer:
            widen(tensor, narrow)
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.type == onnx.AttributeProto.TENSOR:
                    widen(attribute.t, narrow)
                elif attribute.name == "to" and attribute.i in narrow:
                    attribute.i = TensorProto.DOUBLE
    return wide


def widen(tensor: TensorProto, narrow: set[int]) -> None:
    if tensor.data_type in narrow:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(float), tensor.name))


def graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from graphs(attribute.g)
