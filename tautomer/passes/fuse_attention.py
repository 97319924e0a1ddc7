"""fuse attention: y = f(q k^T * scale + masks) v  ->  one operator that never holds the scores.

    y = tautomer.ScoreAttention_<form>(q, k, v, the tensors that the form has)

Condition: the score function, its numbers and what masks say were confirmed by evaluation; the operator has
this form for the model's opset and element type; nothing else reads the scores; and a kernel gains at this
number of keys. Transposes around it become the order of axes in which it reads and writes; repeated heads of
keys and values are read where they are. What multiplies the scores of a query is multiplied into q before.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import onnx_ir as ir

from tautomer.errors import InputError
from tautomer.graph.naming import label
from tautomer.passes.attention.masks import MaskReader
from tautomer.passes.attention.operands import operands
from tautomer.passes.attention.terms import Terms, Unfit
from tautomer.passes.workspace import Workspace
from tautomer.patterns.attention.body import function_of_attention, obstacle
from tautomer.patterns.attention.operators import AttentionOperator
from tautomer.patterns.attention.recognise import RecognisedAttention
from tautomer.patterns.onnx_body import DOMAIN
from tautomer.remarks import Remark
from tautomer.target import OF_THE_RUNTIME, Target

_TURNED = [0, 2, 1, 3]
_OF_ITS_OWN = "this Attention has a cache, other results than y, or operands of three axes"


class Kernels(Protocol):
    """What runs the operator, where not every form of it runs everywhere."""

    def refuses(
        self, op: RecognisedAttention, operator: AttentionOperator, inputs: Sequence[ir.Value]
    ) -> str:
        """Why the operator cannot take the place of an attention, or "".

        Args:
            op: attention as it was recognised.
            operator: what would take its place.
            inputs: what that would read.
        """


@dataclass(frozen=True)
class FuseAttention:
    """Rewrites attention in the main graph.

    Attributes:
        target: for which score functions it has kernels, and from how many keys on they gain.
        kernels: asked which forms run; None where all do.
    """

    name: ClassVar[str] = "fuse attention"
    target: Target
    kernels: Kernels | None = None

    def __call__(self, work: Workspace) -> list[Remark]:
        """Rewrites in place; returns a remark for each attention."""
        if not self.target.attention:
            return []
        found = work.operations("ScoreAttention")
        if not found:
            return []
        masks, remarks = MaskReader(work.recognition), []
        for op in found:
            if not isinstance(op, RecognisedAttention):
                remarks.append(Remark("missed", self.name, op.op, label(op.node), _OF_ITS_OWN))
                continue
            reason = self._short(work, op)
            # what a mask says may differ from it in a corner, such as scores of -inf: then it is read
            for literal in (False, True) if not reason else ():
                try:
                    remarks.append(_Fusion(work, op, masks, literal, self.kernels).rewrite())
                    break
                except (Unfit, InputError) as error:
                    reason = reason or str(error)
            else:
                remarks.append(Remark("missed", self.name, op.op, label(op.node), reason))
        work.catch_up()
        return remarks

    def _short(self, work: Workspace, op: RecognisedAttention) -> str:
        """Why a kernel would not gain, or ""."""
        shape, elsewhere = (op.score_shape(facts) for facts in (work.facts, work.recognition.elsewhere()))
        native = op.scores is None and OF_THE_RUNTIME in self.target.attention
        what = OF_THE_RUNTIME if native else op.weights.score
        measured = self.target.attention.get(what, ())
        if not measured:
            return (
                f"no kernel for the score function {op.weights.score} is known to gain on {self.target.name}"
            )
        if shape is None or elsewhere is None:
            return "the shape of the scores is not known"
        # of a number of keys that varies the large ones count: where there are few, attention is a small part
        # of what a model does
        keys = shape[-1] if shape[-1] == elsewhere[-1] else max(keys for keys, _ in measured)
        gain = self.target.attention_gain(what, keys)
        if gain is None or gain <= 1.0:
            return f"at {keys} keys the runtime's own operators take {gain:g} of the time of a kernel"
        return ""


class _Fusion:
    """One rewrite.

    Args:
        work: the model.
        op: attention as it was recognised.
        masks: reads its masks.
        literal: take masks for tensors that are read, whatever they say.
        kernels: asked whether the operator runs.
    """

    def __init__(
        self,
        work: Workspace,
        op: RecognisedAttention,
        masks: MaskReader,
        literal: bool,
        kernels: Kernels | None,
    ) -> None:
        self.work, self.op, self.kernels = work, op, kernels
        self.terms = Terms(work, op, masks, literal)

    def rewrite(self) -> Remark:
        """Puts the operator in its place.

        Raises:
            Unfit: the operator does not have this form.
        """
        work, op, terms = self.work, self.op, self.terms
        old, layout = self._result()
        kind = work.facts.get(old).dtype
        reason = obstacle(work.version, kind)
        if reason:
            raise Unfit(reason)
        assert isinstance(op.node.graph, ir.Graph)
        builder = work.builder(op.node.graph)
        try:
            inputs, layouts = operands(work, terms, builder, kind)
            operator = AttentionOperator(terms.form, layouts + layout)
            reason = "" if self.kernels is None else self.kernels.refuses(op, operator, inputs)
            if reason:
                raise Unfit(reason)
            numbers = {name: terms.numbers[name] for name in operator.attributes}
            new = builder.op(operator.name, *inputs, domain=DOMAIN, **numbers)
            if op.weights.factor != 1.0:
                assert kind is not None
                new = builder.op("Mul", new, builder.scalar(op.weights.factor, kind))
            for name, value in terms.after:
                if work.facts.get(value).dtype != kind:
                    raise Unfit(f"'{value.name}', a factor of weights, has another element type than q")
                new = builder.op(name, new, work.now(value))
            work.declare(function_of_attention(operator, work.version))
            shapes = tuple(work.facts.get(value).shape for value in inputs)
            key = (operator.name, tuple(numbers.items()), op.weights, op.key, shapes)
            refusal = work.evidence.refuses(key, old, new, work.leaves(inputs))
            if refusal:
                raise Unfit(refusal)
        except (Unfit, InputError):
            builder.discard()
            raise
        moved = math.prod(op.score_shape(work.facts) or ())
        work.replace(old, new, builder, self._gone(old))
        done = f"{len(op.nodes)} nodes became one, which stores no scores (here {moved} of them)"
        return Remark("passed", FuseAttention.name, op.op, builder.nodes[-1].name or "", done)

    def _result(self) -> tuple[ir.Value, str]:
        """What the operator gives, behind casts and a transpose that only it has, and how its axes lie.

        Raises:
            Unfit: something reads the scores or weights.
        """
        work, op = self.work, self.op
        inside = {id(node) for node in op.inner}
        for node in op.inner[:-1]:
            for value in node.outputs:
                readers = [user for user, _ in value.uses() if id(user) not in inside]
                if value.is_graph_output() or readers:
                    reader = f"'{label(readers[0])}' reads" if readers else "an output of the model is"
                    raise Unfit(f"{reader} what node '{label(node)}' ({node.op_type}) computes on the way")
        y, layout = op.output, "h"
        wanted = work.facts.get(op.heads[0].value).dtype
        while not y.is_graph_output() and len(users := {id(u): u for u, _ in y.uses()}) == 1:
            (user,) = users.values()
            turned = user.attributes.get_ints("perm", []) if user.op_type == "Transpose" else None
            if (
                user.op_type == "Cast"
                and work.facts.get(y).dtype != wanted == work.facts.get(user.outputs[0]).dtype
            ):
                y = user.outputs[0]
            elif (
                turned is not None
                and list(turned) == _TURNED
                and layout == "h"
                and not self.terms.after
                and user.graph is op.node.graph
            ):
                y, layout = user.outputs[0], "n"
            else:
                break
        if work.facts.get(y).dtype != wanted:
            raise Unfit("its result has another type than q")
        return y, layout

    def _gone(self, old: ir.Value) -> list[ir.Node]:
        """The nodes that nothing needs any more, in their order."""
        tail: list[ir.Node] = []
        node = old.producer()
        while node is not None and node is not self.op.node:
            tail.insert(0, node)
            node = node.inputs[0].producer() if node.inputs[0] is not None else None
        return [*self.op.nodes, *tail]
