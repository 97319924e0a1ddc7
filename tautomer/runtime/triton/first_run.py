"""The first run of Triton kernels on a device, in a process of its own: a crash or hang there costs a kernel.

    reason = first_run("softmax of bfloat16", key, device, compute)

`compute` calls the kernels as usual, on tensors of the CPU. Each launch goes to a child, which copies what it
takes to the device, launches it there and gives back what it wrote. So what is tried is what runs later, and
this process touches the device only when kernels are known to leave it alive. The answer is kept in the cache
folder, by key, device and the versions of torch and triton.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tautomer.errors import TautomerError
from tautomer.runtime import cache_folder, own_file
from tautomer.runtime.cache_folder import UnusableFolderError
from tautomer.runtime.triton.grid import instead
from tautomer.runtime.triton.trial_process import NotTriedError, Rejected, TrialProcess

if TYPE_CHECKING:
    import torch

SWITCH = "TAUTOMER_FIRST_RUN"
"""Set to 0, kernels for GPUs are used untried: where a second process cannot use the device."""

TIMEOUT = 180.0  # seconds of a launch: the child imports torch, and compiles
FORMAT = 1
_LOG = logging.getLogger("tautomer.torch")
_CHILD = Path(__file__).with_name("first_run_child.py")
_LOCK = threading.RLock()
_KNOWN: dict[str, str] = {}

Pair = tuple["torch.Tensor", "torch.Tensor"]
Compute = Callable[[], Sequence[Pair]]


def first_run(
    what: str,
    key: str,
    device: str,
    compute: Compute,
    *,
    off: float,
    timeout: float = TIMEOUT,
    child: Path = _CHILD,
) -> str:
    """Why kernels must not be used on a device, or ""; said once, on the log `tautomer.torch`, too.

    Args:
        what: they compute, for people.
        key: what their code and sizes depend on, with the device's fingerprint.
        device: as torch names it.
        compute: runs them on tensors of the CPU, and gives each result with what it should be.
        off: how far a result may be off, relative to its largest element.
        timeout: seconds that a launch may take.
        child: the program of the child.
    """
    if os.environ.get(SWITCH) == "0":
        return ""
    with _LOCK:
        name = _name_of(key)
        if name not in _KNOWN:
            reason = _kept(name)
            if reason is None:
                reason = _tried(name, device, compute, off, timeout, child)
            _KNOWN[name] = reason
            if reason:
                _LOG.warning("%s runs by torch's own operators: %s", what, reason)
        return _KNOWN[name]


def _tried(name: str, device: str, compute: Compute, off: float, timeout: float, child: Path) -> str:
    """Runs them; what did not take place is tried again by the next process."""
    try:
        with TrialProcess(device, timeout, child) as other, instead(other.launch):
            pairs = compute()
        reason = next(filter(None, (_differs(*pair, off) for pair in pairs)), "")
    except Rejected as error:
        reason = f"in its first run, {error}"
    except (NotTriedError, OSError, TautomerError) as error:
        return f"its first run did not take place: {error}; {SWITCH}=0 does without"
    _keep(name, reason)
    return reason


def _differs(found: torch.Tensor, expected: torch.Tensor, off: float) -> str:
    """Why a result is wrong, or ""."""
    wide = found.double()
    if wide.shape != expected.shape or not bool((wide.isnan() == expected.isnan()).all()):
        return "in its first run it gave NaN where it should not"
    if not wide.numel():
        return ""
    error = float((wide - expected).nan_to_num(0.0).abs().max())
    allowed = off * float(expected.nan_to_num(0.0).abs().max())
    return "" if error <= allowed else f"in its first run it was off by {error:.3g}, at most {allowed:.3g}"


def _name_of(key: str) -> str:
    import torch
    import triton

    told = json.dumps([FORMAT, torch.__version__, triton.__version__, key])
    return hashlib.sha256(told.encode()).hexdigest()[:32]


def _kept(name: str) -> str | None:
    """What an earlier process found, or None."""
    try:
        document = own_file.read(_place(name))
        reason = document["reason"]
        return reason if document["format"] == FORMAT and isinstance(reason, str) else None
    except (OSError, UnusableFolderError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _keep(name: str, reason: str) -> None:
    with suppress(OSError, UnusableFolderError):
        own_file.write(_place(name), {"format": FORMAT, "reason": reason})


def _place(name: str) -> Path:
    return cache_folder.location().with_name("first-runs") / f"{name}.json"
