"""The child of a first run of Triton kernels: launches what it is told of on stdin, one folder a line.

Run as `python -P first_run_child.py DEVICE`, with torch and triton and nothing of ours. What it prints says
how far it came: compile, run, done. Every tensor stands between two margins, which must stay as they are.
"""

from __future__ import annotations

import importlib.util
import json
import resource
import sys
from pathlib import Path
from typing import Any

import torch

_MARGIN, _MARK = 4096, 0xA5


def main(device: str) -> int:
    """Runs the jobs that are asked for, until there is no more."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash is an answer here and leaves no file
    if device.startswith("cuda"):
        torch.cuda.set_device(device)  # what triton launches on
    for line in sys.stdin:
        reason = job(Path(line.rstrip("\n")), device)
        _say(f"wrong: {reason}" if reason else "done")
    return 0


def job(folder: Path, device: str) -> str:
    """Launches a kernel; what is wrong with it, or ""."""
    import triton

    told: dict[str, Any] = json.loads((folder / "job.json").read_text())
    function = _function(folder / "kernel.py", told["name"])
    areas = [_area(folder / f"storage{index}", device) for index in range(told["storages"])]
    arguments = [_argument(one, areas) for one in told["arguments"]]
    triton.set_allocator(lambda size, alignment, stream: torch.empty(size, dtype=torch.int8, device=device))
    grid = (told["programs"],)
    interpreted = not hasattr(function, "warmup") or not device.startswith("cuda")
    _say("compile")
    if not interpreted:
        function.warmup(*arguments, grid=grid, **told["settings"])
        torch.cuda.synchronize()
    _say("run")
    function[grid](*arguments, **told["settings"])
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    for index, area in enumerate(areas):
        host = area.cpu()
        if bool((host[:_MARGIN] != _MARK).any()) or bool((host[len(host) - _MARGIN :] != _MARK).any()):
            return "it writes outside of its tensors"
        content = host[_MARGIN : len(host) - _MARGIN].numpy().tobytes()
        (folder / f"storage{index}").write_bytes(content)
    return ""


def _function(place: Path, name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, place)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, name)


def _area(place: Path, device: str) -> torch.Tensor:
    """The bytes of a storage, with its margins, on the device."""
    content = place.read_bytes()
    area = torch.full((len(content) + 2 * _MARGIN,), _MARK, dtype=torch.uint8)
    area[_MARGIN : _MARGIN + len(content)] = torch.frombuffer(bytearray(content or b"0"), dtype=torch.uint8)[
        : len(content)
    ]
    return area.to(device)


def _argument(told: dict[str, Any], areas: list[torch.Tensor]) -> Any:
    if "whole" in told:
        return told["whole"]
    if "number" in told:
        return float.fromhex(told["number"])
    one = told["tensor"]
    dtype = getattr(torch, one["dtype"])
    area = areas[one["storage"]]
    inner = area[_MARGIN : len(area) - _MARGIN]
    count = len(inner) // dtype.itemsize
    tensor = (
        inner[: count * dtype.itemsize]
        .view(dtype)
        .as_strided(one["shape"], one["strides"], one["offset"] + _MARGIN // dtype.itemsize)
    )
    if "block" not in told:
        return tensor
    from triton.tools.tensor_descriptor import TensorDescriptor

    return TensorDescriptor(tensor, list(tensor.shape), list(tensor.stride()), told["block"])


def _say(stage: str) -> None:
    print(stage, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
