"""Programs over rows and elements that are no operators of torch: of definitions, and generated ones."""

from __future__ import annotations

from functools import cache

import numpy as np

from tautomer.codegen.torch.operators import OPERATORS
from tautomer.codegen.trace import Program, trace, trace_function, unsupported
from tautomer.patterns.operation import definitions
from tautomer.patterns.rational import rational_a, rational_b, rational_n
from tautomer.patterns.rowwise.program import Body, Layout
from tautomer.patterns.rowwise.reading import definition_in

# every way in which an operand goes with x, see `patterns.rowwise`
_PLAIN = ("full", "row", "block", "column", "number")
_GROUPED = ("full", "segment", "column", "number")


@cache
def programs() -> dict[str, Program]:
    """By name: definitions; rational and series activations with their numbers; rowwise operators."""
    torch = {one.key for one in OPERATORS}
    found = {one.key: trace(one) for one in definitions() if one.key not in torch and not unsupported(one)}
    for function in (rational_a, rational_b, rational_n):
        found[function.__name__] = trace_function(lambda m, x, f=function: f(m, x))
    found["series"] = trace_function(
        lambda m, x: sum((a * m.maximum(x + b, 0.0) for a, b in ((0.5, 0.25), (0.25, -0.5))), x * 0.0)
    )
    return found | {"rowwise": _rowwise(_PLAIN, False), "rowwise in groups": _rowwise(_GROUPED, True)}


def _rowwise(kinds: tuple[str, ...], grouped: bool) -> Program:
    """(x - mean(x)) exp(-max |x|) and all operands."""
    body = Body(18, Layout(grouped=grouped), kinds)
    b, (x, *operands) = body.builder, body.values
    largest = b.reduce("ReduceMax", b.op("Abs", x), body.layout.reduced)
    y = b.op(
        "Mul",
        b.op("Sub", x, b.reduce("ReduceMean", x, body.layout.reduced)),
        b.op("Exp", b.op("Neg", largest)),
    )
    for index, operand in enumerate(operands):
        y = b.op(("Mul", "Add", "Sub")[index % 3], y, operand)
    y = b.op("Mul", y, b.constant(np.asarray(0.75, np.float32)))
    return trace(definition_in(body.finish(y), {"groups": 3, "segments": 2} if grouped else {"axis": -1}))
