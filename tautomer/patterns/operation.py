"""What an operation is: one small function that states its mathematics, and what follows from it.

    @operation("RMSNormalization", rows="trailing", since=23, source="arXiv 1910.07467")
    def rms_norm(m, x, scale=1.0, *, epsilon: Scalar = 1e-5):
        '''x / sqrt(mean(x^2) + epsilon) * scale, over the last axes.'''
        return x * m.rsqrt(m.mean(x * x) + epsilon) * scale

The same function recognises (evaluated in float64 against a sub-graph), runs as the oracle of the tests,
is traced into the ONNX function body and is the text of the documentation. Adding an operation is adding
one such function; nothing else has a list of operations.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from tautomer.errors import InputError

Rows = Literal["", "trailing", "axis", "folded", "groups", "channels", "channel groups"]
ROW_OPERANDS = ("scale", "bias")  # of the shape of a row, the same for every row
FULL_OPERANDS = ("gate", "residual")  # of the shape of x
WHOLE_PARAMETERS = ("groups", "segments")  # how x is cut into rows, see patterns.rowwise
PER_ROW = "per_row"  # how the name of a result begins that is one number per row, beside others
KINDS = ("full", "row", "block", "column", "number", "segment")
_MOST_SCALARS = 2  # every choice of them among a graph's numbers is tried
_OF_A_KIND = re.compile(rf"({'|'.join(KINDS)})[0-9]+")


Scalar = Annotated[float, "one number, found among the constants of the sub-graph"]
Weight = Annotated[float, "one that the result is affine in, so that it can be solved for"]
Coefficients = Annotated[tuple[float, ...], "several numbers, as many as the operation has: of a polynomial"]
Channel = Annotated[Any, "an operand of one number, or of one per channel or element: it is broadcast to x"]


@dataclass(frozen=True)
class Definition:
    """An operation and everything that is known about it.

    Attributes:
        op: its ONNX name, or its name in the domain `tautomer`.
        domain: "" or "tautomer".
        since: the opset that introduced it in its domain.
        function: the mathematics, `function(m, x, *operands, **parameters)`.
        rows: "" pointwise; "trailing" works on rows over the last axes and keeps the shape; "axis" on rows
            over one axis and keeps the shape; "folded" gives one number per row; "groups" works on rows that
            all axes but the first are cut into, and keeps the shape; "channels" and "channel groups" do so
            where each row is one channel, or some whole channels, of an image with the channels first.
        attributes: attributes that belong to this variant, such as approximate="tanh".
        operands: names of the tensors after x: of the shape of a row, or of the shape of x.
        channels: the operands that are broadcast to x, with what they are where they are left out; None for
            one that may not be.
        fit: finds the parameters of a sub-graph where evaluation alone does not suggest them: gives them, or
            why the operation is refused, or None. They are confirmed by evaluation as all are.
        parameters: name -> default of each parameter, a number or a tuple of them.
        formula: the first line of the function's docstring.
        source: the paper or specification of the formula.
        by_name: whether it is recognised only where a node has its name, because what computes the same is
            more likely to be a slip in another operation.
        weights: the parameters that the result is affine in.
        results: names of what it gives; several where the function returns a tuple. They are of x's shape,
            but for all of a folded operation and those whose names begin with `per_row`: one number per row.
    """

    op: str
    function: Callable[..., Any]
    rows: Rows = ""
    domain: str = ""
    since: int = 1
    attributes: Mapping[str, Any] = field(default_factory=dict)
    operands: tuple[str, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    formula: str = ""
    source: str = ""
    by_name: bool = False
    results: tuple[str, ...] = ("y",)
    weights: tuple[str, ...] = ()
    channels: Mapping[str, float | None] = field(default_factory=dict)
    fit: Callable[[Any], Any] | None = None

    @property
    def composite(self) -> bool:
        """True when it takes a second full tensor, and so stands on top of a simpler operation."""
        return any(name in FULL_OPERANDS for name in self.operands)

    @property
    def per_row(self) -> tuple[str, ...]:
        """The results that are one number per row."""
        return tuple(name for name in self.results if self.rows == "folded" or name.startswith(PER_ROW))

    def kind(self, operand: str) -> str:
        """How an operand goes with x, one of KINDS; "" if its name does not say it."""
        kind = "row" if operand in self.channels else kind_of(operand)
        return "segment" if kind == "row" and self.rows == "groups" else kind

    @property
    def key(self) -> str:
        """Unique among definitions: the name, and the variant if there is one."""
        variant = ",".join(f"{k}={v}" for k, v in self.attributes.items())
        return f"{self.op}[{variant}]" if variant else self.op


def kind_of(operand: str) -> str:
    """What the name of an operand says of how it goes with x: one of KINDS, or "".

    full: of the shape of x. row: of the shape of a row, the same for every row. number: one number. The
    others: see patterns.rowwise.
    """
    if operand in FULL_OPERANDS:
        return "full"
    if operand in ROW_OPERANDS:
        return "row"
    found = _OF_A_KIND.fullmatch(operand)
    return found[1] if found else ""


_DEFINITIONS: dict[str, Definition] = {}


def operation(
    op: str,
    *,
    rows: Rows = "",
    domain: str = "",
    since: int = 1,
    attributes: Mapping[str, Any] | None = None,
    source: str = "",
    by_name: bool = False,
    results: tuple[str, ...] = ("y",),
    fit: Callable[[Any], Any] | None = None,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Registers a definition; a malformed one fails here, at import, on its own line.

    Raises:
        InputError: no formula in the docstring, a parameter that is not a Scalar with a default, an
            unknown operand, more than two scalars of an operation on rows, or a second definition of the same
            operation and variant.
    """

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(function, eval_str=True)
        operands: list[str] = []
        channels: dict[str, float | None] = {}
        parameters: dict[str, Any] = {}
        weights: list[str] = []
        for name, parameter in list(signature.parameters.items())[2:]:
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
                if (
                    parameter.annotation not in (Scalar, Weight, Coefficients)
                    or parameter.default is parameter.empty
                ):
                    raise InputError(f"parameter {name} needs ': Scalar = default'", where=f"operation {op}")
                several = parameter.annotation == Coefficients
                parameters[name] = tuple(parameter.default) if several else float(parameter.default)
                weights += [name] if parameter.annotation == Weight else []
            elif parameter.annotation == Channel:
                operands.append(name)
                absent = parameter.default is parameter.empty
                channels[name] = None if absent else float(parameter.default)
            elif name in ROW_OPERANDS or name in FULL_OPERANDS:
                operands.append(name)
            else:
                known = ", ".join(ROW_OPERANDS + FULL_OPERANDS)
                raise InputError(f"operand {name} is none of {known}", where=f"operation {op}")
        if rows and len(parameters) - len(weights) > _MOST_SCALARS:
            raise InputError(f"more than {_MOST_SCALARS} scalars of rows", where=f"operation {op}")
        formula = (function.__doc__ or "").strip().split("\n")[0]
        if not formula:
            raise InputError("the docstring must begin with the formula", where=f"operation {op}")
        definition = Definition(
            op,
            function,
            rows,
            domain,
            since,
            dict(attributes or {}),
            tuple(operands),
            parameters,
            formula,
            source,
            by_name,
            results,
            tuple(weights),
            channels,
            fit,
        )
        define(definition)
        return function

    return register


def define(definition: Definition) -> Definition:
    """Registers a definition, and returns it.

    Raises:
        InputError: there is one of the same operation and variant.
    """
    if definition.key in _DEFINITIONS:
        raise InputError("defined twice", where=f"operation {definition.key}")
    _DEFINITIONS[definition.key] = definition
    return definition


def defined(key: str) -> Definition:
    """The definition with this key, whose file was imported."""
    return _DEFINITIONS[key]


def forget(key: str) -> None:
    """Removes a definition; for tests that add one of their own."""
    del _DEFINITIONS[key]


def definitions() -> Iterator[Definition]:
    """All definitions, in the order in which they were written down."""
    load_families()
    return iter(tuple(_DEFINITIONS.values()))


def definition_of(op: str, attributes: Mapping[str, Any] | None = None) -> Definition | None:
    """The definition of an operation whose variant agrees with the attributes."""
    for definition in definitions():
        if definition.op == op and all(
            (attributes or {}).get(name, _DEFAULT_VARIANTS.get((op, name))) == value
            for name, value in definition.attributes.items()
        ):
            return definition
    return None


# What ONNX takes when the attribute that selects a variant is absent.
_DEFAULT_VARIANTS: dict[tuple[str, str], Any] = {("Gelu", "approximate"): "none"}


def load_families() -> None:
    """Imports every family, once; importing is registering."""
    from tautomer.patterns import (  # noqa: F401
        bounded,
        channel_norms,
        compressed_norms,
        dice,
        evo_norms,
        gelu,
        glu,
        norms,
        polynomials,
        rational,
        rectifiers,
        residual_norms,
        smooth,
        softmax,
    )
