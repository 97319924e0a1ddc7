"""Symbolic sizes as nodes.

A symbol is the size of an axis of an input, an expression is arithmetic on symbols.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir

from tautomer.graph.fx.site import Opaque

Make = Callable[..., ir.Value]
_ARITHMETIC = {"Add": "Add", "Mul": "Mul"}
_QUOTIENTS = {"FloorDiv": "Div", "CleanDiv": "Div", "Mod": "Mod", "PythonMod": "Mod"}


class Extents:
    """Gives a size as an int64 tensor of one element.

    Args:
        constant: makes a constant of an array.
        make: adds a node to the front of the graph.
    """

    def __init__(self, constant: Callable[[Any], ir.Value], make: Make) -> None:
        self._constant, self._make = constant, make
        self._known: dict[str, ir.Value] = {}

    def learn(self, value: ir.Value, shape: Any) -> None:
        """Takes the symbols of an input's shape."""
        for axis, extent in enumerate(shape):
            if isinstance(extent, int) or not extent.node.expr.is_Symbol:
                continue
            text = str(extent.node.expr)
            if text not in self._known:
                self._known[text] = self._make("Shape", value, start=axis, end=axis + 1)

    def of(self, extent: Any) -> ir.Value:
        """A number or symbolic size.

        Raises:
            Opaque: it is made of more than the sizes of inputs.
        """
        if isinstance(extent, int):
            return self._constant(np.array([extent], np.int64))
        return self._expression(extent.node.expr)

    def _expression(self, expression: Any) -> ir.Value:
        text, kind = str(expression), type(expression).__name__
        if text in self._known:
            return self._known[text]
        if expression.is_Integer:
            return self._constant(np.array([int(expression)], np.int64))
        if kind in _ARITHMETIC:
            parts = [self._expression(part) for part in expression.args]
            value = parts[0]
            for part in parts[1:]:
                value = self._make(_ARITHMETIC[kind], value, part)
        elif kind in _QUOTIENTS:
            value = self._make(_QUOTIENTS[kind], *(self._expression(part) for part in expression.args))
        else:
            raise Opaque(f"the size {text} is no arithmetic on the sizes of inputs")
        self._known[text] = value
        return value
