"""What a verification says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Decision = Literal["EQUAL", "DIFFERENT", "NOT VERIFIED"]
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Leg:
    """One kind of evidence.

    Attributes:
        passed: True, False, or None when it could not be had.
        detail: what was done and what came out, ready for JSON.
        assumptions: what it took for granted.
        needed: False for one whose absence leaves the decision to the others, which then say so.
    """

    passed: bool | None
    detail: Mapping[str, Any] = field(default_factory=dict)
    assumptions: tuple[str, ...] = ()
    needed: bool = True

    def as_json(self) -> dict[str, Any]:
        """The leg's part of the JSON contract."""
        missing = "not available" if self.needed else "not run"
        status = {True: "passed", False: "failed", None: missing}[self.passed]
        return {"status": status, **self.detail}


@dataclass(frozen=True)
class Verdict:
    """The decision and what it rests on.

    Attributes:
        verdict: EQUAL, DIFFERENT or NOT VERIFIED; the last is never reported as the first.
        legs: evidence by name: algebra, constants, numerics, special.
        first_divergence: where a failing check first shows: tensor, node, consumer; or None.
        reason: one sentence.
        assumptions: what was taken for granted, only what was used.
    """

    verdict: Decision
    legs: Mapping[str, Leg]
    first_divergence: Mapping[str, str] | None = None
    reason: str = ""
    assumptions: tuple[str, ...] = ()

    def __str__(self) -> str:
        """The decision in one sentence, with the place where the models part."""
        text = f"{self.verdict}: {self.reason}"
        if not self.first_divergence:
            return text
        where = self.first_divergence
        clue = f"; {where['clue']}" if where.get("clue") else ""
        return f"{text}; they part at '{where['tensor']}', made by {where['node']}{clue}"

    def as_json(self) -> dict[str, Any]:
        """The document of the JSON contract."""
        return {
            "schema_version": SCHEMA_VERSION,
            "verdict": self.verdict,
            "reason": self.reason,
            "legs": {name: leg.as_json() for name, leg in self.legs.items()},
            "first_divergence": dict(self.first_divergence) if self.first_divergence else None,
            "assumptions": list(self.assumptions),
        }


def decide(legs: Mapping[str, Leg]) -> tuple[Decision, str]:
    """The decision that the legs allow.

    A leg that failed decides; the algebra leg must have passed for EQUAL, and no leg may be missing that
    was needed.
    """
    for name, leg in legs.items():
        if leg.passed is False:
            return "DIFFERENT", f"{name}: {leg.detail.get('reason', 'the graphs differ')}"
    for name, leg in legs.items():
        if leg.passed is None and leg.needed:
            return "NOT VERIFIED", f"{name}: {leg.detail.get('reason', 'no evidence')}"
    return "EQUAL", equal_by(legs)


def equal_by(legs: Mapping[str, Leg]) -> str:
    """The sentence beside EQUAL: which legs passed, and which could not be had."""
    constants = sum(leg.detail["rounded"]["constants"] for leg in legs.values() if "rounded" in leg.detail)
    many = f"{constants} constant{'s' if constants != 1 else ''}"
    rounded = f", up to the rounding of {many}" if constants else ""
    passed = _listed([name for name, leg in legs.items() if leg.passed])
    missing = [name for name, leg in legs.items() if leg.passed is None]
    if not missing:
        return f"every leg of the evidence passed{rounded}: {passed}"
    return f"{passed} passed{rounded}; {_listed(missing)} {'were' if len(missing) > 1 else 'was'} not run"


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))
