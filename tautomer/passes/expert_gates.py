"""expert gates: softmax, the k largest and their share  ->  one operator of the domain `tautomer`.

    p = softmax(x);  v, i = topk(p);  w = v / sum(v)    ->  w, i = ExpertGate_shares(x, k)
    p = softmax(x);  w, i = topk(p)                     ->  w, i = ExpertGate_probabilities(x, k)
    u, i = topk(x);  w = softmax(u)                     ->  w, i = ExpertGate_logits(x, k)

The function of the operator is what stood there. Its kernel compares rounded probabilities, as the graph
does: of those that are equal after rounding the first is chosen, and scores that differ by a rounding come in
either order. Condition: nobody else reads p, v or u; the largest are wanted, in order; how many experts there
are is known, at most 512, and few are chosen: each is compared with all that were chosen before it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from tautomer.graph.call import call_of
from tautomer.graph.dead_code import remove_dead
from tautomer.graph.naming import label
from tautomer.passes.gate_sites import (
    choices_of,
    obstacle,
    read_elsewhere,
    share_of,
    softmax_before,
    softmax_behind,
)
from tautomer.passes.workspace import Workspace
from tautomer.patterns.expert_gate import (
    FAMILY,
    LOGITS,
    MOST_CHOSEN,
    MOST_EXPERTS,
    PROBABILITIES,
    SHARES,
    function_of_gate,
)
from tautomer.patterns.onnx_body import DOMAIN
from tautomer.remarks import Remark
from tautomer.target import Target


@dataclass(frozen=True)
class ExpertGates:
    """Makes gates one operator each.

    Attributes:
        target: whether it has a kernel for that, and from which size on it gains.
        refuses: says of the scores of a gate why no kernel runs it, or ""; None where all do.
    """

    name: ClassVar[str] = "expert gates"
    target: Target
    refuses: Callable[[ir.Value], str] | None = None

    def __call__(self, work: Workspace) -> list[Remark]:
        """Rewrites in place; returns a remark for each gate."""
        if FAMILY not in self.target.gains:
            return []
        remarks = []
        for node in choices_of(work):
            gate = _gate_at(work, node)
            if gate is None:
                continue
            where = label(node)
            reason = _misfit(work, gate, self.target)
            reason = reason or (self.refuses(gate.x) if self.refuses else "") or _rewrite(work, gate)
            if reason:
                remarks.append(Remark("missed", self.name, gate.op, where, reason))
            else:
                done = f"{len(gate.nodes)} nodes became one {DOMAIN}.{gate.op}"
                remarks.append(Remark("passed", self.name, gate.op, where, done))
        return remarks


@dataclass(frozen=True)
class _Gate:
    """A gate in a graph.

    Attributes:
        op: the operator that it is.
        topk: the node that chooses.
        x: the scores.
        weights: what carries the result.
        nodes: all that it is made of, producers first.
    """

    op: str
    topk: ir.Node
    x: ir.Value
    weights: ir.Value
    nodes: Sequence[ir.Node]


def _gate_at(work: Workspace, topk: ir.Node) -> _Gate | None:
    """The gate around a choice; None where there is no softmax."""
    before = softmax_before(work, topk)
    if before is not None:
        x, softmax = before
        share = share_of(work, topk)
        if isinstance(share, str):
            return _Gate(PROBABILITIES, topk, x, topk.outputs[0], [*softmax, topk])
        return _Gate(SHARES, topk, x, share[1].outputs[0], [*softmax, topk, *share])
    behind, scores = softmax_behind(work, topk), topk.inputs[0]
    assert scores is not None
    return _Gate(LOGITS, topk, scores, behind[-1].outputs[0], [topk, *behind]) if behind else None


def _misfit(work: Workspace, gate: _Gate, target: Target) -> str:
    """Why a gate stays as it is, or ""."""
    topk, fact = gate.topk, work.facts.get(gate.x)
    if reason := obstacle(work, topk) or (gate.op != LOGITS and read_elsewhere(topk)) or "":
        return reason
    if not call_of(topk, work.version).get("sorted", 1):
        return "the order of the chosen is left open"
    if fact.shape is None or fact.dtype != ir.DataType.FLOAT:
        return "its shape is not known, or its type is not FLOAT"
    fixed = [work.recognition.static(work.origin(gate.x), (axis,)) for axis in range(len(fact.shape))]
    experts, k = fact.shape[-1], work.facts.get(topk.inputs[1]).array
    if not fixed[-1] or k is None:
        return "how many experts there are, or are chosen, is not known"
    if experts > MOST_EXPERTS:
        return f"it chooses among {experts}: the kernel keeps rows of up to {MOST_EXPERTS}"
    chosen = int(np.asarray(k).reshape(()))
    if not 0 < chosen <= min(experts, MOST_CHOSEN):
        return f"it chooses {chosen} of {experts}: the kernel is for up to {MOST_CHOSEN}"
    elements = prod(size for size, is_fixed in zip(fact.shape, fixed, strict=True) if is_fixed)
    gain = target.gain(FAMILY, elements)
    if gain is not None and gain < 1.0:
        return f"the runtime's own kernels take {gain:g} of the time of ours at {elements} elements"
    return ""


def _rewrite(work: Workspace, gate: _Gate) -> str:
    """Rewrites a gate; the reason why not, or ""."""
    graph, topk = gate.topk.graph, gate.topk
    assert isinstance(graph, ir.Graph)
    b = work.builder(graph)
    weights, experts = b.several(gate.op, 2, gate.x, topk.inputs[1], domain=DOMAIN)
    function = function_of_gate(gate.op, work.version)
    if not work.declare(function):
        b.discard()
        return "the file has another function under its name"
    leaves = work.leaves([gate.x])
    key = (gate.op, work.facts.get(gate.x).shape, work.facts.get(topk.outputs[0]).shape)
    reason = work.evidence.refuses((*key, "weights"), gate.weights, weights, leaves)
    reason = reason or work.evidence.refuses((*key, "experts"), topk.outputs[1], experts, leaves, linear=True)
    if reason:
        b.discard()
        return reason
    work.place(b, topk)
    work.supersede(topk.outputs[1], experts)
    work.supersede(gate.weights, weights)
    remove_dead(reversed(gate.nodes))
    work.catch_up()
    return ""
