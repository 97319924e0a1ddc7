"""What masks say: up to which position keys are seen, or a tensor that has to be read.

A mask whose content is known is compared with what it would be by positions alone, at two sizes. Where sizes
vary, what it is made of must not hold a number that these sizes do not reach, such as the width of a window.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from tautomer.graph.facts import Facts
from tautomer.graph.whole_content import whole_content
from tautomer.patterns.attention.form import AttentionForm, Causal, visible
from tautomer.patterns.recognition.recognise import Recognition

REMOVES = -1e30
"""What is added to a score or put in its place to remove a key; no score is near it."""
_MOST_NODES = 200
_STRANGE = np.array([[3, 1, 4], [1, 5, 9], [2, 6, 5]])  # what goes on in a way that cannot be told
_CAUSAL: tuple[Causal, ...] = ("end", "start", "")
_ENDLESS = 1 << 31  # an index that means the end


@dataclass(frozen=True)
class ByPosition:
    """Which keys a query sees by their positions; see `AttentionForm`."""

    causal: Causal = ""
    window: int = 0


@dataclass(frozen=True)
class Additive:
    """A mask that is added: what its elements say.

    Attributes:
        allowed: where it is 0, at two sizes.
        fill: what it is elsewhere.
    """

    allowed: tuple[NDArray[Any], NDArray[Any]]
    fill: float


class MaskReader:
    """Reads the masks of one model.

    Args:
        recognition: shapes and contents under two bindings of the sizes.
    """

    def __init__(self, recognition: Recognition) -> None:
        self._here, self._there = recognition.facts, recognition.elsewhere()
        self._version = recognition.model.opset_imports.get("", 0)

    def contents(self, value: ir.Value) -> tuple[NDArray[Any], NDArray[Any]] | None:
        """What a value holds at two sizes; None where that is not known."""
        here, there = (self._content(value, facts) for facts in (self._here, self._there))
        return None if here is None or there is None else (here, there)

    def _content(self, value: ir.Value, facts: Facts) -> NDArray[Any] | None:
        return whole_content(value, facts, self._version)

    def additive(self, value: ir.Value) -> Additive | None:
        """A mask of known content that is 0 or one number that removes."""
        found = self.contents(value)
        if found is None:
            return None
        here, there = (np.asarray(array, np.float64) for array in found)
        others = np.unique(np.concatenate([x[x != 0.0].reshape(-1) for x in (here, there)]))
        if len(others) != 1 or others[0] > REMOVES:
            return None
        return Additive((here == 0.0, there == 0.0), float(others[0]))

    def by_position(
        self, value: ir.Value, allowed: tuple[NDArray[Any], NDArray[Any]], scores: tuple[Any, Any]
    ) -> ByPosition | None:
        """The positions that a mask of known content stands for.

        Args:
            value: the mask.
            allowed: where keys stay, at two sizes.
            scores: the shapes of the scores at these sizes.
        """
        if not self._holds_at_all_sizes(value, scores):
            return None
        flat = [_one_triangle(x, shape[-2:]) for x, shape in zip(allowed, scores, strict=True)]
        first, *_ = flat
        if first is None or any(x is None for x in flat):
            return None
        for causal in _CAUSAL:
            for window in (0, int(first[-1].sum())):
                if (causal or window) and all(x is not None and _is_seen(x, causal, window) for x in flat):
                    return ByPosition(causal, window)
        return None

    def nothing(self, value: ir.Value, scores: tuple[Any, Any], neutral: float = 0.0) -> bool:
        """Whether a mask of known content does nothing anywhere: all of it is the neutral number or truth."""
        found = self.contents(value)
        if found is None or any(np.any(x != neutral) for x in found):
            return False
        return self._holds_at_all_sizes(value, scores)

    def _holds_at_all_sizes(self, value: ir.Value, scores: tuple[Any, Any]) -> bool:
        """Whether what is seen of a mask at two sizes can be all that there is to see."""
        if scores[0][-2:] == scores[1][-2:]:
            return True
        reach = min(scores[0][-2:]) // 2
        for stored in self._numbers(value):
            whole = stored.reshape(-1)
            if stored.size == 1:
                size = abs(float(whole[0]))
                if reach < size < min(_ENDLESS, -REMOVES):
                    return False
            elif stored.ndim == 1 and stored.size <= 8:
                if any(reach < abs(int(x)) < _ENDLESS for x in whole):
                    return False
            elif not _regular(stored):
                return False
        return True

    def _numbers(self, value: ir.Value) -> Iterator[NDArray[Any]]:
        """The stored constants that a value is made from; a strange one where there are too many."""
        seen: dict[ir.Value, None] = {value: None}
        stack = [value]
        while stack:
            each = stack.pop()
            if each.const_value is not None:
                stored = whole_content(each, self._here, self._version)
                yield _STRANGE if stored is None else stored
                continue
            node = each.producer()
            if node is None:
                continue
            if len(seen) > _MOST_NODES or any(
                not a.is_ref() and a.type == ir.AttributeType.GRAPH for a in node.attributes.values()
            ):
                yield _STRANGE
                return
            for operand in node.inputs:
                # what is a size of something is not made from the numbers that the something is made from
                if operand is not None and operand not in seen and node.op_type not in ("Shape", "Size"):
                    seen[operand] = None
                    stack.append(operand)
            constant = node.attributes.get("value") if node.op_type == "Constant" else None
            if constant is not None:
                yield constant.as_tensor().numpy()

    def condition(self, value: ir.Value) -> tuple[ir.Value, bool, float] | None:
        """The boolean that an added mask is made from: where it keeps or removes, and by which number."""
        node = value.producer()
        while node is not None and node.op_type in ("Cast", "Identity"):
            before = node.inputs[0]
            node = None if before is None else before.producer()
        if node is None or node.op_type != "Where" or any(x is None for x in node.inputs):
            return None
        condition, *numbers = node.inputs
        arrays = [self._here.get(x).array for x in numbers]
        if any(x is None or x.size != 1 for x in arrays):
            return None
        first, second = (float(np.asarray(x, np.float64).reshape(())) for x in arrays)
        assert condition is not None
        if self._here.get(condition).shape != self._here.get(value).shape:
            return None
        if first == 0.0 and second <= REMOVES:
            return condition, True, second
        return (condition, False, first) if second == 0.0 and first <= REMOVES else None


def _is_seen(allowed: NDArray[Any], causal: Causal, window: int) -> bool:
    form = AttentionForm(causal=causal, window=window > 0)
    rows, columns = allowed.shape
    return np.array_equal(allowed, visible(form, rows, columns, window=window)[0, 0])


def _one_triangle(allowed: NDArray[Any], size: tuple[int, int]) -> NDArray[Any] | None:
    """What a mask says of queries and keys, where it says the same for all sequences and heads."""
    try:
        whole = np.broadcast_to(allowed, (*allowed.shape[:-2], *size)).reshape(-1, *size)
    except ValueError:
        return None
    return whole[0] if len(whole) and bool(np.all(whole == whole[0])) else None


def _regular(stored: NDArray[Any]) -> bool:
    """Whether a stored tensor goes on as it begins: numbers in steps of 1, one number, or a triangle."""
    if stored.dtype.kind not in "biuf":
        return False
    if np.all(stored == stored.reshape(-1)[0]):
        return True
    flat = (
        stored.reshape(stored.shape[-2:]) if stored.ndim > 1 and np.prod(stored.shape[:-2]) == 1 else stored
    )
    if flat.ndim == 2 and 1 not in flat.shape:
        return any(
            np.array_equal(flat != 0, tri(np.ones(flat.shape), k))
            for tri in (np.tril, np.triu)
            for k in (-1, 0, 1)
        )
    flat = flat.reshape(-1)
    return bool(np.array_equal(flat, np.arange(len(flat)))) if flat.size == stored.size else False
