"""What a tool makes of a model when it computes all that does not depend on inputs."""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, NodeProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

Arrays = dict[str, np.ndarray]


def folded(model: ModelProto, *, wide: bool = False) -> ModelProto:
    """The model without operations on constants: computed step by step in float32, or wide, rounded once."""
    made = ModelProto()
    made.CopyFrom(model)
    graph = made.graph
    known = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
    if wide:
        known = {name: x.astype(np.float64) if x.dtype == np.float32 else x for name, x in known.items()}
    fixed, kept, names = list[NodeProto](), list[NodeProto](), set(known)
    for node in graph.node:
        constant = all(name in names for name in node.input if name)
        (fixed if constant else kept).append(node)
        names |= set(node.output) if constant else set()
    used = names.intersection(name for node in kept for name in node.input)
    known |= _computed(fixed, known, sorted(used - set(known)), made)
    del graph.initializer[:], graph.node[:]
    graph.node.extend(kept)
    for name in sorted(used):
        x = known[name]
        stored = x.astype(np.float32) if x.dtype == np.float64 else x
        graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(stored).reshape(x.shape), name))
    return made


def _computed(nodes: list[NodeProto], known: Arrays, wanted: list[str], model: ModelProto) -> Arrays:
    if not wanted:
        return {}
    held = [numpy_helper.from_array(np.ascontiguousarray(x).reshape(x.shape), n) for n, x in known.items()]
    ends = [helper.make_tensor_value_info(name, 0, None) for name in wanted]
    graph = helper.make_graph(nodes, "constants", [], ends, held)
    found = ReferenceEvaluator(helper.make_model(graph, opset_imports=model.opset_import)).run(None, {})
    return dict(zip(wanted, map(np.asarray, found), strict=True))
