"""The table of primitive operators: each one's meaning, as a function over an abstract mathematics.

    @meaning("Relu")
    def relu(m, call, x):
        '''max(x, 0).'''
        return kind_of(m, x).maximum(x, 0)

Operations that are compositions with a name of their own (LayerNormalization, Softmax, Gelu, ...) are not
here: they are defined once, in tautomer.patterns.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from tautomer.graph.call import Call
from tautomer.graph.semantics.domain import Mathematics, Unsupported, no_meaning

__all__ = ["Meaning", "Unsupported", "evaluate", "meaning", "meaning_of", "primitives"]

Meaning = Callable[..., Any]

_TABLE: dict[tuple[str, str], Meaning] = {}
_ARITY: dict[tuple[str, str], tuple[int, int]] = {}
_ANY_NUMBER = 1 << 30


def meaning(*names: str, domain: str = "") -> Callable[[Meaning], Meaning]:
    """Registers `function(m, call, *inputs)` as the meaning of operators."""

    def register(function: Meaning) -> Meaning:
        parameters = list(inspect.signature(function).parameters.values())[2:]
        required = sum(p.default is p.empty and p.kind is not p.VAR_POSITIONAL for p in parameters)
        variadic = any(p.kind is p.VAR_POSITIONAL for p in parameters)
        for name in names:
            if (domain, name) in _TABLE:
                raise ValueError(f"{name} has two meanings")
            _TABLE[domain, name] = function
            _ARITY[domain, name] = (required, _ANY_NUMBER if variadic else len(parameters))
        return function

    return register


@cache
def _load() -> None:
    """Imports every file of meanings, once; importing is registering."""
    from tautomer.graph.semantics import families  # noqa: F401


def meaning_of(domain: str, op_type: str) -> Meaning | None:
    """The meaning of an operator, or None when it is not a primitive."""
    _load()
    return _TABLE.get(("" if domain == "ai.onnx" else domain, op_type))


def primitives() -> tuple[tuple[str, str], ...]:
    """Every operator of the table as (domain, name), sorted."""
    _load()
    return tuple(sorted(_TABLE))


def evaluate(m: Mathematics, call: Call, inputs: Sequence[Any]) -> tuple[Any, ...]:
    """Evaluates one primitive operator.

    Args:
        m: the domain of its float tensors.
        call: the operator with its attributes.
        inputs: values of the domain, integer or boolean arrays, None for an input that is left out.

    Returns:
        As many outputs as the meaning has, at least one.

    Raises:
        Unsupported: the operator is not in the table, or not in this form, or not in this domain.
        ValueError: the inputs do not fit the operator.
    """
    function = meaning_of(call.domain, call.op_type)
    if function is None:
        raise no_meaning(call.op_type, call.domain)
    required, most = _ARITY["" if call.domain == "ai.onnx" else call.domain, call.op_type]
    given = list(inputs)
    while len(given) > required and given[-1] is None:
        given.pop()
    if not required <= len(given) <= most or any(x is None for x in given[:required]):
        raise ValueError(f"{call.op_type}: wrong number of inputs")
    try:
        with np.errstate(all="ignore"):
            result = function(m, call, *given)
    except (IndexError, KeyError, TypeError, ArithmeticError, AssertionError) as error:
        raise ValueError(f"{call.op_type}: {error}") from error
    outputs = result if isinstance(result, tuple) else (result,)
    return tuple(np.asarray(x) if isinstance(x, np.generic) else x for x in outputs)


def older(call: Call, version: int) -> bool:
    """True when the call's opset is known and comes before the version."""
    return 0 < call.version < version
