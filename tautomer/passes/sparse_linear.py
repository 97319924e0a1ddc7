"""sparse linear: activation with exact zeros -> linear  ->  a product that reads what the zeros leave.

    h W + b                    = b + sum over j with h_j != 0 of h_j W[j, :]
    (gate * (x U + c)) W + b   = b + sum over j with gate_j != 0 of gate_j (x . U[:, j] + c_j) W[j, :]

Condition: W is finite, and so are U, c by a margin that keeps x U + c finite: 0 * w = 0 for no other w. Where
h or x are not finite, the kernel leaves nothing out. The zeros must be exact, as those of max(x, 0) are. The
rows of h share what is read of W, and with more than a few rows nearly every neuron is met by one: so they
must be few. Where their number is known only when it runs, both forms are written, and a condition chooses:

    y = If(size(h) <= 4 neurons, h W + b by what is met, h W + b as it was)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf, prod
from typing import ClassVar

import ml_dtypes
import numpy as np
import onnx_ir as ir

from tautomer.graph.build import Builder
from tautomer.graph.naming import label, printable
from tautomer.passes.linear_maps.linear_readers import LinearReader, linear_reader
from tautomer.passes.linear_maps.weight_check import expression_behind
from tautomer.passes.open_rows import OpenRows
from tautomer.passes.workspace import Workspace
from tautomer.patterns.exact_zeros import has_exact_zeros, without_gate
from tautomer.patterns.onnx_body import DOMAIN
from tautomer.patterns.recognition.recognised import Recognised
from tautomer.patterns.sparse_linear import FEW, GATED, PLAIN, WEIGHT_LIMITS, function_of_sparse, obstacle
from tautomer.remarks import Remark
from tautomer.target import Target

_PRODUCTS = ("MatMul", "Gemm")
_CHOICE = 16  # A choice in each run takes some microseconds: of a product this much larger, a hundredth.
_OPEN = "both forms are in the file, and each run chooses: fix the sizes of the inputs to have only one"


@dataclass(frozen=True)
class SparseLinear:
    """Rewrites the linear maps behind activations with exact zeros.

    Attributes:
        target: from which size on it gains there, if at all.
    """

    name: ClassVar[str] = "sparse linear"
    target: Target

    def __call__(self, work: Workspace) -> list[Remark]:
        """Rewrites in place; returns a remark for each linear map behind such an activation."""
        least = self.target.sparse_from
        if least is None:
            return []
        remarks = []
        rows = OpenRows(work)
        for op in list(work.recognition.operations):
            if op.graph is work.model.graph and has_exact_zeros(op.definition, op.attributes):
                remarks += [_rewritten(work, site, least, rows) for site in _sites(op)]
        return remarks


@dataclass(frozen=True)
class _Site:
    """A product with exact zeros in its left factor.

    Attributes:
        op: the activation.
        node: the MatMul or Gemm.
        up: what the activation is multiplied by in front of it; None where it is not.
    """

    op: Recognised
    node: ir.Node
    up: ir.Value | None = None

    @property
    def gate(self) -> ir.Value | None:
        """What has the shape of the gate."""
        return self.op.inputs[0] if self.op.definition.composite else self.op.output


def _sites(op: Recognised) -> Iterator[_Site]:
    """The products that read what an activation gives, as it is or times another value."""
    hidden = [(op.output, op.inputs[1] if op.definition.composite else None)]
    for node, index in op.output.uses():
        if node.op_type == "Mul" and not op.definition.composite and len(set(node.inputs)) == 2:
            hidden.append((node.outputs[0], node.inputs[1 - index]))
    for value, up in hidden:
        for node, index in list(value.uses()):
            if index == 0 and node.op_type in _PRODUCTS and node.graph is op.graph:
                yield _Site(op, node, up)


def _rewritten(work: Workspace, site: _Site, least: int, rows: OpenRows) -> Remark:
    """Rewrites a site where it may be, and says what was done."""
    reader, where = linear_reader(work, site.node), label(site.node)
    reason = reader if isinstance(reader, str) else _obstacle(work, reader, least, rows)
    if reason or isinstance(reader, str):
        hint = "fix the sizes of the inputs" if "open" in reason else ""
        return Remark("missed", SparseLinear.name, PLAIN, where, reason, hint)
    up = _up(work, site)
    static = work.facts.get(reader.output).static
    hint = "" if static else _OPEN
    _replace(work, site, reader, up, None if static else rows)
    if isinstance(up, LinearReader):
        done = f"the zeros of {site.op.op} spare rows of two matrices"
        return Remark("passed", SparseLinear.name, GATED, where, done, hint)
    dense = f"; the product before it stays whole: {up}" if up else ""
    done = f"the zeros of {site.op.op} spare rows of its matrix{dense}"
    return Remark("passed", SparseLinear.name, PLAIN, where, done, hint)


def _obstacle(work: Workspace, reader: LinearReader, least: int, open_rows: OpenRows) -> str:
    """Why a linear map stays, or ""."""
    y, weight = work.facts.get(reader.output), work.facts.get(reader.weight)
    if y.shape is None or weight.shape is None or work.facts.get(reader.node.inputs[0]).dtype != y.dtype:
        return "its shape is not known"
    if reader.alpha != 1.0 or reader.beta != 1.0:
        return f"node '{label(reader.node)}' (Gemm) has factors of its own"
    rows = prod(y.shape[:-1]) if y.static else open_rows.fewest(reader.node.inputs[0])
    if rows > FEW:
        many = f"its {rows}" if y.static else "whatever its open sizes are, its"
        return f"{many} rows meet nearly every neuron between them: up to {FEW} rows gain"
    if not y.static and work.version < 9:
        return "its number of rows is open, and integers are not compared before opset 9"
    if not y.static and y.dtype == ir.DataType.FLOAT16:
        return "its number of rows is open, and onnxruntime rounds float16 where branches begin"
    least *= 1 if y.static else _CHOICE
    if prod(weight.shape) < least:
        return f"its matrix has {prod(weight.shape)} elements: from {least} on it gains"
    return obstacle(y.dtype) or _unbounded(work, reader.weight, inf) or work.blind()


def _unbounded(work: Workspace, value: ir.Value, limit: float) -> str:
    """Why a constant is not known to be finite and within a limit, or ""."""
    found, dtype = expression_behind(work, value), work.facts.get(value).dtype
    if isinstance(found, str):
        return found
    for name in found.sources:
        if work.is_valueless(name):
            return f"the values of '{printable(name)}' come with every call"
        if not np.isfinite(work.largest(name)):
            return f"'{printable(name)}' has NaN or infinite elements"
    assert dtype is not None
    limit = min(limit, float(ml_dtypes.finfo(dtype.numpy()).max))  # type: ignore[no-untyped-call]
    bound = prod(work.largest(name) for name in found.sources)
    if len(found.sources) > 1 or ((made := value.producer()) is not None and made.op_type != "Transpose"):
        # it is made of sums of products of these
        bound = prod(max(work.largest(name), 1.0) for name in found.sources) * (
            work.facts.get(value).size or 1
        )
    return (
        ""
        if bound <= limit
        else f"'{printable(value.name or '')}' may hold {bound:.4g}: too large to be exact"
    )


def _up(work: Workspace, site: _Site) -> LinearReader | str:
    """The up projection of a gated layer, or why it cannot be skipped; "" where there is none."""
    if site.up is None:
        return ""
    if site.op.definition.composite and without_gate(site.op.definition) is None:
        return "its gate has no operator of its own"
    if any(
        len(value.uses()) != 1 or value.is_graph_output() for value in (site.up, site.node.inputs[0]) if value
    ):
        return "what it gives is read elsewhere, too"
    node = site.up.producer()
    if node is not None and node.op_type == "Add":
        made = [value.producer() for value in node.inputs if value is not None]
        node = next((one for one in made if one is not None and one.op_type == "MatMul"), None)
    reader = (
        linear_reader(work, node) if node is not None and node.op_type in _PRODUCTS else "it is no product"
    )
    if isinstance(reader, str):
        return reader
    x, up, gate = (work.facts.get(value) for value in (reader.node.inputs[0], site.up, site.gate))
    if reader.output is not site.up or (reader.alpha, reader.beta) != (1.0, 1.0):
        return "it is no product and a bias"
    if up.shape is None or up.shape != gate.shape or up.dtype is None or x.dtype != up.dtype != gate.dtype:
        return "its shape is not that of the gate"
    limit = WEIGHT_LIMITS.get(up.dtype.numpy().name, 0.0)
    for constant in filter(None, (reader.weight, reader.bias)):
        if reason := _unbounded(work, constant, limit):
            return reason
    return reader


def _replace(
    work: Workspace, site: _Site, reader: LinearReader, up: LinearReader | str, rows: OpenRows | None
) -> None:
    """Puts the operator in the place of the products, or beside them where the number of rows is open."""
    node, graph, old = site.node, site.node.graph, reader.output
    assert isinstance(graph, ir.Graph)
    b = work.builder(graph)
    below = _rows(work, b, reader, turn=reader.transposed)
    h, gone = node.inputs[0], [old.producer(), node]
    sparse = b if rows is None else work.builder(graph)
    if isinstance(up, str):
        op = PLAIN
        new = sparse.op(op, h, *below, domain=DOMAIN)
    else:
        op, gate = GATED, site.gate
        activation = without_gate(site.op.definition) if site.op.definition.composite else None
        above = _rows(work, b, up, turn=not up.transposed)
        h = gate
        if activation is not None:
            gate = sparse.op(activation.op, gate)
        new = sparse.op(op, up.node.inputs[0], gate, *above, *below, domain=DOMAIN)
        gone += [value.producer() for value in (node.inputs[0], site.up, up.node.outputs[0]) if value]
        gone += reversed(site.op.nodes) if activation is not None else []
    dead = list(dict.fromkeys(one for one in reversed(gone) if one is not None))
    work.declare(function_of_sparse(op, work.version))
    if rows is not None:
        assert h is not None
        new = rows.choice(b, h, (sparse, new), (dead, old))
    work.replace(old, new, b, dead)
    if site.op.node.graph is None:
        work.forget(site.op)


def _rows(work: Workspace, b: Builder, reader: LinearReader, turn: bool) -> list[ir.Value]:
    """A matrix, turned or not, and its bias: a vector, or the number 0."""
    weight, bias = reader.node.inputs[1], reader.bias
    assert weight is not None
    matrix = b.op("Transpose", weight, perm=[1, 0]) if turn else weight
    fact = work.facts.get(weight if bias is None else bias)
    if bias is None:
        assert fact.dtype is not None
        return [matrix, b.filled(0.0, (1,), fact.dtype)]
    if len(fact.shape or ()) > 1:
        bias = b.op("Reshape", bias, b.constant(np.array([-1], np.int64)))
    return [matrix, bias]
