"""What several programs of the grid that share a row tell each other of it, in Triton.

What the programs of a row have reduced they write to `partial_ptr`, count themselves in `counter_ptr`, and
wait until the count is full. A device begins programs in their order, so those of a row run at the same time,
and none waits for one that cannot begin: this holds for NVIDIA's, as long as PARTS programs fit on one.

    partial_ptr   float32 [reductions, rows, PARTS]
    counter_ptr   int32 [steps, rows], zeros before the call

The largest element and the sum of exponentials relative to it are exchanged in one step:

    m = max m_p,   s = sum s_p e^(m_p - m)
"""

from __future__ import annotations

from collections.abc import Sequence

from tautomer.codegen.expression import Node, from_largest
from tautomer.codegen.schedule import schedule
from tautomer.codegen.trace import Program
from tautomer.codegen.triton.expression import TritonWriter
from tautomer.codegen.triton.tile import over_columns


def steps(program: Program) -> list[tuple[Node, ...]]:
    """The reductions that are exchanged together, step by step."""
    passes, found = list(schedule(program).passes), []
    while passes:
        step = passes.pop(0)
        found.append(step + passes.pop(0) if passes and joined(step, passes[0]) else step)
    return found


def joined(first: Sequence[Node], second: Sequence[Node]) -> bool:
    """Whether two passes are a maximum, and a sum of exponentials relative to it and nothing else."""
    if len(first) != 1 or len(second) != 1 or first[0].op != "max" or second[0].op != "sum":
        return False
    term = second[0].args[0]
    return term.op == "exp" and from_largest(term.args[0]) and term.args[0].args[1] is first[0]


def online(step: Sequence[Node]) -> bool:
    """Whether a step is such a pair."""
    return len(step) == 2 and joined(step[:1], step[1:])


def exchanged(step: Sequence[Node], slot: int, index: int) -> list[str]:
    """Written, counted, waited for and read, as a tile of PARTS columns."""
    counter = f"counter_ptr + {index} * rows + number" if index else "counter_ptr + number"
    places = [f"partial_ptr + ({slot + k} * rows + row) * PARTS" for k in range(len(step))]
    lines = [f"tl.store({place} + part, r{node.index})" for node, place in zip(step, places, strict=True)]
    lines += [
        "tl.debug_barrier()",
        f'tl.atomic_add({counter}, 1, sem="release")',
        "arrived = 0",
        "while arrived < PARTS:",
        f'    arrived = tl.atomic_add({counter}, 0, sem="acquire")',
        "tl.debug_barrier()",
    ]
    for node, place in zip(step, places, strict=True):
        read = f'tl.load({place} + tl.arange(0, PARTS)[None, :], cache_modifier=".cg")'
        lines.append(f"r{node.index} = {read}")
    return lines


def combined(step: Sequence[Node], plain: frozenset[Node], writer: TritonWriter) -> list[str]:
    """Over the parts."""
    if online(step):
        m, s = (f"r{node.index}" for node in step)
        return [
            f"parts = {m}",
            f"{m} = tl.max(parts, 1)[:, None]",
            f'shift = tl.where({m} == float("-inf"), 0.0, {m})',
            f"{s} = tl.sum({s} * tl.exp(parts - shift), 1)[:, None]",
        ]
    return [f"r{n.index} = {over_columns(n, f'r{n.index}', n in plain, writer)}" for n in step]
