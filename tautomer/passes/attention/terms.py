"""The terms of an attention, as far as the operator has them: its form, its numbers, and its tensors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from tautomer.passes.attention.masks import REMOVES, ByPosition, MaskReader
from tautomer.passes.workspace import Workspace
from tautomer.patterns.attention.form import AttentionForm, Empty, Mask, visible
from tautomer.patterns.attention.recognise import RecognisedAttention


class Unfit(Exception):
    """Attention that the operator does not have a form for."""


@dataclass(frozen=True)
class MaskTerm:
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
        factors: what the scores of a query are multiplied or divided by, with the operator that does it.
        mask: the one that is read, if any.
        sink: the score of a key without a value, if there is one.
        shapes: of the scores, at two sizes.

    Raises:
        Unfit: there is no form for it.
    """

    def __init__(self, work: Workspace, op: RecognisedAttention, masks: MaskReader, literal: bool) -> None:
        self._work, self.op, self._masks, self._literal = work, op, masks, literal
        here, there = (op.score_shape(facts) for facts in (work.facts, work.recognition.elsewhere()))
        if here is None or there is None or len(here) != 4:
            raise Unfit("the scores do not have the axes of sequences, heads, queries and keys")
        self.shapes = here, there
        self._by_position = ByPosition(op.causal)
        self._read: list[MaskTerm] = []
        self.factors: list[tuple[str, ir.Value]] = []
        self.after: list[tuple[str, ir.Value]] = []
        self.sink: ir.Value | None = None
        self._fills: list[float] = [-math.inf] if op.causal else []
        for role, value in op.leaves:
            self._part(role, value)
        self.mask = self._one_mask()
        q, k, _ = op.heads
        weights = op.weights
        self.numbers: dict[str, Any] = {
            "scale": weights.scale * q.factor * k.factor,
            "bias": 0.0 if weights.score == "softmax" else weights.bias,
            "softcap": weights.softcap,
            "window": self._by_position.window,
            "free": self._free(),
        }
        kind: Mask = "" if self.mask is None else "additive" if self.mask.keeps is None else "boolean"
        self.form = AttentionForm(
            score=weights.score,
            mask=kind,
            causal=self._by_position.causal,
            window=self._by_position.window > 0,
            softcap=weights.softcap > 0.0,
            sink=self.sink is not None,
            empty=self._empty(kind),
            power=weights.power,
        )

    def _part(self, role: str, value: ir.Value) -> None:
        """Takes in what one tensor does."""
        if role in ("keeps", "removes"):
            self._boolean(value, role == "keeps", self.op.weights.fill)
        elif role == "zeroes":
            self._zeroes(value)
        elif role == "adds":
            self._added(value)
        elif role == "subtracts":
            self._read.append(MaskTerm(value, negative=True))
        elif role in ("times", "over"):
            self.factors.append(("Mul" if role == "times" else "Div", value))
        elif role in ("gains", "shares"):
            self._behind("Mul" if role == "gains" else "Div", value)
        elif role == "sink":
            self.sink = value

    def _behind(self, operator: str, value: ir.Value) -> None:
        """A factor of each query's weights is one of its result: (d w) v = d (w v)."""
        found = self._masks.contents(value) if operator == "Div" else None
        if operator == "Div" and (found is None or not all(np.all(x) for x in found)):
            raise Unfit(f"whether '{value.name}', which divides weights, has zeros is not known")
        shape = self._work.facts.get(value).shape
        if shape is None or not broadcasts(shape, self.shapes[0]):
            raise Unfit(f"'{value.name}', a factor of weights, does not go with the result")
        self.after.append((operator, value))

    def _boolean(self, value: ir.Value, keeps: bool, fill: float) -> None:
        if fill > REMOVES:
            raise Unfit(f"a score of {fill:g} in the place of those of masked keys does not remove them")
        if np.isfinite(fill) and self.op.weights.guarded:
            raise Unfit(f"masked keys have a score of {fill:g}, and weights are guarded against NaN as well")
        if self._masks.nothing(value, self.shapes, keeps):
            return
        contents = None if self._literal else self._masks.contents(value)
        if contents is not None:
            here, there = (np.asarray(x, bool) == keeps for x in contents)
            found = self._masks.by_position(value, (here, there), self.shapes)
            if found is not None and self._place(found, fill):
                return
        self._read.append(MaskTerm(value, keeps, fill))

    def _zeroes(self, value: ir.Value) -> None:
        """Numbers 0 and 1 that multiply weights before they are summed."""
        if self.op.weights.function.kind == "pointwise":
            raise Unfit(
                f"'{value.name}' multiplies weights by 0, which keeps NaN where a mask removes it: tril or"
                " where in its place do not"
            )
        contents = self._masks.contents(value)
        found = None
        if contents is not None:
            found = self._masks.by_position(value, (contents[0] != 0, contents[1] != 0), self.shapes)
        if found is None or not self._place(found, -math.inf):
            raise Unfit(f"'{value.name}' multiplies weights, and is not a mask by positions")

    def _added(self, value: ir.Value) -> None:
        if self._masks.nothing(value, self.shapes):
            return
        known = None if self._literal else self._masks.additive(value)
        if known is not None:
            found = self._masks.by_position(value, known.allowed, self.shapes)
            if found is not None and self._place(found, known.fill):
                return
        made = None if self._literal else self._masks.condition(value)
        # what is added to a score of -inf leaves it, and what is put in its place does not
        if made is None or np.isfinite(made[2]):
            self._read.append(MaskTerm(value))
        else:
            self._read.append(MaskTerm(*made))

    def _place(self, found: ByPosition, fill: float) -> bool:
        """Whether a mask by positions can be one of the form; there is one at most."""
        if self._by_position != ByPosition() or any(shape[-2] > shape[-1] for shape in self.shapes):
            return False
        self._by_position = found
        self._fills.append(fill)
        return True

    def _one_mask(self) -> MaskTerm | None:
        if len(self._read) > 1:
            names = " and ".join(f"'{mask.value.name}'" for mask in self._read)
            raise Unfit(f"{names} both have to be read, and the operator has one mask")
        read = self._read[0] if self._read else None
        if read is not None and self.op.scores is None:
            raise Unfit(
                "this Attention gives 0 where its mask leaves no key, and keeps what is not a number: no form"
                " does both"
            )
        if read is None or self._by_position == ByPosition() or self.op.weights.function.kind == "pointwise":
            return read
        # a query whose keys are all removed sees the mean of those that were removed by the same number
        if (
            any(np.isfinite(fill) for fill in (*self._fills, read.fill))
            and self.op.weights.function.extra is None
        ):
            raise Unfit(
                "a query without keys would see others than it does: two masks put a number into scores"
            )
        return read

    def _empty(self, kind: Mask) -> Empty:
        """What a query without keys gives."""
        function, weights = self.op.weights.function, self.op.weights
        if weights.guarded:
            if function.kind == "pointwise":
                raise Unfit(
                    "weights that are not a number become 0, which is not done for this score function"
                )
            return "zero"
        finite = kind == "boolean" and self.mask is not None and np.isfinite(self.mask.fill)
        return "mean" if finite and function.kind == "exponential" and function.extra is None else "nan"

    def _free(self) -> int:
        """How many keys a query has to see to have an offset; checks what the graph counts, too."""
        op = self.op
        if op.weights.function.second is None:
            return 0
        form = AttentionForm(causal=self._by_position.causal, window=self._by_position.window > 0)
        counts = [
            visible(form, shape[-2], shape[-1], window=self._by_position.window)[0, 0].sum(-1, keepdims=True)
            for shape in self.shapes
        ]
        columns = {shape[-1] for shape in self.shapes}
        if all(role != "keys" for role, _ in op.leaves) and any(
            len(columns) > 1 or not np.all(count == shape[-1])
            for count, shape in zip(counts, self.shapes, strict=True)
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


def broadcasts(shape: tuple[int, ...], onto: tuple[int, ...]) -> bool:
    """Whether a shape becomes the other one by broadcasting."""
    padded = (1,) * (len(onto) - len(shape)) + tuple(shape)
    return len(padded) == len(onto) and all(a in (1, b) for a, b in zip(padded, onto, strict=True))
