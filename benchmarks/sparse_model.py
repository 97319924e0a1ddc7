"""A transformer of any size on a few megabytes of disk: its weights are holes in a file, but for some rows.

Pre-norm, with a table of tokens that is also the head. Every matrix has two rows of numbers and is zero
elsewhere; gains, biases and other vectors are stored whole.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

_PAGE = 4096
_WHOLE = 1 << 16  # elements; what is smaller has no holes


@dataclass(frozen=True)
class Sizes:
    """What the model is made of; the defaults make 0.8 GB a layer.

    Attributes:
        layers: how many.
        width: channels.
        hidden: channels of the perceptron.
        tokens: rows of the table.
        positions: rows of the table of positions.
        heads: of attention.
    """

    layers: int
    width: int = 4096
    hidden: int = 16384
    tokens: int = 32000
    positions: int = 2048
    heads: int = 32

    @property
    def bytes(self) -> int:
        """Of all weights, but for vectors."""
        layer = 4 * self.width**2 + 2 * self.width * self.hidden
        return 4 * (self.layers * layer + (self.tokens + self.positions) * self.width)


def of_gigabytes(gigabytes: float) -> Sizes:
    """The model that comes nearest to so many bytes."""
    none, one = Sizes(0).bytes, Sizes(1).bytes
    return Sizes(max(1, round((gigabytes * 1e9 - none) / (one - none))))


@dataclass
class _Writer:
    """Collects nodes, and writes weights to the data file."""

    file: BinaryIO
    location: str
    rng: np.random.Generator
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)
    end: int = 0

    def small(self, name: str, array: np.ndarray) -> str:
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def weight(self, name: str, *shape: int) -> str:
        """A weight of two random rows, or of random numbers everywhere when it is small."""
        size = int(np.prod(shape))
        rows = range(shape[0]) if size <= _WHOLE else filled_rows(shape[0])
        width = size // shape[0]
        for row in rows:
            self.file.seek(self.end + 4 * row * width)
            self.file.write(self.rng.normal(0.3, 1.0, width).astype(np.float32).tobytes())
        tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=shape)
        tensor.data_location = TensorProto.EXTERNAL
        entries = {"location": self.location, "offset": self.end, "length": 4 * size}
        for key, value in entries.items():
            tensor.external_data.add(key=key, value=str(value))
        self.weights.append(tensor)
        self.end += -(-4 * size // _PAGE) * _PAGE
        return name

    def op(self, kind: str, *inputs: str, name: str = "", **attributes: object) -> str:
        name = name or f"{kind}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [f"{name}:"], name=name, **attributes))
        return f"{name}:"

    def norm(self, x: str, name: str, width: int) -> str:
        gain, bias = self.weight(f"{name}.gain", width), self.weight(f"{name}.bias", width)
        return self.op("LayerNormalization", x, gain, bias, name=name, epsilon=1e-5)

    def linear(self, x: str, name: str, rows: int, columns: int) -> str:
        product = self.op("MatMul", x, self.weight(f"{name}.weight", rows, columns), name=name)
        return self.op("Add", product, self.weight(f"{name}.bias", columns), name=f"{name}.add")

    def heads(self, x: str, name: str, width: int) -> str:
        apart = self.op("Reshape", self.linear(x, name, width, width), "split")
        return self.op("Transpose", apart, perm=[0, 2, 3, 1] if name.endswith("key") else [0, 2, 1, 3])

    def layer(self, x: str, name: str, sizes: Sizes) -> str:
        width = sizes.width
        normed = self.norm(x, f"{name}.norm1", width)
        q, k, v = (self.heads(normed, f"{name}.{part}", width) for part in ("query", "key", "value"))
        scores = self.op("Softmax", self.op("Mul", self.op("MatMul", q, k), "scale"), axis=-1)
        mixed = self.op("Transpose", self.op("MatMul", scores, v), perm=[0, 2, 1, 3])
        joined = self.op("Reshape", mixed, "join")
        x = self.op("Add", x, self.linear(joined, f"{name}.out", width, width))
        normed = self.norm(x, f"{name}.norm2", width)
        hidden = self.op("Gelu", self.linear(normed, f"{name}.up", width, sizes.hidden))
        return self.op("Add", x, self.linear(hidden, f"{name}.down", sizes.hidden, width))


def filled_rows(rows: int) -> tuple[int, int]:
    """The rows of a large matrix that are not zero."""
    return rows // 3, rows - 2


def write_sparse(path: Path, sizes: Sizes, seed: int = 0) -> None:
    """Writes the model, and its weights beside it."""
    data = path.with_name(path.name + ".data")
    with data.open("wb") as file:
        writer = _Writer(file, data.name, np.random.default_rng(seed))
        width = sizes.width
        writer.small("split", np.array([0, 0, sizes.heads, width // sizes.heads], np.int64))
        writer.small("join", np.array([0, 0, width], np.int64))
        writer.small("scale", np.float32((width // sizes.heads) ** -0.5))
        table = writer.weight("tokens.weight", sizes.tokens, width)
        places = writer.weight("positions.weight", sizes.positions, width)
        x = writer.op(
            "Add",
            writer.op("Gather", table, "ids", name="tokens"),
            writer.op("Gather", places, "places", name="positions"),
        )
        for layer in range(sizes.layers):
            x = writer.layer(x, f"layer{layer}", sizes)
        last = writer.norm(x, "last", width)
        writer.op("MatMul", last, writer.op("Transpose", table, perm=[1, 0]), name="head")
        writer.nodes[-1].output[0] = "logits"
        file.truncate(writer.end)
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        writer.nodes,
        "sparse",
        [info(name, TensorProto.INT64, ["batch", "sequence"]) for name in ("ids", "places")],
        [info("logits", TensorProto.FLOAT, ["batch", "sequence", sizes.tokens])],
        writer.weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=11)
    path.write_bytes(model.SerializeToString())
