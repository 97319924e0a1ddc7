"""raise: a recognised sub-graph  ->  the operation it computes, in the form that the target runs fastest.

Condition: the definition was confirmed, the form exists for the model's opset and element type, and more
kernels go than come. What the sub-graph computed for others stays.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

import onnx_ir as ir

from tautomer.graph.naming import label
from tautomer.graph.same_expression import same_expression
from tautomer.passes.operands import operands_of
from tautomer.passes.operation_forms import Choice, Site, choose, write
from tautomer.passes.spellings import SPELLINGS
from tautomer.passes.workspace import Workspace
from tautomer.patterns.onnx_body import DOMAIN, function_of
from tautomer.patterns.recognition.recognised import Recognised
from tautomer.remarks import Remark
from tautomer.target import Target


@dataclass(frozen=True)
class Raise:
    """Rewrites recognised operations.

    Attributes:
        target: decides which forms are wanted.
    """

    name: ClassVar[str] = "raise"
    target: Target

    def __call__(self, work: Workspace) -> list[Remark]:
        """Rewrites in place; returns a remark for each operation that was rewritten or kept.

        A rewrite that the evidence refuses is taken back, and the rest goes on.
        """
        rewriting = _Rewriting(work, self.target)
        # what stands on other operations comes first: a kernel of its own takes them with it; but joins of
        # residual streams wait until these were centred, see `join_norms`
        composites = [
            op
            for op in work.recognition.operations
            if op.op in self.target.gains and _is_overlay(op) and "residual" not in op.definition.operands
        ]
        simple = [op for op in work.recognition.operations if not _is_overlay(op)]
        remarks = [rewriting.visit(op) for op in (*composites, *simple)]
        work.recognition.operations = [rewriting.current(op) for op in work.recognition.operations]
        return [remark for remark in remarks if remark is not None]


def _is_overlay(op: Recognised) -> bool:
    """Composites stand on operations that are visited themselves; they wait for a kernel of their own."""
    return op.definition.composite or op.op == "ScoreAttention"


@dataclass
class _Rewriting:
    work: Workspace
    target: Target
    raised: dict[Recognised, Recognised] = field(default_factory=dict)

    def current(self, op: Recognised) -> Recognised:
        """The operation in terms of the values that the graph has now."""
        op = self.raised.get(op, op)
        inputs = tuple(None if value is None else self.work.now(value) for value in op.inputs)
        return replace(op, inputs=inputs, output=self.work.now(op.output))

    def visit(self, op: Recognised) -> Remark | None:
        """Rewrites one operation, or says why not; None when it already has the best form."""
        facts = self.work.facts
        assert op.inputs[0] is not None
        fact = facts.get(op.output)
        source = facts.get(op.inputs[0])
        ours = op.op in self.target.gains and op.node.domain != DOMAIN
        if op.node.graph is None or source.shape is None or (len(op.nodes) == 1 and not ours):
            return None
        site = Site.at(self.work, op, fact.dtype or source.dtype, self.target)
        choice = choose(site)
        if len(op.nodes) == 1 and choice.form != "function":
            return _missed(op, choice)
        ours = ours and choice.form == "function"
        if choice.form == "keep":
            return _missed(op, choice)
        if op.special:
            return _missed(op, Choice("keep", reason=op.special))
        gone, reader = what_goes(op)
        if gone <= choice.kernels and choice.form != "spelled" and not (ours and reader is None):
            reason = "it is written in as few kernels already"
            if reader is not None:
                reason = f"what it computes on the way is read elsewhere, by '{label(reader)}' first"
            return _missed(op, Choice("keep", reason=reason))
        return self._rewrite(op, site, choice)

    def _rewrite(self, op: Recognised, site: Site, choice: Choice) -> Remark | None:
        builder = self.work.builder(op.graph)
        assert site.dtype is not None
        optional = choice.form == "named"
        inputs = operands_of(self.work, op, site.dtype, builder, bias_is_optional=optional)
        if isinstance(inputs, str):
            builder.discard()
            return _missed(op, Choice("keep", reason=inputs))
        held = {number: self.work.now(value) for number, value in op.numbers.items()}
        result = write(choice.form, replace(op, numbers=held), inputs, site.dtype, site.rank, builder)
        written_out = choice.form == "spelled" and op.op not in SPELLINGS
        if written_out and sum(node.op_type != "Constant" for node in builder.nodes) >= len(op.nodes):
            builder.discard()
            return _missed(op, Choice("keep", reason="it is written in as few operations already"))
        if same_expression(result, op.output):
            builder.discard()
            return None
        refusal = self.work.evidence.refuses((op.key, choice.form), op.output, result, self._leaves(op))
        if refusal:
            builder.discard()
            return _missed(
                op, Choice("keep", reason=refusal, hint="this rewrite was taken back; please report it")
            )
        if choice.form == "function" and not self.work.declare(function_of(op.definition, self.work.version)):
            builder.discard()
            return _missed(op, Choice("keep", reason="the file has another variant of it under its name"))
        many = "1 node" if len(op.nodes) == 1 else f"{len(op.nodes)} nodes"
        self.work.replace(op.output, result, builder, op.nodes)
        self.raised[op] = replace(
            op, inputs=tuple(inputs), output=result, nodes=tuple(builder.nodes), factors={}
        )
        if written_out:
            return Remark(
                "passed",
                Raise.name,
                op.op,
                builder.nodes[-1].name or "",
                f"{many} became {len(builder.nodes)}: its definition, written out",
            )
        what = {"named": f"one {op.op}", "function": f"one {DOMAIN}.{op.op}"}.get(
            choice.form, f"the spelling of {op.op} that the runtime fuses"
        )
        return Remark("passed", Raise.name, op.op, builder.nodes[-1].name or "", f"{many} became {what}")

    def _leaves(self, op: Recognised) -> dict[ir.Value, ir.Value]:
        """What the operation varies with: its inputs as they are now, and as they were recognised."""
        return {self.work.now(v): v for v in op.inputs if v is not None and v.const_value is None}


def what_goes(op: Recognised) -> tuple[int, ir.Node | None]:
    """How many nodes go once the operation is rewritten, and the first reader that keeps one."""
    dead = {id(op.node)}
    reader: ir.Node | None = None
    for node in reversed(op.nodes[:-1]):
        keeping = [user for value in node.outputs for user, _ in value.uses() if id(user) not in dead]
        if keeping or any(value.is_graph_output() for value in node.outputs):
            reader = keeping[0] if keeping else node
        else:
            dead.add(id(node))
    return len(dead), reader


def _missed(op: Recognised, choice: Choice) -> Remark:
    return Remark("missed", Raise.name, op.op, label(op.node), choice.reason, choice.hint)
