"""Sizes for the symbolic dimensions of a model that it might run with, in the order in which to try them."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from tautomer.graph.facts import bind_symbols
from tautomer.graph.symbols import size_of, unnamed

_SMALL_SIZES = (2, 5, 7, 3, 11, 6)


def candidate_sizes(model: ir.Model) -> Iterator[dict[str, int]]:
    """Sizes for the symbolic dimensions, in the order in which they should be tried.

    All different; unnamed axes alike where they stand at the same place; images of 32 and 224 pixels; a batch
    of one; all equal. A size that is an expression of others, such as "past + sequence", follows from them.
    """
    symbols = list(bind_symbols(model))
    derived = [s for s in symbols if size_of(s, dict.fromkeys(set(symbols) - {s}, 1)) is not None]
    free = [s for s in symbols if s not in derived]
    rounds = [_SMALL_SIZES[i % len(_SMALL_SIZES)] + 12 * (i // len(_SMALL_SIZES)) for i in range(len(free))]
    places, pixels = _places(model)
    small = dict(zip(free, rounds, strict=True))
    tries = [small]
    if any(s in places for s in free):
        tries.append({s: _SMALL_SIZES[places[s] % 6] if s in places else small[s] for s in free})
    for side in (32, 224):
        if pixels & set(free):
            tries.append({s: side if s in pixels else 2 for s in free})
    batch = {s for s in free if s in _leading(model)}
    tries += [{s: 1 if s in batch else small[s] for s in free}] if batch else []
    tries += [dict.fromkeys(free, size) for size in (8, 1)] if free else []
    for sizes in tries:
        for symbol in derived:
            sizes[symbol] = max(size_of(symbol, sizes) or 1, 1)
        yield sizes


def _leading(model: ir.Model) -> set[str]:
    """The sizes of first axes."""
    firsts = [(value, value.shape[0]) for value in model.graph.inputs if value.shape]
    return {
        unnamed(value, 0) if isinstance(size, int) or size.value is None else size.value
        for value, size in firsts
    }


def _places(model: ir.Model) -> tuple[dict[str, int], set[str]]:
    """The axis of each unnamed size, and the sizes that are height or width of something like an image."""
    places, pixels = {}, set()
    for value in model.graph.inputs:
        for axis, size in enumerate(value.shape or ()):
            anonymous = size < 0 if isinstance(size, int) else size.value is None
            if isinstance(size, int) and not anonymous:
                continue
            symbol = unnamed(value, axis) if anonymous else str(size.value)  # type: ignore[union-attr]
            if anonymous:
                places[symbol] = axis
            if axis >= 2 and len(value.shape or ()) == 4 and value.dtype == ir.DataType.FLOAT:
                pixels.add(symbol)
    return places, pixels
