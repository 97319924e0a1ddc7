"""Remarks: what was done, what was not and why, as data.

The vocabulary is LLVM's: a rewrite *passed* or was *missed*, or an *analysis* found something worth
saying. `explain` prints them and `optimize` keeps them; nothing is declined without one.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

Kind = Literal["passed", "missed", "analysis"]


@dataclass(frozen=True)
class Remark:
    """One thing worth telling the user.

    Attributes:
        kind: passed, missed or analysis.
        rule: the recogniser or rewrite that speaks, e.g. "recognise" or "raise".
        op: the operation it is about, by its ONNX or tautomer name.
        node: the name of the node at fault, or of the node that carries the result.
        reason: a sentence that a model's author understands.
        hint: what would change the outcome, or "".
    """

    kind: Kind
    rule: str
    op: str
    node: str
    reason: str
    hint: str = ""

    def as_json(self) -> dict[str, str]:
        """The object of the JSON contract: kind, rule, op, node, reason, hint."""
        return asdict(self)
