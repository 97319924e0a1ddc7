"""What test_backend_cache runs in processes of their own: compiles a model, prints what caches counted."""

from __future__ import annotations

import json

import torch
from backend_models import close, compiled, perturb, tokens
from torch import nn
from torch._dynamo.utils import counters


def main() -> None:
    """Prints a JSON object of the counters of both caches."""
    torch.manual_seed(0)
    model = perturb(nn.Sequential(nn.Embedding(32, 16), nn.LayerNorm(16)))
    with torch.no_grad():
        result = compiled(model, "inductor", inductor={"cpp_cache_precompile_headers": False})(tokens())
        close(result, model(tokens()))
    names = ("autograd_cache_hit", "autograd_cache_miss", "autograd_cache_bypass")
    found = {name: counters["aot_autograd"][name] for name in names}
    names = ("fxgraph_cache_hit", "fxgraph_cache_miss", "fxgraph_cache_bypass")
    print(json.dumps(found | {name: counters["inductor"][name] for name in names}))


if __name__ == "__main__":
    main()
