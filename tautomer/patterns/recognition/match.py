"""What confirming a cone yields: a match, or the reason why not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tautomer.patterns.operation import Definition
from tautomer.patterns.recognition.readings import Reading


@dataclass(frozen=True)
class Operand:
    """A tensor operand of a match: which leaf of the cone, times which number.

    Leaf -1 is no tensor: the operand is the number alone, one of the constants of the cone.
    """

    leaf: int
    factor: float = 1.0

    @property
    def is_number(self) -> bool:
        """Whether it is one number for the whole row."""
        return self.leaf < 0


@dataclass(frozen=True)
class Match:
    """A cone computes a definition.

    Attributes:
        definition: which.
        parameters: its scalars.
        axes: the axes of a row in the source's shape; () for a pointwise operation.
        operands: name -> leaf of the cone.
        readings: the constants of the cone as they were read.
        special: how the cone differs from the definition on NaN and infinities, or "". Such a match says what
            the cone is, but putting the operation in its place would change what it gives there.
        groups: into how many groups the channels of an image are cut, where they are.
    """

    definition: Definition
    parameters: Mapping[str, float] = field(default_factory=dict)
    axes: tuple[int, ...] = ()
    operands: Mapping[str, Operand] = field(default_factory=dict)
    readings: tuple[Reading, ...] = ()
    special: str = ""
    groups: int = 0


@dataclass(frozen=True)
class Refusal:
    """A cone is no operation that we know, and why.

    Attributes:
        reason: a sentence.
        nearest: the operation it came closest to, or "".
        certain: whether it is that operation but for the reason, which is then worth telling.
        hint: what would make it one, or "".
    """

    reason: str
    nearest: str = ""
    certain: bool = False
    hint: str = ""
