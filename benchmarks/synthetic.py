"""A transformer of any depth in elementary operators: 53 nodes a layer, every layer with weights of its own.

Norms, softmax and GELU are spelled out, so that a recogniser has work at every layer. The model is narrow:
what it costs to handle grows with its nodes and not with its weights.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

WIDTH, HEADS = 16, 2
NODES_A_LAYER = 53


class _Writer:
    """Collects nodes and weights; each method adds operators and returns the name of their result."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, onnx.TensorProto] = {}
        for name, number in {"eps": 1e-5, "two": 2.0, "half": 0.5, "one": 1.0, "root2": 2**0.5}.items():
            self.constant(name, np.float32(number))
        self.constant("scale", np.float32((WIDTH // HEADS) ** -0.5))
        self.constant("last", np.array([-1], np.int64))
        self.constant("split", np.array([0, 0, HEADS, WIDTH // HEADS], np.int64))
        self.constant("join", np.array([0, 0, WIDTH], np.int64))

    def constant(self, name: str, value: np.ndarray | np.generic) -> str:
        self.weights[name] = numpy_helper.from_array(np.asarray(value), name)
        return name

    def weight(self, *shape: int, near: float = 0.0) -> str:
        value = self.rng.normal(near, 0.1, shape).astype(np.float32)
        return self.constant(f"w{len(self.weights)}", value)

    def op(self, kind: str, *inputs: str, **attributes: object) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], name=f"n{len(self.nodes)}", **attributes))
        return name

    def norm(self, x: str) -> str:
        centred = self.op("Sub", x, self.op("ReduceMean", x, "last"))
        variance = self.op("ReduceMean", self.op("Pow", centred, "two"), "last")
        core = self.op("Div", centred, self.op("Sqrt", self.op("Add", variance, "eps")))
        return self.op("Add", self.op("Mul", core, self.weight(WIDTH, near=1.0)), self.weight(WIDTH))

    def linear(self, x: str, rows: int, columns: int) -> str:
        return self.op("Add", self.op("MatMul", x, self.weight(rows, columns)), self.weight(columns))

    def gelu(self, x: str) -> str:
        grown = self.op("Add", self.op("Erf", self.op("Div", x, "root2")), "one")
        return self.op("Mul", self.op("Mul", x, grown), "half")

    def softmax(self, x: str) -> str:
        grown = self.op("Exp", self.op("Sub", x, self.op("ReduceMax", x, "last")))
        return self.op("Div", grown, self.op("ReduceSum", grown, "last"))

    def heads(self, x: str, perm: tuple[int, ...]) -> str:
        return self.op("Transpose", self.op("Reshape", self.linear(x, WIDTH, WIDTH), "split"), perm=perm)

    def attention(self, x: str) -> str:
        query, value = self.heads(x, (0, 2, 1, 3)), self.heads(x, (0, 2, 1, 3))
        scores = self.op("Mul", self.op("MatMul", query, self.heads(x, (0, 2, 3, 1))), "scale")
        mixed = self.op("Transpose", self.op("MatMul", self.softmax(scores), value), perm=(0, 2, 1, 3))
        return self.linear(self.op("Reshape", mixed, "join"), WIDTH, WIDTH)

    def layer(self, x: str) -> str:
        x = self.op("Add", x, self.attention(self.norm(x)))
        hidden = self.gelu(self.linear(self.norm(x), WIDTH, 4 * WIDTH))
        return self.op("Add", x, self.linear(hidden, 4 * WIDTH, WIDTH))


def write_synthetic(path: Path, nodes: int, seed: int = 0) -> int:
    """Writes a model of about that many nodes, and returns how many it has."""
    writer = _Writer(seed)
    value = "x"
    for _ in range(max(1, round(nodes / NODES_A_LAYER))):
        value = writer.layer(value)
    writer.nodes[-1].output[0] = "y"
    shape = ["batch", "sequence", WIDTH]
    graph = helper.make_graph(
        writer.nodes,
        "synthetic",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        list(writer.weights.values()),
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    return len(writer.nodes)
