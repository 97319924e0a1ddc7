"""The stored constants that a constant operand is made of, and along which digits each is centred for it.

An exporter puts transpositions, reshapes and look-ups between a weight and the node that it writes by. A mean
is taken out of the operand by taking it out of what it is made of, by the same rule that carries it through
the nodes of a stream.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from tautomer.graph.call import call_of
from tautomer.graph.digits import Digits
from tautomer.graph.naming import label
from tautomer.passes.streams.centring import Writer
from tautomer.passes.streams.shift_carriers import carriers
from tautomer.passes.workspace import Workspace


@dataclass(frozen=True)
class Leaf:
    """A stored constant, where a writer reads it.

    Attributes:
        value: the constant.
        node, index: the operand that it is.
        digits: along which it is centred.
    """

    value: ir.Value
    node: ir.Node
    index: int
    digits: Digits


def leaves_of(work: Workspace, writer: Writer) -> list[Leaf] | str:
    """The constants behind a writer, or why they cannot be centred for it."""
    leaves: list[Leaf] = []
    stack = [(writer.node, writer.index, writer.digits)]
    while stack:
        node, index, digits = stack.pop()
        value = node.inputs[index]
        assert value is not None
        producer, shape = value.producer(), work.facts.get(value).shape
        if not digits:
            return f"node '{label(node)}' adds '{value.name}', which is the same for a whole row"
        if producer is None:
            leaves.append(Leaf(value, node, index, digits))
            continue
        if shape is None:
            return f"the shape of '{value.name}' is not known"
        facts = [None if operand is None else work.facts.get(operand) for operand in producer.inputs]
        through = carriers(call_of(producer, work.version), facts, shape, digits, value.index() or 0)
        if through.stop:
            return f"node '{label(producer)}' ({producer.op_type}) is in its way: {through.stop}"
        stack += [(producer, position, own) for position, own in through.through.items()]
    return leaves
