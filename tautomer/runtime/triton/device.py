"""The graphics processor that a tensor lies on, as its driver describes it."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from typing import TYPE_CHECKING

from tautomer.errors import MissingToolError, ResourceError
from tautomer.machine import DEVICES, Device

if TYPE_CHECKING:
    import torch


def multiprocessors(device: torch.device) -> int:
    """Of a device; of one that is not here, those of an H100."""
    import torch

    if device.type == "cuda" and torch.cuda.is_available():
        return device_here(device.index or 0).multiprocessors
    return DEVICES["cuda:sm_90"].multiprocessors


def first_device() -> Device:
    """The first GPU.

    Raises:
        MissingToolError: torch or triton is not installed.
        ResourceError: there is no GPU.
    """
    try:
        import torch
        import triton  # noqa: F401
    except ImportError as error:
        raise MissingToolError(
            f"kernels for GPUs need torch and triton ({error})", remedy="pip install 'tautomer[torch,triton]'"
        ) from error
    if not torch.cuda.is_available():
        raise ResourceError("there is no GPU that torch can use", remedy="tune without --gpu")
    return device_here(0)


@cache
def device_here(index: int) -> Device:
    """What the driver says of a device; what it does not say is that of a device like it.

    Args:
        index: its number, for torch.
    """
    import torch

    about = torch.cuda.get_device_properties(index)
    if torch.version.hip:
        name = f"hip:{about.gcnArchName.partition(':')[0]}"
    else:
        name = f"cuda:sm_{about.major}{about.minor}"
    usual = DEVICES.get(name, DEVICES["cuda:sm_80"])
    shared = getattr(about, "shared_memory_per_block_optin", usual.shared_memory)
    last_cache = getattr(about, "L2_cache_size", 0) or usual.last_cache
    identity = [name, about.name, about.multi_processor_count, about.total_memory >> 30]
    share = about.multi_processor_count / usual.multiprocessors
    return Device(
        name=name,
        model=about.name,
        bandwidth=usual.bandwidth,
        multiprocessors=about.multi_processor_count,
        shared_memory=shared,
        vector=getattr(about, "warp_size", usual.vector),
        last_cache=last_cache,
        special_rate=usual.special_rate * share,
        assumed=("bandwidth", "special_rate"),
        fingerprint=hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:32],
    )
