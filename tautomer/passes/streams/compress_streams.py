"""Which zero-mean streams may lose one element of their channel, and taking it off.

A stream is a set of values that are computed from each other: all of them are shortened, or none. Whatever
else reads one of them would find an element missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from tautomer.graph.digits import Digits
from tautomer.graph.naming import label, printable
from tautomer.passes.streams.centring import whole_axes
from tautomer.passes.streams.known import Member, StreamNorm, Streams
from tautomer.passes.streams.shorter_axis import adapt, obstacle, shorten
from tautomer.passes.streams.zero_mean_basis import Basis
from tautomer.passes.workspace import Workspace


@dataclass
class Stream:
    """Values that are shortened together.

    Attributes:
        members: in the order in which they were found.
        norms: the norms that read them.
        axes: the channel of each value.
        length: of the channel.
    """

    members: list[Member]
    norms: list[StreamNorm]
    axes: dict[ir.Value, int]
    length: int = 0


def streams_of(streams: Streams) -> list[Stream]:
    """The members and norms that hang together, in their order."""
    parent: dict[ir.Value, ir.Value] = {member.value: member.value for member in streams.members}

    def root(value: ir.Value) -> ir.Value:
        while parent.setdefault(value, value) is not value:
            value = parent[value]
        return value

    for member in streams.members:
        for need in member.needs.values():
            parent[root(need)] = root(member.value)
    groups: dict[ir.Value, Stream] = {}
    for member in streams.members:
        groups.setdefault(root(member.value), Stream([], [], {})).members.append(member)
    for norm in streams.norms:
        groups.setdefault(root(norm.value), Stream([], [], {})).norms.append(norm)
    return list(groups.values())


def refusal(work: Workspace, stream: Stream) -> str:
    """Why the stream has to keep its length, or ""; sets its axes and length."""
    for member in stream.members:
        value, shape = member.value, work.facts.get(member.value).shape
        axes = None if shape is None else whole_axes(member.digits, shape)
        if shape is None or axes is None or len(axes) != 1:
            return f"the channel of {_name(value)} is not one axis"
        if stream.axes.setdefault(value, axes[0]) != axes[0]:
            return f"{_name(value)} has two channels"
        stream.length = stream.length or shape[axes[0]]
        if shape[axes[0]] != stream.length or not work.recognition.static(member.origin, axes):
            return f"the length of the channel of {_name(value)} is not fixed"
    within = {
        (node, index)
        for member in stream.members
        if (node := member.value.producer()) is not None
        for index in member.needs
    }
    norms = {(norm.value, node) for norm in stream.norms for node in norm.op.nodes}
    reasons = (
        reason
        for member in stream.members
        if not member.at_run_time
        for reason in (_not_its_node(work, stream, member), _other_reader(member.value, within, norms))
    )
    return next((reason for reason in reasons if reason), "")


def _not_its_node(work: Workspace, stream: Stream, member: Member) -> str:
    """Why the node of a member cannot compute it with one element less, or ""."""
    node, axis = member.value.producer(), stream.axes[member.value]
    assert node is not None
    for output in node.outputs:
        if output not in stream.axes and (output.uses() or output.is_graph_output()):
            return f"node '{label(node)}' ({node.op_type}) computes {_name(output)} too"
    for index, digits in member.writers.items():
        if digits and constant_axis(work, node.inputs[index], digits, stream.length) is None:
            return f"the channel of the constant {_name(node.inputs[index])} is not one axis"
    before = next((stream.axes.get(need, -1) for need in member.needs.values()), -1)
    return obstacle(work, node, member.value, axis, before, stream.length)


def _other_reader(
    value: ir.Value, within: set[tuple[ir.Node, int]], norms: set[tuple[ir.Value, ir.Node]]
) -> str:
    if value.is_graph_output():
        return f"{_name(value)}, a value of its stream, is an output of the model"
    for node, index in value.uses():
        if (node, index) in within or (value, node) in norms or node.op_type == "Shape":
            continue
        return f"node '{label(node)}' ({node.op_type}) reads all elements of {_name(value)}"
    return ""


def constant_axis(work: Workspace, constant: ir.Value | None, digits: Digits, length: int) -> int | None:
    """The axis of a constant that digits are, if it has this length."""
    shape = work.facts.get(constant).shape
    axes = None if shape is None else whole_axes(digits, shape)
    return axes[0] if shape and axes and len(axes) == 1 and shape[axes[0]] == length else None


def shorten_stream(work: Workspace, stream: Stream, basis: Basis) -> dict[ir.Value, ir.Value]:
    """Shortens the values of a stream; returns what takes the place of those that are centred at run time."""
    new: dict[ir.Value, ir.Value] = {}
    for member in stream.members:
        if member.at_run_time:
            new[member.value] = _shorter_value(work, member.value, stream.axes[member.value], basis)
    for member in stream.members:
        if member.at_run_time:
            continue
        node, value = member.value.producer(), member.value
        assert node is not None
        for index, need in member.needs.items():
            if need in new:
                node.replace_input_with(index, new[need])
        for index, digits in member.writers.items():
            if digits:
                _shorter_constant(work, node, index, digits, basis)
        adapt(work, node, value, stream.axes[value], basis.length)
    for value in _once(member.value for member in stream.members if not member.at_run_time):
        shorten(work, value, stream.axes[value])
    return new


def _shorter_value(work: Workspace, value: ir.Value, axis: int, basis: Basis) -> ir.Value:
    node, fact = value.producer(), work.facts.get(value)
    assert node is not None and isinstance(node.graph, ir.Graph) and fact.dtype is not None
    b = work.builder(node.graph)
    new = basis.shorter(b, value, axis, fact.dtype)
    work.place_after(b, node)
    return new


def _shorter_constant(work: Workspace, node: ir.Node, index: int, digits: Digits, basis: Basis) -> None:
    constant = node.inputs[index]
    assert constant is not None and isinstance(node.graph, ir.Graph)
    axis, dtype = constant_axis(work, constant, digits, basis.length), work.facts.get(constant).dtype
    assert axis is not None and dtype is not None
    b = work.builder(node.graph)
    new = basis.shorter(b, constant, axis, dtype)
    work.place(b, node)
    node.replace_input_with(index, new)


def _once(values: Iterable[ir.Value]) -> Sequence[ir.Value]:
    return list(dict.fromkeys(values))


def _name(value: ir.Value | None) -> str:
    return f"'{printable(value.name or '')}'" if value is not None else "nothing"
