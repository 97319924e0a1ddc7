"""What may be added to each value of a model without any output moving.

Backwards over the graph: LayerNormalization takes the mean of its row away and Softmax a common summand, so
what they read may be shifted along the row by a number of its own for every position. A sum, a reshape, a
linear layer carry that back to their operands (see `shift_carriers`); everything else sees it. A value may be
shifted as all its readers allow at once, and all values may be shifted at the same time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import onnx_ir as ir

from tautomer.graph.call import Call, call_of
from tautomer.graph.digits import Digits
from tautomer.graph.fact import Fact, Shape
from tautomer.graph.facts import Facts
from tautomer.graph.node_order import in_order
from tautomer.passes.streams.liveness import Demand, Live, Liveness, met, name_of, seen, who
from tautomer.passes.streams.shift_carriers import carriers, carries, why_not
from tautomer.passes.streams.shift_carriers_linear import FLOATS
from tautomer.patterns.recognition.recognised import Recognised

__all__ = ["Demand", "Live", "Liveness", "mean_liveness"]

INVARIANT = frozenset({"LayerNormalization", "Softmax", "LogSoftmax"})  # to a shift along their rows
_READS_NO_VALUES = frozenset({"Shape", "Size", "EyeLike", "RandomNormalLike", "RandomUniformLike"})
_MIXES = frozenset({"MatMul", "Gemm", "Conv", "ConvTranspose"})
_SHOWN = "another output of it shows the mean"
_REMEDY = "export the model without hidden states"


def mean_liveness(model: ir.Model, facts: Facts, operations: Iterable[Recognised]) -> Liveness:
    """Finds what may be shifted.

    Args:
        model: the model; it is not changed.
        facts: what is known of its values.
        operations: what was recognised in it. A LayerNormalization or Softmax in many nodes is one reader of
            its input.
    """
    walk = _Walk(model, facts, operations)
    for node in reversed(walk.order):
        walk.visit(node)
    return walk.found


class _Walk:
    """One pass from the outputs to the inputs."""

    def __init__(self, model: ir.Model, facts: Facts, operations: Iterable[Recognised]) -> None:
        graph = model.graph
        self.found = found = Liveness()
        self.facts = facts
        self.order = in_order(graph)
        self.version = model.opset_imports.get("", model.opset_imports.get("ai.onnx", 0))
        self.functions = {(function.domain, function.name) for function in model.functions.values()}
        found.place.update((node, place) for place, node in enumerate(self.order))
        self.rows = {
            op.node: op
            for op in operations  # one that is known by its name alone has no axes: its node says them
            if op.graph is graph and op.op in INVARIANT and op.axes and op.output in op.node.outputs[:1]
        }
        for node in self.order:
            for value in _captured(node):
                found.ends.setdefault(value, Live(node, f"{name_of(value)} is read inside {who(node)}"))
        for value in graph.outputs:
            reason = f"{name_of(value)} is an output of the model and shows the mean of the stream"
            found.ends.setdefault(value, Live(None, reason, _REMEDY if value.uses() else ""))

    def visit(self, node: ir.Node) -> None:
        """Says what a node demands of its operands, once all its readers have."""
        if not node.inputs:
            return
        outputs = [(k, value) for k, value in enumerate(node.outputs) if self.is_read(value)]
        if not outputs or (node.op_type in _READS_NO_VALUES and node.domain in ("", "ai.onnx")):
            return
        if node in self.rows:
            self.operation(self.rows[node], outputs)
            return
        call = call_of(node, self.version)
        row = self.row_of(node, call, outputs)
        if row is not None:
            self.put(node, 0, row)
            self.keep(node, range(1, len(node.inputs)), f"it is an operand of {call.op_type}")
            return
        for k, value in outputs:
            self.carry(node, call, k, value)

    def is_read(self, value: ir.Value) -> bool:
        """Whether the content of the value reaches an output."""
        edges = self.found.edges
        return value in self.found.ends or any((use.node, use.idx) in edges for use in value.uses())

    def put(self, node: ir.Node, index: int, demand: Demand) -> None:
        """Adds a demand to those of an operand."""
        value = node.inputs[index]
        if value is None:
            return
        if isinstance(demand, Digits) and self.facts[value].shape is None:
            demand = Live(node, f"the shape of {name_of(value)} is not known")
        edges, edge = self.found.edges, (node, index)
        if edge in edges and edges[edge] != demand:
            demand = met(value, [(node, edges[edge]), (node, demand)])
        edges[edge] = demand

    def keep(self, node: ir.Node, indices: Iterable[int], why: str) -> None:
        """These operands may not be shifted."""
        for index in indices:
            self.put(node, index, seen(node, why))

    def operation(self, op: Recognised, outputs: Sequence[tuple[int, ir.Value]]) -> None:
        """Many nodes that are one reader of x. What they compute on the way is theirs alone."""
        source, inner = op.inputs[0], {id(node) for node in op.nodes}
        shown = any(_shows_mean(op.node, k) for k, _ in outputs)
        shape = self.facts.get(source).shape
        row: Demand = (Digits.along(shape, op.axes) if shape is not None else None) or Digits.EMPTY
        if shown:
            row = seen(op.node, _SHOWN)
        for node in op.nodes:
            for index, value in enumerate(node.inputs):
                producer = None if value is None else value.producer()
                if value is source and source is not None:
                    self.put(node, index, row)
                elif id(producer) in inner:
                    self.found.inside.setdefault((node, index), seen(op.node, f"it is inside of {op.op}"))
                else:
                    self.keep(node, [index], f"it is an operand of {op.op}")

    def row_of(self, node: ir.Node, call: Call, outputs: Sequence[tuple[int, ir.Value]]) -> Demand | None:
        """The row of a node that does not mind shifts along rows of its first operand."""
        if call.domain:
            return None
        shape = self.facts.get(node.inputs[0]).shape
        if not shape:
            return None
        flat = 0 < call.version < 13  # when Softmax took all axes from one on together
        match call.op_type:
            case "LayerNormalization" if any(_shows_mean(node, k) for k, _ in outputs):
                return seen(node, _SHOWN)
            case "LayerNormalization":
                return _along(shape, call.get("axis", -1), len(shape))
            case "Softmax" | "LogSoftmax" | "Hardmax":
                return _along(shape, call.get("axis", 1 if flat else -1), len(shape) if flat else 1)
            case "ArgMax" | "ArgMin":
                return _along(shape, call.get("axis", 0), 1)
        return None

    def carry(self, node: ir.Node, call: Call, k: int, output: ir.Value) -> None:
        """Through the node's carriers, or to the reason why the operands may not be shifted."""
        inputs: list[Fact | None] = [None if v is None else self.facts[v] for v in node.inputs]
        while inputs and inputs[-1] is None:
            inputs.pop()
        shape, dtype = self.facts[output].shape, self.facts[output].dtype
        wanted = self.found.passed_on(output)
        if (call.domain, call.op_type) in self.functions:
            self.keep(node, range(len(inputs)), f"nothing is known of the function {call.op_type}")
        elif not carries(call) or (dtype is not None and dtype not in FLOATS):
            self.keep(node, range(len(inputs)), why_not(call))
        elif shape is None:
            self.keep(node, range(len(inputs)), f"the shape of {name_of(output)} is not known")
        elif isinstance(wanted, Live):
            self.inherit(node, call, inputs, shape, k, wanted)
        else:
            found = carriers(call, inputs, shape, wanted, k)
            for i in range(len(inputs)):
                digits = found.through.get(i)
                self.put(node, i, digits if digits is not None else seen(node, found.reason(i)))

    def inherit(
        self, node: ir.Node, call: Call, inputs: Sequence[Fact | None], shape: Shape, k: int, wanted: Live
    ) -> None:
        """A shift that this node would pass on is seen by whatever sees its output; any other by itself."""
        passed = replace(wanted, far=wanted.far + 1)
        mixes = "it gives every channel weights of its own" if call.op_type in _MIXES else ""
        waiting = dict.fromkeys(range(len(inputs)), mixes)
        trials = [Digits.along(shape, [axis]) for axis in reversed(range(len(shape))) if not mixes]
        for trial in list(filter(None, trials)) or ([] if mixes else [Digits.EMPTY]):
            found = carriers(call, inputs, shape, trial, k)
            for i in [i for i in waiting if i in found.through]:
                del waiting[i]
                self.put(node, i, passed)
            waiting = {i: why or found.reason(i) for i, why in waiting.items()}
        for i, why in waiting.items():
            self.put(node, i, seen(node, why))


def _along(shape: Shape, axis: int, count: int) -> Digits | None:
    """The digits of some axes from one on."""
    axis = axis + len(shape) if axis < 0 else axis
    return Digits.along(shape, range(axis, min(axis + count, len(shape))))


def _shows_mean(node: ir.Node, output: int) -> bool:
    """Whether an output beside the result moves with the mean; the deviation that a norm gives does not."""
    return output == 1 or (output > 1 and node.op_type != "LayerNormalization")


def _captured(node: ir.Node) -> Iterator[ir.Value]:
    """The values from outside that the sub-graphs of a node read."""
    for attribute in node.attributes.values():
        if attribute.is_ref():
            continue
        graphs: Sequence[ir.Graph] = ()
        if attribute.type == ir.AttributeType.GRAPH:
            graphs = (attribute.as_graph(),)
        elif attribute.type == ir.AttributeType.GRAPHS:
            graphs = attribute.as_graphs()
        for graph in graphs:
            yield from (value for value in graph.outputs if value is not None)
            for inner in graph:
                yield from (value for value in inner.inputs if value is not None)
                yield from _captured(inner)
