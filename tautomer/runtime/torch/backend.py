"""`torch.compile(model, backend="tautomer")`: rewrites the graph and hands it over.

    dynamo's graph -> pre-dispatch ATen -> the passes -> our kernels -> inductor

In inference, values that depend on weights alone are taken out before the last step.

Only the copy in ATen is changed. Where a step declines, or what came out cannot be compiled, dynamo's own
graph is handed over as it was, with a warning that says what was not accelerated and why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import fx

from tautomer.errors import TautomerError
from tautomer.remarks import Remark
from tautomer.runtime.torch.attention_use import multiplies_twice
from tautomer.runtime.torch.capture import capture
from tautomer.runtime.torch.compat import RestartAnalysis, SkipFrame, lookup_backend
from tautomer.runtime.torch.cross_entropy_use import use_cross_entropy
from tautomer.runtime.torch.ops_use import use_kernels
from tautomer.runtime.torch.options import Options
from tautomer.runtime.torch.rewriting import AS_A_RULE, Rewritten, rewrite_graph
from tautomer.runtime.torch.sparse_use import use_sparse
from tautomer.runtime.torch.trace import log, trace_graph, trace_remarks
from tautomer.runtime.torch.weight_values import take_weight_values, weight_nodes, weights_are_fixed
from tautomer.target import EAGER, HOPPER, INDUCTOR, TORCH_GATES

Compiled = Callable[..., Any]


def tautomer(
    graph: fx.GraphModule,
    inputs: Sequence[Any],
    *,
    options: Mapping[str, Any] | None = None,
    mode: str | None = None,
) -> Compiled:
    """The backend, as torch.compile calls it.

    Args:
        graph: dynamo's graph; left as it is.
        inputs: an example of each input.
        options: see `Options`.
        mode: a mode of inductor.

    Raises:
        InputError: an unknown option, or, with `strict`, a graph that cannot be rewritten.
    """
    chosen = Options.parse(options, mode)
    with _fallback(graph, chosen):
        rewritten = _rewritten(graph, inputs, chosen)
        if rewritten is not None:
            return _compiled(rewritten, inputs, chosen)
    return _hand_over(graph, inputs, chosen)


def _rewritten(graph: fx.GraphModule, inputs: Sequence[Any], chosen: Options) -> fx.GraphModule | None:
    """The graph after the passes, or None where none of them changed anything."""
    trace_graph("before", graph)
    captured = capture(graph, inputs)
    done = _by_passes(captured, inputs, chosen)
    compiled = chosen.kernels and chosen.then == "inductor"
    placed = use_cross_entropy(done.module, inputs) if chosen.kernels else []
    # in a training step of residual sums and norms they were slower than what inductor fuses
    fits = compiled and not torch.is_grad_enabled()
    placed += use_kernels(done.module) if fits else []
    placed += use_sparse(done.module, weight_nodes(done.module, inputs)) if fits else []
    trace_remarks([*_of_graph_break(graph), *done.remarks, *placed])
    if not done.changed and not any(each.kind == "passed" for each in placed):
        return None
    trace_graph("after", done.module)
    return done.module


def _by_passes(captured: fx.GraphModule, inputs: Sequence[Any], chosen: Options) -> Rewritten:
    """The graph after the passes that its device gains from."""
    on_gpu = any(isinstance(one, torch.Tensor) and one.device.type == "cuda" for one in inputs)
    target, remarks = INDUCTOR if chosen.then == "inductor" else EAGER, []
    # inductor's norms read and write at the speed of memory in any form; no rewrite was measured to gain
    alone = on_gpu and chosen.then == "inductor" and chosen.asked == AS_A_RULE
    if alone:
        target = HOPPER
        reason = "no rewrite but that of attention is known to gain on a GPU; else only kernels are placed"
        remarks.append(Remark("analysis", "passes", "graph", "", reason))
    if on_gpu:
        target = replace(target, attention=HOPPER.attention if chosen.then == "inductor" else {})
    if not chosen.kernels:
        target = replace(target, attention={})
    elif not on_gpu:
        target = replace(target, gains=TORCH_GATES[target.name])
    if alone and not (target.attention and multiplies_twice(captured)):
        return Rewritten(captured, remarks, False)
    done = rewrite_graph(
        captured,
        inputs,
        weights="prologue" if weights_are_fixed(captured, inputs) else "graph",
        asked=replace(chosen.asked, attention_only=alone),
        target=target,
        verify=chosen.verify,
        whole=not alone,  # a copy in float64 may not fit there
    )
    return replace(done, remarks=[*remarks, *done.remarks])


def _compiled(graph: fx.GraphModule, inputs: Sequence[Any], chosen: Options) -> Compiled:
    """The compiled graph, with what depends on weights alone computed only when they change."""
    taken = take_weight_values(graph, inputs)
    if taken is None:
        return _hand_over(graph, inputs, chosen)
    prologue, examples = taken
    return prologue.before(_hand_over(graph, [*inputs, *examples], chosen))


def _hand_over(graph: fx.GraphModule, inputs: Sequence[Any], chosen: Options) -> Compiled:
    settings = {"config_patches": dict(chosen.inductor)} if chosen.inductor else {}
    compiled: Compiled = lookup_backend(chosen.then)(graph, list(inputs), **settings)
    return compiled


def _of_graph_break(graph: fx.GraphModule) -> list[Remark]:
    """Says that there is more of the model than this graph: a stream that ends here cannot be followed."""
    reason = getattr(graph, "compile_subgraph_reason", None)
    if reason is None or not reason.graph_break:
        return []
    first = reason.reason.strip().partition("\n")[0]
    hint = "torch.compile(fullgraph=True) shows where; what crosses a graph break keeps its form"
    return [Remark("analysis", "capture", "graph break", "output", first, hint)]


@contextmanager
def _fallback(graph: fx.GraphModule, chosen: Options) -> Iterator[None]:
    """Leaves the block at an error, which is logged; what dynamo itself waits for goes through."""
    try:
        yield
    except (RestartAnalysis, SkipFrame, IndexError):
        raise
    except Exception as error:
        if chosen.strict:
            raise
        name = graph.meta.get("dynamo_compile_id", "?")
        said = str(error) if isinstance(error, TautomerError) else f"{type(error).__name__}: {error}"
        log.warning("graph %s is compiled without Tautomer's rewrites: %s", name, said)
        log.debug("the error in full", exc_info=True)
