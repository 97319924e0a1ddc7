"""Every private name of torch that Tautomer uses. Works on torch 2.11 to 2.13.

A new version of torch breaks here or nowhere.
"""

from __future__ import annotations

from torch._C._functorch import peek_interpreter_stack
from torch.autograd import forward_ad

__all__ = ["is_transformed"]


def is_transformed() -> bool:
    """Whether torch.func or forward mode is at work on what is called now."""
    return forward_ad._current_level >= 0 or peek_interpreter_stack() is not None
