"""What test_backend_distributed runs in a process of its own: prints one JSON object.

DDP with the Python reducer, FSDP2 and tensor parallelism in a group of one, each in inference, after an
update, and for gradients, beside the same model without any of it.
"""

from __future__ import annotations

import copy
import json
import logging
from collections.abc import Callable

import torch
import torch.distributed as dist
from backend_models import Stream, tokens
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

from tautomer.runtime.torch.backend import tautomer

lines: list[str] = []


class _Kept(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        lines.append(record.getMessage())


def reduced(model: nn.Module) -> nn.Module:
    return nn.parallel.DistributedDataParallel(model)


def sharded(model: nn.Module) -> nn.Module:
    mesh = init_device_mesh("cpu", (1,))
    for block in model.blocks:
        fully_shard(block, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def split(model: nn.Module) -> nn.Module:
    mesh = init_device_mesh("cpu", (1,))
    for block in model.blocks:
        parallelize_module(block, mesh, {"up": ColwiseParallel(), "down": RowwiseParallel()})
    return model


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def _distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return ((_plain(a) - b).abs().max() / b.abs().max()).item()


def compare(wrap: Callable[[nn.Module], nn.Module]) -> dict[str, object]:
    """The largest distances from the plain model, and what the backend said."""
    torch._dynamo.reset()
    torch.manual_seed(0)
    lines.clear()
    plain = Stream()
    model = wrap(copy.deepcopy(plain))
    fast = torch.compile(model, backend=tautomer, options={"then": "aot_eager", "norm": "rms"})
    away = []
    with torch.no_grad():
        for _ in range(2):
            away.append(_distance(fast(tokens()), plain(tokens())))
            for each in (model, plain):
                for parameter in each.parameters():
                    parameter.mul_(1.25)
    fast(tokens()).square().mean().backward()
    plain(tokens()).square().mean().backward()
    pairs = zip(model.parameters(), plain.parameters(), strict=True)
    return {
        "outputs": max(away),
        "gradients": max(_distance(a.grad, b.grad) for a, b in pairs),
        "converted": sum(line.startswith("passed LayerNormalization") for line in lines),
        "lines": lines[:40],
    }


def main() -> None:
    """Runs all three."""
    log = logging.getLogger("tautomer.torch")
    log.setLevel(logging.INFO)
    log.addHandler(_Kept())
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    torch._dynamo.config.optimize_ddp = "python_reducer"
    print(json.dumps({wrap.__name__: compare(wrap) for wrap in (reduced, sharded, split)}))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
