"""Graphs of real architectures: the norms that their ONNX exports get, the same function at every size."""

from __future__ import annotations

import pytest
import torch
from fx_models import OTHER_SIZES, calls, close, family_graph, sample

from benchmarks.conversions import CONVERSIONS
from tautomer.graph.fx.reader import read_fx
from tautomer.graph.fx.writer import write_fx
from tautomer.passes.pipeline import Choices
from tautomer.runtime.torch.rewriting import rewrite_graph

NAMES = ("gpt2", "opt", "pythia", "vit", "bert", "llama", "whisper_encoder", "swin", "convnext")
# RMS norms of the result, if not one for each conversion: pairs of Pythia become one, Llama has its own
OTHERS = {"pythia": 3, "llama": 5}


@pytest.mark.parametrize("name", NAMES)
def test_norms_are_converted_where_the_onnx_exports_are(name: str) -> None:
    graph, example = family_graph(name)
    code = graph.code
    done = rewrite_graph(graph, example, weights="fold", asked=Choices("rms"))
    converted, norms, _ = CONVERSIONS[name]
    passed = [r for r in done.remarks if r.kind == "passed" and r.rule == "recentre"]
    assert len(passed) == converted, [r.reason for r in done.remarks]
    assert (calls(done.module, "layer_norm"), calls(done.module, "rms_norm")) == (
        norms - converted,
        OTHERS.get(name, converted),
    )
    for inputs in (example, sample(name, OTHER_SIZES, seed=2)):
        assert close(graph(*inputs), done.module(*inputs))
    assert graph.code == code
    assert done.verification["verdict"] == "EQUAL"


def test_weights_in_the_graph_follow_the_parameters() -> None:
    graph, example = family_graph("vit")
    done = rewrite_graph(graph, example, weights="graph", asked=Choices("rms"))
    assert calls(done.module, "rms_norm") == 5
    assert close(graph(*example), done.module(*example))
    names = dict(graph.named_parameters())
    assert all(names[name] is held for name, held in done.module.named_parameters())
    with torch.no_grad():
        changed = names["model.vit.layers.0.attention.o_proj.weight"]
        before = changed.clone()
        changed.add_(0.5)
        assert close(graph(*example), done.module(*example))
        changed.copy_(before)


@pytest.mark.parametrize("name", ["swin", "bert"])
def test_what_is_not_rewritten_comes_back_as_it_was(name: str) -> None:
    graph, example = family_graph(name)
    assert rewrite_graph(graph, example, asked=Choices("ln"), target="torch").module is graph
    written = write_fx(read_fx(graph)).module
    assert torch.equal(written(*example), graph(*example))
    read = {node.name for node in graph.graph.nodes if node.users or node.is_impure()}
    before = {node.name: node.format_node() for node in graph.graph.nodes}
    after = {node.name: node.format_node() for node in written.graph.nodes}
    assert read <= set(after) | _dead(graph)
    assert all(_call(after[name]) == _call(before[name]) for name in after)


def _dead(graph: torch.fx.GraphModule) -> set[str]:
    copy = torch.fx.GraphModule(graph, graph.graph)
    names = {node.name for node in copy.graph.nodes}
    copy.graph.eliminate_dead_code()
    return names - {node.name for node in copy.graph.nodes}


def _call(text: str | None) -> str:
    return (text or "").split("] = ")[-1]
