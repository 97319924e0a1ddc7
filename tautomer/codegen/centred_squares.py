"""Sums of squares of differences to a mean, from the pass that takes the mean.

    sum (t - m)^2  =  sum (t - p)^2 - (sum (t - p))^2 / n      where m = sum t / n, for any p

A row is read once less than the definition says. In float32 the difference is as exact as its terms only
where it is not much smaller than they are, so the pivot p is the mean of the row's first vector, which lies a
fraction of the spread from m in most rows. Where it lies farther from m than the spread, or where something
is not finite, the sum is taken as it is defined, in a pass of its own: the error at most doubles.
"""

from __future__ import annotations

from collections.abc import Collection

from tautomer.codegen.expression import Node


def centred_squares(passes: tuple[tuple[Node, ...], ...], pivoted: Collection[Node]) -> dict[Node, Node]:
    """The sums that an earlier pass can give: sum (t - m)^2 -> sum t. A pass is saved whole or not at all.

    Args:
        passes: the reductions of each pass.
        pivoted: the sums that are taken relative to a pivot.
    """
    found: dict[Node, Node] = {}
    for step in passes:
        sums = {node: _sum_of_its_mean(node) for node in step}
        if all(total in pivoted for total in sums.values()):
            found |= {node: total for node, total in sums.items() if total is not None}
    return found


def _sum_of_its_mean(node: Node) -> Node | None:
    """The sum t of a sum (t - sum t / n)^2; None for anything else."""
    square = node.args[0]
    if node.op != "sum" or square.op != "mul" or square.args[0] is not square.args[1]:
        return None
    difference = square.args[0]
    if difference.op != "sub" or difference.args[1].op != "div":
        return None
    term, mean = difference.args
    total, count = mean.args
    of_it = total.op == "sum" and total.args[0] is term and count.op == "count"
    return total if of_it else None
