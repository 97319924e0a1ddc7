"""Carrying out a plan of centrings: constants, tables, run-time centrings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import onnx_ir as ir

from tautomer.graph.digits import Digits
from tautomer.passes.streams.centred import centred, mean_along
from tautomer.passes.streams.centring import Network, Place, Plan
from tautomer.passes.streams.known import Member
from tautomer.passes.workspace import Workspace


@dataclass(frozen=True)
class Centred:
    """A value that was centred at run time: as a whole, or by the means of a table's rows."""

    value: ir.Value


def apply_plan(work: Workspace, network: Network, plan: Plan) -> dict[Place, Centred]:
    """Centres what the plan says; returns the values that stand for places centred at run time."""
    at_run_time = {place: Centred(_centre_value(work, place)) for place in plan.centred}
    rows: dict[Place, Centred] = {}
    for place in plan.raw:
        vertex = network.vertices[place]
        node = place.value.producer()
        assert node is not None
        for index, need in vertex.needs.items():
            if need in at_run_time:
                node.replace_input_with(index, at_run_time[need].value)
        if vertex.table:
            rows[place] = Centred(_subtract_row_means(work, place, node))
            continue
        for writer in vertex.writers:
            _centre_constant(work, writer.node, writer.index, writer.digits)
    return {**at_run_time, **rows}


def members(network: Network, plan: Plan, centred: Mapping[Place, Centred]) -> Iterator[Member]:
    """What the plan centred, as it is after it was carried out."""
    for place in (*plan.raw, *plan.centred):
        if place in centred:
            yield Member(centred[place].value, place.value, place.digits, at_run_time=True)
            continue
        vertex, node = network.vertices[place], place.value.producer()
        assert node is not None
        needs = {index: value for index in vertex.needs if (value := node.inputs[index]) is not None}
        writers = {writer.index: writer.digits for writer in vertex.writers}
        yield Member(place.value, place.value, place.digits, needs, writers)


def _centre_constant(work: Workspace, node: ir.Node, index: int, digits: Digits) -> None:
    """W -> W - mean(W), for this reader of it alone: others keep the constant as it is."""
    constant = node.inputs[index]
    assert constant is not None and node.graph is not None
    shape = work.facts.get(constant).shape
    assert shape is not None
    b = work.builder(node.graph)
    new = centred(b, constant, digits, shape)
    work.place(b, node)
    node.replace_input_with(index, new)


def _subtract_row_means(work: Workspace, place: Place, gather: ir.Node) -> ir.Value:
    """E[tokens] -> E[tokens] - m[tokens], m the means of E's rows: a tied table stays as it is, and tied."""
    table, indices = gather.inputs[0], gather.inputs[1]
    assert table is not None and gather.graph is not None
    shape, out = work.facts.get(table).shape, work.facts.get(place.value).shape
    assert shape is not None and out is not None
    local = place.digits.per_axis(out)
    assert local is not None
    # axes behind the gathered one are counted from the end, which is the same in table and rows
    axes = [axis - len(out) + len(shape) for axis, pieces in enumerate(local) if pieces]
    b = work.builder(gather.graph)
    means = mean_along(b, table, axes, len(shape))
    attributes = {name: attribute.value for name, attribute in gather.attributes.items()}
    new = b.op("Sub", place.value, b.op("Gather", means, indices, **attributes))
    work.follow(place.value, new, b)
    return new


def _centre_value(work: Workspace, place: Place) -> ir.Value:
    """One run-time centring; its readers are told one by one."""
    value = place.value
    fact = work.facts.get(value)
    assert fact.shape is not None
    b = work.builder(work.model.graph)
    new = centred(b, value, place.digits, fact.shape)
    node = value.producer()
    if node is None:
        work.place(b, next(iter(work.model.graph)))
    else:
        work.place_after(b, node)
    work.facts.set(new, fact)
    return new
