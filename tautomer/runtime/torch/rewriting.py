"""Rewriting a torch graph: read, recognise, rewrite, write back, compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch

from tautomer.graph.fx.reader import read_fx
from tautomer.graph.fx.table import Writing
from tautomer.graph.fx.writer import Unwritable, Written, write_fx
from tautomer.passes.pipeline import Choices, Weights, rewrite
from tautomer.patterns.recognition.readings import Mode
from tautomer.patterns.recognition.recognise import recognise
from tautomer.remarks import Remark
from tautomer.runtime.evidence import Trust
from tautomer.runtime.torch.attention_use import AttentionUse, differentiated, writing_of_attention
from tautomer.runtime.torch.compat import enable_python_dispatcher
from tautomer.runtime.torch.evidence import TorchWitness
from tautomer.runtime.torch.exact_legs import exact_legs
from tautomer.runtime.torch.gate_use import GateUse, writing_of_gate
from tautomer.runtime.torch.local_errors import local_errors
from tautomer.target import Target, torch_target_of

WeightMode = Literal["graph", "prologue", "fold"]
_WEIGHTS: dict[WeightMode, Weights] = {"graph": "every run", "prologue": "prologue", "fold": "ahead"}
AS_A_RULE = Choices()


@dataclass(frozen=True)
class Rewritten:
    """What became of a graph.

    Attributes:
        module: a new graph module, or the very one that was given when nothing changed.
        remarks: what was done and what was not, with reasons.
        changed: whether anything was done.
        verification: the evidence, in words.
    """

    module: torch.fx.GraphModule
    remarks: list[Remark]
    changed: bool
    verification: dict[str, Any] = field(default_factory=dict)


def rewrite_graph(
    gm: torch.fx.GraphModule,
    values: Sequence[Any],
    *,
    weights: WeightMode = "graph",
    asked: Choices = AS_A_RULE,
    target: str | Target = "inductor",
    verify: bool = True,
    whole: bool = True,
    constants: Mode = "exact",
) -> Rewritten:
    """Rewrites a pre-dispatch ATen graph into the form that the target runs fastest.

    The same graph gives the same graph, name by name.

    Args:
        gm: the graph, with `meta["val"]` on its nodes; it is not changed.
        values: what its placeholders get, in their order. Those that are parameters are constants of the
            graph. Fake ones are allowed; they are replaced by random numbers where numbers are needed.
        weights: how new weights come about. "fold": computed now, in float64, and stored; for graphs that own
            their parameters. "graph": nodes of the graph on the old ones, in every run: gradients flow, and
            updates are seen; norms are recentred where that is asked for. "prologue": the same nodes, for
            callers who compute what depends on parameters alone once.
        asked: what the user wants of rewrites that are not everybody's; how weights come about is not read.
        target: "inductor" or "torch".
        verify: False does without evidence.
        whole: False does without running the whole graph for it, and asks each site alone.
        constants: as for `tautomer.inspect`.

    Raises:
        InputError: there is no such target.
    """
    wanted = torch_target_of(target)

    def attempt(sites_only: bool, withheld: Mapping[str, str]) -> Rewritten | _Failed:
        chosen = replace(asked, sites_only=sites_only, weights=_WEIGHTS[weights])
        return _attempt(gm, values, wanted, chosen, verify, whole, constants, withheld)

    first = attempt(False, {})
    if isinstance(first, Rewritten):
        return first
    # rewrites of sites alone may be right where one of whole streams is not
    sites = attempt(True, {})
    if isinstance(sites, _Failed) and sites.culprits:
        withheld = sites.culprits
        first = attempt(False, withheld)
        if isinstance(first, Rewritten):
            return first
        sites = attempt(True, withheld)
    if isinstance(sites, Rewritten):
        reason = f"rewrites that the whole graph must vouch for were taken back: {first.reason}"
        taken_back = Remark("missed", "recentre", "LayerNormalization", "", reason)
        return replace(sites, remarks=[*sites.remarks, taken_back])
    reason = f"every rewrite was taken back: {sites.reason}"
    return Rewritten(gm, [Remark("missed", "write", "graph", "", reason)], False)


def _writing(domain: str, op_type: str) -> Writing | None:
    """How an operator of ours is written, or None."""
    return writing_of_attention(domain, op_type) or writing_of_gate(domain, op_type)


@dataclass(frozen=True)
class _Failed:
    """Why a rewritten graph cannot be had or is not the same function, and the sites that are at fault."""

    reason: str
    culprits: Mapping[str, str] = field(default_factory=dict)


def _attempt(
    gm: torch.fx.GraphModule,
    values: Sequence[Any],
    target: Target,
    choices: Choices,
    verify: bool,
    whole: bool,
    constants: Mode,
    withheld: Mapping[str, str],
) -> Rewritten | _Failed:
    """The rewritten graph; values that are withheld, with the reason, are left as they are."""
    placeholders = [node for node in gm.graph.nodes if node.op == "placeholder"]
    parameters = {
        node.name: held
        for node, held in zip(placeholders, values, strict=True)
        if isinstance(held, torch.nn.Parameter)
    }
    fx = read_fx(gm, constants=parameters, stored=choices.weights == "ahead", values=values)
    recognition = recognise(fx.model, constants=constants)
    evidence = TorchWitness(fx, values, withheld) if verify else Trust()
    # whoever folds weights wants no gradients
    trained = differentiated(fx.module, () if choices.weights == "ahead" else values)
    uses = replace(choices, attention=AttentionUse(fx, trained), gates=GateUse(fx, trained).refuses)
    done = rewrite(fx.model, recognition, target, evidence, uses)
    declined = [
        Remark("missed", "read", str(node.target), node.name, fx.declined[node.name])
        for node in gm.graph.nodes
        if node.name in fx.declined
    ]
    remarks = [*declined, *recognition.remarks, *done.remarks]
    if not any(remark.kind == "passed" for remark in remarks):
        return Rewritten(gm, remarks, False, {"verdict": "EQUAL", "reason": "nothing was rewritten"})
    origins = {
        name: expression.sources[0] for name, expression in done.expressions.items() if expression.sources
    }
    try:
        with enable_python_dispatcher():  # torch 2.11 has no shapes of products of open size without it
            written: Written = write_fx(fx, origins=origins, ours=_writing)
    except Unwritable as error:
        return _Failed(str(error))
    if isinstance(evidence, Trust):
        return Rewritten(written.module, remarks, True, {"verdict": "NOT VERIFIED", "reason": "switched off"})
    differs = evidence.differs(written, done.centred) if whole else ""
    if differs:
        return _Failed(differs, local_errors(gm, written, values) if choices.sites_only else {})
    but = f" but {evidence.skipped} that were too large" if evidence.skipped else ""
    reason = f"each site{but} in exact arithmetic"
    if whole:
        reason += "; the whole by the numeric criterion on the example values"
    legs: dict[str, Any] = {}
    if choices.weights == "ahead":
        original = read_fx(gm, constants=parameters, values=values)
        found = exact_legs(original, fx, values, done.expressions)
        failed = next((name for name, leg in found.items() if leg.passed is False), None)
        if failed is not None:
            return _Failed(f"{failed}: {found[failed].detail.get('reason', 'the graphs differ')}")
        legs = {"legs": {name: leg.as_json() for name, leg in found.items()}}
    return Rewritten(written.module, remarks, True, {"verdict": "EQUAL", "reason": reason, **legs})
