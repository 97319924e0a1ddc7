"""Tautomer turns a model graph into another form of the same function and shows the evidence.

import tautomer
result = tautomer.optimize("model.onnx")
result.save("fast.onnx")
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from tautomer._version import __version__

if TYPE_CHECKING:
    from tautomer.api import Operation, Remark, Result, Verdict, explain, inspect, optimize, verify
    from tautomer.patterns.operation import Channel, Scalar, Weight, operation
    from tautomer.runtime.kernel_session import session

_PUBLIC = ("Operation", "Remark", "Result", "Verdict", "explain", "inspect", "optimize", "verify")
_DEFINING = ("Channel", "Scalar", "Weight", "operation")
__all__ = [
    "Channel",
    "Operation",
    "Remark",
    "Result",
    "Scalar",
    "Verdict",
    "Weight",
    "__version__",
    "explain",
    "inspect",
    "operation",
    "optimize",
    "session",
    "verify",
]


def __getattr__(name: str) -> Any:
    # the command line's --help must not pay for numpy and onnx
    if name in _PUBLIC:
        from tautomer import api

        return getattr(api, name)
    if name in _DEFINING:
        from tautomer.patterns import operation

        return getattr(operation, name)
    if name == "session":
        from tautomer.runtime.kernel_session import session

        return session
    raise AttributeError(f"module 'tautomer' has no attribute '{name}'")


class _Package(ModuleType):
    """`tautomer.verify` is the function. Importing the folder of that name must not take its place."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name == "verify" and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
