"""What test_backend_cache runs in its processes: rewrites a model, compiles one, prints what it saw."""

from __future__ import annotations

import json

import torch
from backend_models import Stream, close, compiled, perturb, tokens
from torch import nn
from torch._dynamo.utils import counters

from tautomer.passes.pipeline import Choices
from tautomer.runtime.torch.rewriting import rewrite_graph


def main() -> None:
    """Prints a JSON object of the text of a graph, and the counters of both caches."""
    torch.manual_seed(0)
    model = perturb(nn.Sequential(nn.Embedding(32, 16), nn.LayerNorm(16)))
    with torch.no_grad():
        result = compiled(model, "inductor", inductor={"cpp_cache_precompile_headers": False})(tokens())
        close(result, model(tokens()))
    names = ("autograd_cache_hit", "autograd_cache_miss", "autograd_cache_bypass")
    found = {name: counters["aot_autograd"][name] for name in names}
    names = ("fxgraph_cache_hit", "fxgraph_cache_miss", "fxgraph_cache_bypass")
    found |= {name: counters["inductor"][name] for name in names}
    print(json.dumps({"text": _text(), "counters": found}))


def _text() -> str:
    """Weights centred in the graph, GELUs rewritten, names of new nodes."""
    graph = torch.export.export(Stream(), (tokens(),)).module()
    done = rewrite_graph(graph, [tokens()], asked=Choices("rms"), verify=False)
    assert done.changed
    return str(done.module.graph)


if __name__ == "__main__":
    main()
