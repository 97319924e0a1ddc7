"""Which rewrites lose accuracy, each by itself.

Every value that both graphs have is computed from those of the original, so that each site answers for its
own error. That asks for rewrites that keep these values, which those of whole streams do not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import torch

from tautomer.graph.fx.writer import Written
from tautomer.runtime.torch.rounding import moved_by_rounding, reason_of, score_of
from tautomer.runtime.torch.widened import Recorded, Widened, array, outputs_of, real_values, widened

Node = torch.fx.Node


def local_errors(original: torch.fx.GraphModule, written: Written, values: Sequence[Any]) -> dict[str, str]:
    """The values whose rewrite loses more than rounding explains, by name, and what it loses.

    Args:
        original: the graph before the first rewrite.
        written: the graph after them; what takes the place of a value has its name.
        values: what the placeholders get.
    """
    inputs = real_values(values)
    pairs = {written.names[n.name]: n for n in original.graph.nodes if n.name in written.names}
    shared = {node.name: node for node in pairs.values()}
    old: dict[Node, torch.Tensor] = {}

    def kept(node: Node, held: Any) -> Any:
        if node.name in shared and isinstance(held, torch.Tensor):
            old[node] = held.clone()
        return held

    outputs_of(Recorded(original, kept), inputs)
    first = {node.name: array(held) for node, held in old.items()}
    same = _recomputed(Recorded, written.module, pairs, inputs, old, torch.Tensor.clone)
    new = {name: held for name, held in same.items() if not np.array_equal(held, first[name])}
    wide = [widened(held) for held in inputs]
    exact = _recomputed(Widened, original, shared, wide, old, widened)

    @cache
    def nudged(draw: int) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(draw)
        return _recomputed(Widened, original, shared, wide, old, lambda x: moved_by_rounding(x, generator))

    def of(name: str) -> Callable[[int], dict[str, Any]]:
        return lambda draw: {name: nudged(draw)[name]}

    found = {}
    for name, held in new.items():
        score = score_of({name: first[name]}, {name: held}, {name: exact[name]}, of(name))
        if not score.accepted:
            found[name] = reason_of(score)
    return found


def _recomputed(
    run: type[Recorded],
    module: torch.fx.GraphModule,
    originals: Mapping[str, Node],
    values: Sequence[Any],
    old: Mapping[Node, torch.Tensor],
    given: Callable[[torch.Tensor], Any],
) -> dict[str, Any]:
    """What each node makes of the values of the original, by the name in the original."""
    found = {}

    def substitute(node: Node, held: Any) -> Any:
        one = originals.get(node.name)
        if one is None or one not in old or not isinstance(held, torch.Tensor):
            return held
        found[one.name] = array(held)
        return given(old[one])

    outputs_of(run(module, substitute), values)
    return found
