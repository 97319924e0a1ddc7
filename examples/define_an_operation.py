"""Defines an operation of one's own and finds it in a model, however the model spells it.

    python examples/define_an_operation.py

The definition is the only thing to write: recognition, the ONNX function body and the documentation's table
come from it. The operation here is the squareplus activation, (x + sqrt(x^2 + b)) / 2.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

import tautomer
from tautomer.patterns.operation import Scalar, operation


@operation("Squareplus", domain="tautomer", source="arXiv 2112.11687")
def squareplus(m, x, *, b: Scalar = 4.0):
    """(x + sqrt(x^2 + b)) / 2."""
    return (x + m.sqrt(x * x + b)) * 0.5


def spelled_another_way() -> onnx.ModelProto:
    """A model with the power 0.5 for the root, another order of operands and a division."""
    numbers = {"two": 2.0, "b": 1.5, "half": 0.5}
    constants = [numpy_helper.from_array(np.float32(value), name) for name, value in numbers.items()]
    nodes = [
        helper.make_node("Pow", ["x", "two"], ["square"]),
        helper.make_node("Add", ["b", "square"], ["sum"]),
        helper.make_node("Pow", ["sum", "half"], ["root"]),
        helper.make_node("Add", ["root", "x"], ["twice"]),
        helper.make_node("Div", ["twice", "two"], ["y"]),
    ]
    x, y = (helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", 8]) for name in "xy")
    graph = helper.make_graph(nodes, "squareplus", [x], [y], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def main() -> None:
    """Prints what is found, and the operators of the model once it is written as the operation."""
    model = spelled_another_way()
    for found in tautomer.inspect(model):
        print(f"{found.output} = {found.op}({', '.join(found.inputs)})  {found.attributes}")
    result = tautomer.optimize(model, target="onnx")
    print(f"{result.before} -> {result.after}, {result.verification['verdict']}")


if __name__ == "__main__":
    main()
