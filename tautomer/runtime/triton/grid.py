"""Launching kernels: all of ours go through `launch`, to the device or to whoever takes its place.

    launch(Launch(name, text, programs, {"BLOCK": 1024}, warps=4), arguments, device)

In `instead(other)` launches go to another function: one that only compiles, or one that runs them in another
process.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from tautomer.runtime.triton.modules import load_function

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Launch:
    """A kernel and how it is launched.

    Attributes:
        name: of the function.
        text: the module that has it.
        programs: of the grid; with torch's compilers, perhaps a symbol.
        constants: its compile-time constants.
        warps: of a program.
        stages: of its loops, 0 for as many as Triton thinks.
        registers: of a thread at most, 0 for as many as it takes.
    """

    name: str
    text: str
    programs: Any
    constants: Mapping[str, int]
    warps: int
    stages: int = 0
    registers: int = 0

    def settings(self) -> dict[str, Any]:
        """The constants, and what Triton is told beside them."""
        found: dict[str, Any] = {**self.constants, "num_warps": self.warps}
        if self.stages:
            found["num_stages"] = self.stages
        if os.environ.get("TRITON_INTERPRET") != "1":
            found["enable_fp_fusion"] = True
            if self.registers:
                found["maxnreg"] = self.registers
        return found


Launcher = Callable[[Launch, Sequence[Any]], None]
_INSTEAD: ContextVar[Launcher | None] = ContextVar("instead", default=None)


def launch(kernel: Launch, arguments: Sequence[Any], device: torch.device, *, traced: bool = False) -> None:
    """Launches a kernel.

    Args:
        kernel: the kernel.
        arguments: those before the constants: tensors, their descriptors, numbers.
        device: that the tensors lie on.
        traced: whether the launch is to be recorded in a graph, for torch's compilers.
    """
    if traced:
        import torch

        function = torch.library.wrap_triton(loaded(kernel.name, kernel.text))
        # these compilers know no name for anything else
        function[(kernel.programs,)](*arguments, **kernel.constants, num_warps=kernel.warps)
        return
    other = _INSTEAD.get()
    if other is not None:
        other(kernel, arguments)
        return
    with current(device):
        loaded(kernel.name, kernel.text)[(kernel.programs,)](*arguments, **kernel.settings())


@contextmanager
def instead(launcher: Launcher) -> Iterator[None]:
    """Kernels that are launched in this context go to this function, one by one."""
    token = _INSTEAD.set(launcher)
    try:
        yield
    finally:
        _INSTEAD.reset(token)


def compile_only() -> AbstractContextManager[None]:
    """Kernels that are launched in this context are only compiled; results hold nothing."""
    return instead(_compile)


def _compile(kernel: Launch, arguments: Sequence[Any]) -> None:
    loaded(kernel.name, kernel.text).warmup(*arguments, grid=(kernel.programs,), **kernel.settings())


def current(device: torch.device) -> AbstractContextManager[Any]:
    """Triton launches on the current device, whatever its tensors lie on."""
    import torch

    if device.type != "cuda" or device.index in (None, torch.cuda.current_device()):
        return nullcontext()
    return torch.cuda.device(device)


loaded = lru_cache(maxsize=1024)(load_function)
