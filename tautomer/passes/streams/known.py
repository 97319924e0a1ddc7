"""What is known of residual streams whose mean was taken out, for rewrites that build on it.

A member is a value with mean zero along digits. Most are computed by a node from other members and from
constants that were centred; some were centred by a subtraction of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import onnx_ir as ir

from tautomer.graph.digits import Digits
from tautomer.patterns.recognition.recognised import Recognised


@dataclass(frozen=True)
class Member:
    """A value of a stream.

    Attributes:
        value: it has mean zero.
        origin: the value of the original model that it stands for.
        digits: along which its mean is zero.
        needs: the members that its node reads, by operand; none where it was centred at run time.
        writers: the digits along which constants that its node reads were centred, by operand.
        at_run_time: whether a subtraction of its own centres it.
    """

    value: ir.Value
    origin: ir.Value
    digits: Digits
    needs: Mapping[int, ir.Value] = field(default_factory=dict)
    writers: Mapping[int, Digits] = field(default_factory=dict)
    at_run_time: bool = False


@dataclass(frozen=True)
class StreamNorm:
    """A norm that relies on a mean of zero.

    Attributes:
        value: the member that it reads.
        op: the operation as it is now.
        where: the node of the original model that it was, for messages.
    """

    value: ir.Value
    op: Recognised
    where: str


@dataclass
class Streams:
    """Everything that was centred.

    Attributes:
        members: in an order that does not depend on anything but the model.
        norms: the norms that rely on it.
    """

    members: list[Member] = field(default_factory=list)
    norms: list[StreamNorm] = field(default_factory=list)
