"""What is left of a compilation for people: lines in the log, and artifacts that tlparse shows.

`TORCH_LOGS="tautomer"` prints remarks, `TORCH_LOGS="+tautomer"` the graphs as well; `TORCH_TRACE=folder`
records both.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable

from torch import fx

from tautomer.remarks import Remark
from tautomer.runtime.torch.compat import trace_structured

log = logging.getLogger("tautomer.torch")


def trace_graph(name: str, graph: fx.GraphModule) -> None:
    """Records a graph under a name."""
    _artifact(f"{name}_graph", "string", graph)
    if log.isEnabledFor(logging.DEBUG):
        log.debug("%s:\n%s", name, _readable(graph))


def trace_remarks(remarks: Iterable[Remark]) -> None:
    """Records what was done and what was not, and why."""
    found = list(remarks)
    _artifact("remarks", "json", [each.as_json() for each in found])
    for each in found:
        hint = f"; {each.hint}" if each.hint else ""
        log.info("%s %s %s: %s%s", each.kind, each.op, each.node, each.reason, hint)


def _artifact(name: str, encoding: str, content: object) -> None:
    trace_structured(
        "artifact",
        metadata_fn=lambda: {"name": f"tautomer_{name}", "encoding": encoding},
        payload_fn=lambda: _readable(content) if isinstance(content, fx.GraphModule) else json.dumps(content),
    )


def _readable(graph: fx.GraphModule) -> str:
    return str(graph.print_readable(print_output=False))
