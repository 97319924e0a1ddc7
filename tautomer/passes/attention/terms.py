"""The terms of an attention: its form, its numbers, and the tensors that the operator reads."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from tautomer.graph.build import Builder
from tautomer.passes.attention.masks import REMOVES, ByPosition, MaskReader
from tautomer.passes.workspace import Workspace
from tautomer.patterns.attention.form import AttentionForm, Empty, Mask, visible
from tautomer.patterns.attention.recognise import RecognisedAttention


class Unfit(Exception):
    """Attention that the operator does not have a form for."""


@dataclass(frozen=True)
class _Mask:
    """A mask that has to be read.

    Attributes:
        value: the tensor, in the file.
        keeps: of a boolean one, whether true keeps; None for one that is added.
        fill: of a boolean one, the score of what it removes.
        negative: whether it is subtracted.
    """

    value: ir.Value
    keeps: bool | None = None
    fill: float = -math.inf
    negative: bool = False


class Terms:
    """What the operator of an attention is made of.

    Args:
        work: the model.
        op: attention as it was recognised.
        masks: reads its masks.
        literal: take masks for tensors that are read, whatever they say.

    Attributes:
        form: what the operator computes.
        numbers: those of its attributes.
        after: what the weights of a query are multiplied or divided by, and so its result.

    Raises:
        Unfit: there is no form for it.
    """

    def __init__(self, work: Workspace, op: RecognisedAttention, masks: MaskReader, literal: bool) -> None:
        self._work, self._op, self._masks, self._literal = work, op, masks, literal
        here, there = (op.score_shape(facts) for facts in (work.facts, work.recognition.elsewhere()))
        if here is None or there is None or len(here) != 4:
            raise Unfit("the scores do not have the axes of sequences, heads, queries and keys")
        self._shapes = here, there
        self._by_position = ByPosition(op.causal)
        self._read: list[_Mask] = []
        self._factors: list[tuple[str, ir.Value]] = []
        self.after: list[tuple[str, ir.Value]] = []
        self._sink: ir.Value | None = None
        self._fills: list[float] = [-math.inf] if op.causal else []
        for role, value in op.leaves:
            self._part(role, value)
        self._mask = self._one_mask()
        q, k, _ = op.heads
        weights = op.weights
        self.numbers: dict[str, Any] = {
            "scale": weights.scale * q.factor * k.factor,
            "bias": 0.0 if weights.score == "softmax" else weights.bias,
            "softcap": weights.softcap,
            "window": self._by_position.window,
            "free": self._free(),
        }
        kind: Mask = "" if self._mask is None else "additive" if self._mask.keeps is None else "boolean"
        self.form = AttentionForm(
            score=weights.score,
            mask=kind,
            causal=self._by_position.causal,
            window=self._by_position.window > 0,
            softcap=weights.softcap > 0.0,
            sink=self._sink is not None,
            empty=self._empty(kind),
            power=weights.power,
        )

    def _part(self, role: str, value: ir.Value) -> None:
        """Takes in what one tensor does."""
        if role in ("keeps", "removes"):
            self._boolean(value, role == "keeps", self._op.weights.fill)
        elif role == "zeroes":
            self._zeroes(value)
        elif role == "adds":
            self._added(value)
        elif role == "subtracts":
            self._read.append(_Mask(value, negative=True))
        elif role in ("times", "over"):
            self._factors.append(("Mul" if role == "times" else "Div", value))
        elif role in ("gains", "shares"):
            self._behind("Mul" if role == "gains" else "Div", value)
        elif role == "sink":
            self._sink = value

    def _behind(self, operator: str, value: ir.Value) -> None:
        """A factor of each query's weights is one of its result: (d w) v = d (w v)."""
        found = self._masks.contents(value) if operator == "Div" else None
        if operator == "Div" and (found is None or not all(np.all(x) for x in found)):
            raise Unfit(f"whether '{value.name}', which divides weights, has zeros is not known")
        shape = self._work.facts.get(value).shape
        if shape is None or not _broadcasts(shape, self._shapes[0]):
            raise Unfit(f"'{value.name}', a factor of weights, does not go with the result")
        self.after.append((operator, value))

    def _boolean(self, value: ir.Value, keeps: bool, fill: float) -> None:
        if fill > REMOVES:
            raise Unfit(f"a score of {fill:g} in the place of those of masked keys does not remove them")
        if np.isfinite(fill) and self._op.weights.guarded:
            raise Unfit(f"masked keys have a score of {fill:g}, and weights are guarded against NaN as well")
        if self._masks.nothing(value, self._shapes, keeps):
            return
        contents = None if self._literal else self._masks.contents(value)
        if contents is not None:
            here, there = (np.asarray(x, bool) == keeps for x in contents)
            found = self._masks.by_position(value, (here, there), self._shapes)
            if found is not None and self._place(found, fill):
                return
        self._read.append(_Mask(value, keeps, fill))

    def _zeroes(self, value: ir.Value) -> None:
        """Numbers 0 and 1 that multiply weights before they are summed."""
        if self._op.weights.function.kind == "pointwise":
            raise Unfit(
                f"'{value.name}' multiplies weights by 0, which keeps NaN where a mask removes it: tril or"
                " where in its place do not"
            )
        contents = self._masks.contents(value)
        found = None
        if contents is not None:
            found = self._masks.by_position(value, (contents[0] != 0, contents[1] != 0), self._shapes)
        if found is None or not self._place(found, -math.inf):
            raise Unfit(f"'{value.name}' multiplies weights, and is not a mask by positions")

    def _added(self, value: ir.Value) -> None:
        if self._masks.nothing(value, self._shapes):
            return
        known = None if self._literal else self._masks.additive(value)
        if known is not None:
            found = self._masks.by_position(value, known.allowed, self._shapes)
            if found is not None and self._place(found, known.fill):
                return
        made = None if self._literal else self._masks.condition(value)
        # what is added to a score of -inf leaves it, and what is put in its place does not
        if made is None or np.isfinite(made[2]):
            self._read.append(_Mask(value))
        else:
            self._read.append(_Mask(*made))

    def _place(self, found: ByPosition, fill: float) -> bool:
        """Whether a mask by positions can be one of the form; there is one at most."""
        if self._by_position != ByPosition() or any(shape[-2] > shape[-1] for shape in self._shapes):
            return False
        self._by_position = found
        self._fills.append(fill)
        return True

    def _one_mask(self) -> _Mask | None:
        if len(self._read) > 1:
            names = " and ".join(f"'{mask.value.name}'" for mask in self._read)
            raise Unfit(f"{names} both have to be read, and the operator has one mask")
        read = self._read[0] if self._read else None
        if read is not None and self._op.scores is None:
            raise Unfit(
                "this Attention gives 0 where its mask leaves no key, and keeps what is not a number: no form"
                " does both"
            )
        if read is None or self._by_position == ByPosition() or self._op.weights.function.kind == "pointwise":
            return read
        # a query whose keys are all removed sees the mean of those that were removed by the same number
        if (
            any(np.isfinite(fill) for fill in (*self._fills, read.fill))
            and self._op.weights.function.extra is None
        ):
            raise Unfit(
                "a query without keys would see others than it does: two masks put a number into scores"
            )
        return read

    def _empty(self, kind: Mask) -> Empty:
        """What a query without keys gives."""
        function, weights = self._op.weights.function, self._op.weights
        if weights.guarded:
            if function.kind == "pointwise":
                raise Unfit(
                    "weights that are not a number become 0, which is not done for this score function"
                )
            return "zero"
        finite = kind == "boolean" and self._mask is not None and np.isfinite(self._mask.fill)
        return "mean" if finite and function.kind == "exponential" and function.extra is None else "nan"

    def _free(self) -> int:
        """How many keys a query has to see to have an offset; checks what the graph counts, too."""
        op = self._op
        if op.weights.function.second is None:
            return 0
        form = AttentionForm(causal=self._by_position.causal, window=self._by_position.window > 0)
        counts = [
            visible(form, shape[-2], shape[-1], window=self._by_position.window)[0, 0].sum(-1, keepdims=True)
            for shape in self._shapes
        ]
        columns = {shape[-1] for shape in self._shapes}
        if all(role != "keys" for role, _ in op.leaves) and any(
            len(columns) > 1 or not np.all(count == shape[-1])
            for count, shape in zip(counts, self._shapes, strict=True)
        ):
            raise Unfit("the second weight takes the number of keys for one that not every query has")
        free = 0
        for role, value in op.leaves:
            if role not in ("keys", "offset"):
                continue
            found = self._masks.contents(value)
            if found is None:
                raise Unfit(f"what '{value.name}' holds, which the second weight depends on, is not known")
            if role == "offset":
                free = int(np.sum(np.asarray(found[0]).reshape(-1) == 0.0))
            wanted = [count if role == "keys" else count > free for count in counts]
            for x, y in zip(found, wanted, strict=True):
                if not np.array_equal(np.broadcast_to(np.asarray(x, np.float64), y.shape), y):
                    raise Unfit(f"'{value.name}' does not hold how many keys each query sees")
        return free

    def operands(self, builder: Builder, kind: ir.DataType | None) -> tuple[list[ir.Value], str]:
        """The operator's inputs, and how the axes of q, k and v lie; writes what has to be computed for them.

        Args:
            builder: where to.
            kind: the element type of q.

        Raises:
            Unfit: an input has another type.
        """
        work, op = self._work, self._op
        q, k, v = op.heads
        left = q.value
        letters = [q.layout, k.layout, v.layout]
        if v.factor != 1.0:
            raise Unfit("v is multiplied by a number")
        for value in (q.value, k.value, v.value):
            if work.facts.get(value).dtype != kind:
                raise Unfit(f"'{value.name}' has another element type than the result")
        if self._factors and q.layout != "h":
            left, letters[0] = op.left, "h"
            self.numbers["scale"] /= q.factor
        left = work.now(left)
        for operator, value in self._factors:
            if work.facts.get(value).dtype != kind:
                raise Unfit(f"'{value.name}', a factor of scores, has another element type than q")
            left = builder.op(operator, left, work.now(value))
        inputs = [left, work.now(k.value), work.now(v.value)]
        if self._mask is not None:
            inputs.append(self._mask_operand(builder, kind))
        if self._sink is not None:
            inputs.append(self._sink_operand(builder))
        return inputs, "".join(letters)

    def _mask_operand(self, builder: Builder, kind: ir.DataType | None) -> ir.Value:
        mask = self._mask
        assert mask is not None
        value, fact = self._work.now(mask.value), self._work.facts.get(mask.value)
        if fact.shape is None or len(fact.shape) > 4 or not _broadcasts(fact.shape, self._shapes[0]):
            raise Unfit(f"the mask '{mask.value.name}' does not have a shape that goes with the scores")
        if mask.keeps is not None:
            return value if mask.keeps else builder.op("Not", value)
        value = builder.op("Neg", value) if mask.negative else value
        return value if fact.dtype == kind else builder.op("Cast", value, to=int(kind or 0))

    def _sink_operand(self, builder: Builder) -> ir.Value:
        """One number per head in float32: where the sinks were before they were spread over queries."""
        sink = self._sink
        assert sink is not None
        heads = self._shapes[0][1]
        value: ir.Value | None = sink
        while value is not None:
            fact = self._work.facts.get(value)
            if (
                fact.shape is not None
                and fact.size == heads
                and all(size in (1, heads) for size in fact.shape)
            ):
                flat = (
                    value
                    if len(fact.shape) == 1
                    else builder.op("Reshape", self._work.now(value), builder.constant(np.array([-1])))
                )
                return (
                    flat
                    if fact.dtype == ir.DataType.FLOAT
                    else builder.op("Cast", flat, to=int(ir.DataType.FLOAT))
                )
            node = value.producer()
            if node is None or node.op_type not in ("Expand", "Reshape", "Unsqueeze", "Cast", "Identity"):
                break
            value = node.inputs[0]
        if _is_one_per_head(sink, heads):
            start, end, axes = (builder.constant(np.array(each)) for each in ([0, 0], [1, 1], [0, 2]))
            first = builder.op("Slice", sink, start, end, axes)
            flat = builder.op("Reshape", first, builder.constant(np.array([-1])))
            same = self._work.facts.get(sink).dtype == ir.DataType.FLOAT
            return flat if same else builder.op("Cast", flat, to=int(ir.DataType.FLOAT))
        raise Unfit(f"'{sink.name}' is not one score per head")


def _is_one_per_head(sink: ir.Value, heads: int) -> bool:
    """Whether a stored [batch, heads, queries, 1] is sinks that the exporter spread over queries itself."""
    tensor = sink.const_value
    if tensor is None or len(tensor.shape) != 4 or tuple(tensor.shape.numpy()[1::2]) != (heads, 1):
        return False
    array = tensor.numpy()
    return bool(np.all(array == array[:1, :, :1]))


def _broadcasts(shape: tuple[int, ...], onto: tuple[int, ...]) -> bool:
    padded = (1,) * (len(onto) - len(shape)) + tuple(shape)
    return all(a in (1, b) for a, b in zip(padded, onto, strict=True))
