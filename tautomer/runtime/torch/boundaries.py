"""Where a value of a traced graph passes from one module to another, so that a hook can change it.

A hook on a module changes what its readers see and nobody else. So it is right for a value where the readers
that may be shown another mean are the ones behind the hook, and no others.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import fx

from tautomer.passes.streams.centring import Place
from tautomer.passes.streams.liveness import Live, Liveness
from tautomer.runtime.torch.centring import Boundary
from tautomer.runtime.torch.convert_trace import Traced, scopes


def boundary_of(traced: Traced, liveness: Liveness, place: Place, axes: tuple[int, ...]) -> Boundary | None:
    """Where a value can be centred for all readers that are blind to its mean.

    Args:
        traced: the module.
        liveness: what its readers see.
        place: the value, and along which digits.
        axes: the same as axes counted from the end.

    Returns:
        The innermost module that gives it, else the outermost one that takes it; None where there is none.
    """
    own = traced.aliases(place.value)
    blind = _blind_readers(traced, liveness, place)
    if not own or not blind:
        return None
    once = [name for name, count in traced.calls.items() if count == 1 and name]
    giving = [name for node in reversed(own) for name in reversed(scopes(node).values()) if name in once]
    taking = [name for name in _around([*blind]) if name in once]
    for entering, names in ((False, giving), (True, taking)):
        for name in names:
            if _only(traced, name, own, blind, entering=entering):
                return Boundary(name, entering, _shape(own[0]), axes)
    return None


def _blind_readers(traced: Traced, liveness: Liveness, place: Place) -> dict[fx.Node, None]:
    """The FX nodes that may be shown another mean."""
    found: dict[fx.Node, None] = {}
    for node, index in place.value.uses():
        group, demand = traced.read.groups.get(node), liveness.at(node, index)
        if group is not None and not isinstance(demand, Live) and demand.within(place.digits):
            found[group.fx] = None
    return found


def _only(
    traced: Traced, name: str, own: list[fx.Node], blind: dict[fx.Node, None], *, entering: bool
) -> bool:
    """Whether a hook on the module reaches the blind readers alone, and can tell the value by its shape."""
    crossing = [node for node in own if _crosses(node, name, entering=entering)]
    if len(crossing) != 1:
        return False
    behind = _behind(traced, crossing[0], own)
    reached = {user for user in behind if _inside(user, name) == entering}
    if reached != set(blind) or (not entering and reached != behind):
        return False
    shape = _shape(crossing[0])
    others = [node for node in traced.read.module.graph.nodes if node not in own and _shape(node) == shape]
    return not any(_crosses(node, name, entering=entering) for node in others)


def _crosses(node: fx.Node, name: str, *, entering: bool) -> bool:
    """Whether a value passes into a module, or out of it."""
    if node.op == "placeholder" and not entering:
        return False
    return _inside(node, name) != entering and any(_inside(user, name) == entering for user in node.users)


def _behind(traced: Traced, node: fx.Node, own: list[fx.Node]) -> set[fx.Node]:
    """What reads a node, or a copy made of it later."""
    looking = traced.read.behind.get(node, [])  # at its type alone
    found: set[fx.Node] = set()
    for user in node.users:
        if user in own:
            found |= _behind(traced, user, own)
        elif user not in looking:
            found.add(user)
    return found


def _around(nodes: Iterable[fx.Node]) -> list[str]:
    """The modules that all of the nodes are in, outermost first."""
    paths = [list(scopes(node).values()) for node in nodes]
    common = paths[0]
    for path in paths[1:]:
        common = [name for name in common if name in path]
    return common


def _inside(node: fx.Node, name: str) -> bool:
    return name in scopes(node).values()


def _shape(node: fx.Node) -> tuple[int, ...]:
    held = node.meta.get("val")
    return tuple(int(size) for size in held.shape) if isinstance(held, torch.Tensor) else ()
