"""The norms of a stream that lost an element, and the linear maps that read them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir

from tautomer.graph.naming import label
from tautomer.passes.fold_affine import bias_after
from tautomer.passes.linear_maps.into_readers import fold_bias, fold_gain
from tautomer.passes.linear_maps.into_readers import obstacle as cannot_take
from tautomer.passes.linear_maps.linear_readers import LinearReader, linear_readers, moves_behind
from tautomer.passes.operation_forms import Site, choose, write
from tautomer.passes.streams.known import StreamNorm
from tautomer.passes.streams.shorter_axis import adapt, obstacle, shorten
from tautomer.passes.streams.zero_mean_basis import Basis
from tautomer.passes.workspace import Workspace
from tautomer.patterns.recognition.recognised import Recognised
from tautomer.target import Target


def norm_refusal(work: Workspace, norm: StreamNorm, basis: Basis, target: Target) -> str:
    """Why a norm cannot work on rows of one element less, or ""."""
    who, op = f"the norm at node '{norm.where}'", norm.op
    fact = work.facts.get(op.output)
    assert fact.shape is not None
    if op.axes != (len(fact.shape) - 1,):
        return f"{who} works on other axes than the last"
    shorter = replace(op, definition=basis.definition)
    choice = choose(Site.at(work, shorter, fact.dtype, target))
    if choice.form != "function":
        return f"{who} cannot be written: {choice.reason}"
    found = bias_after(work, op)
    output = op.output if found is None else found[0].outputs[0]
    readers = linear_readers(work, output)
    if isinstance(readers, str):
        return f"{who} is read by more than linear maps: {readers}"
    for row in (op.inputs[1], None if found is None else found[1]):
        reason = "" if row is None else cannot_take(work, readers, row)
        if reason:
            return f"what reads {who} cannot be folded into: {reason}"
    for node in moves_behind(work, output):
        for moved in node.outputs:
            rank, before = (len(work.facts.get(v).shape or ()) for v in (moved, node.inputs[0]))
            if not _static(work, moved, rank):
                return f"node '{label(node)}' ({node.op_type}) behind {who} has no fixed number of channels"
            reason = obstacle(work, node, moved, rank - 1, before - 1, basis.length)
            if reason:
                return reason
    return ""


def _static(work: Workspace, value: ir.Value, rank: int) -> bool:
    return not value.uses() or work.recognition.static(value, (rank - 1,))


def compress_norm(work: Workspace, op: Recognised, x: ir.Value, basis: Basis) -> None:
    """Puts the operation on shorter rows in the place of a norm; all else goes to what reads it."""
    found = bias_after(work, op)
    output = op.output if found is None else found[0].outputs[0]
    readers = linear_readers(work, output)
    assert not isinstance(readers, str), readers
    if found is not None:
        fold_bias(work, readers, found[1])
        work.drop(output, op.output)
    if op.inputs[1] is not None:
        fold_gain(work, readers, op.inputs[1])
    for reader in readers:
        _shorter_reader(work, reader, basis)
    moves = moves_behind(work, op.output)
    _write(work, op, x, basis)
    for node in moves:
        for moved in node.outputs:
            axis = len(work.facts.get(moved).shape or ()) - 1
            adapt(work, node, moved, axis, basis.length)
            shorten(work, moved, axis)


def _shorter_reader(work: Workspace, reader: LinearReader, basis: Basis) -> None:
    node, weight = reader.node, reader.node.inputs[1]
    dtype = work.facts.get(weight).dtype
    assert weight is not None and dtype is not None and isinstance(node.graph, ir.Graph)
    b = work.builder(node.graph)
    new = basis.for_reader(b, weight, 1 if reader.transposed else 0, dtype)
    work.place(b, node)
    node.replace_input_with(1, new)


def _write(work: Workspace, op: Recognised, x: ir.Value, basis: Basis) -> None:
    fact = work.facts.get(op.output)
    assert fact.dtype is not None and fact.shape is not None
    now, b = replace(op, definition=basis.definition), work.builder(op.graph)
    length = b.constant(np.array([basis.length - 1], np.int64))
    ones = b.op("Expand", b.scalar(1.0, fact.dtype), length)
    result = write("function", now, (x, ones), fact.dtype, len(fact.shape), b)
    node, operations = result.producer(), work.recognition.operations
    assert node is not None
    current = next(each for each in operations if each.output is op.output and each.op == op.op)
    work.replace(op.output, result, b, op.nodes)
    shorten(work, result, len(fact.shape) - 1)
    done = replace(now, inputs=(x, ones), output=result, nodes=(node,))
    operations[operations.index(current)] = done
