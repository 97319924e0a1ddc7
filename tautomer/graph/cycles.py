"""Does anything depend on itself?"""

from __future__ import annotations

from typing import TypeVar

_Key = TypeVar("_Key")


def on_cycle(edges: dict[_Key, list[_Key]]) -> _Key | None:
    """A vertex on a cycle, or None. Depth first, without recursion: graphs are as deep as they are long."""
    done: set[_Key] = set()
    for root in edges:
        if root in done:
            continue
        trail, on_trail, pending = [root], {root}, [iter(edges[root])]
        while pending:
            following = next(pending[-1], None)
            if following is None:
                pending.pop()
                last = trail.pop()
                on_trail.discard(last)
                done.add(last)
            elif following in on_trail:
                return following
            elif following not in done:
                trail.append(following)
                on_trail.add(following)
                pending.append(iter(edges[following]))
    return None
