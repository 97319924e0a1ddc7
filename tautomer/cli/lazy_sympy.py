"""Putting off the import of sympy, which onnx_ir imports at once and uses for arithmetic on symbols only.

It costs 0.4 s, more than reading and recognising a small model. Only the command line does this: in its own
process it may arrange modules as it likes, inside another program it may not.
"""

from __future__ import annotations

import importlib
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


class _Later(ModuleType):
    """Stands in for a module until something of it is asked for."""

    def __getattr__(self, name: str) -> Any:
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)


def put_off_sympy() -> None:
    """Makes the next `import sympy` cost nothing until it is used; does nothing when it is loaded already."""
    for name in ("sympy", "onnx_ir._symbolic_shapes"):
        if name not in sys.modules:
            later = _Later(name)
            later.__spec__ = ModuleSpec(name, None)
            sys.modules[name] = later
