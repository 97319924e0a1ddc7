"""Torch graphs are read, rewritten and written back: the same function, at every size."""

from __future__ import annotations

import pytest
import torch
from fx_models import OTHER_SIZES, calls, family_graph, sample

from tautomer.runtime.torch.rewriting import rewrite_graph

# As in benchmarks/results/recentring.md, of the ONNX exports: norms, converted ones.
CONVERTED = {
    "gpt2": (5, 5),
    "opt": (5, 5),
    "pythia": (5, 5),
    "vit": (5, 5),
    "bert": (5, 1),
    "whisper_encoder": (5, 5),
    "swin": (11, 6),
    "convnext": (7, 1),
}


def _close(first: torch.Tensor, second: torch.Tensor) -> bool:
    # two layers of width 32 in float32: a few dozen roundings, each of 6e-8 of the largest element
    return float((first - second).abs().max()) <= 2e-6 * float(first.abs().max())


@pytest.mark.parametrize("name", ["gpt2", "bert"])
def test_norms_are_converted_where_the_onnx_exports_are(name: str) -> None:
    graph, example = family_graph(name)
    done = rewrite_graph(graph, example, weights="fold", norm="rms")
    norms, converted = CONVERTED[name]
    assert calls(done.module, "rms_norm") == converted
    assert calls(done.module, "layer_norm") == norms - converted
    for inputs in (example, sample(name, OTHER_SIZES, seed=2)):
        assert _close(graph(*inputs), done.module(*inputs))
    again = rewrite_graph(graph, example, weights="fold", norm="rms", verify=False)
    assert again.module.code == done.module.code
