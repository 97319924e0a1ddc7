"""Evidence while rewriting: the witness asks for it at every site, trust does without."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import onnx_ir as ir

from tautomer.passes.workspace import Moved
from tautomer.runtime.equivalence import verify_models
from tautomer.verify.neighbourhood import Neighbourhood
from tautomer.verify.provenance import Provenance
from tautomer.verify.verdict import Leg, Verdict


@dataclass(frozen=True)
class Trust:
    """Refuses nothing; its user is told that nothing was verified."""

    def refuses(self, *_: Any) -> str:
        """Never a reason."""
        return ""

    def moved(self, *_: Any) -> Moved | None:
        """Never a move."""
        return None


@dataclass
class Witness:
    """Checks each rewrite on its neighbourhood, then the whole model.

    Args:
        model: the model, before the first rewrite.
        reread: gives the model before the first rewrite once more, after rewrites have been made.
    """

    model: ir.Model
    reread: Callable[[], ir.Model]
    _neighbourhood: Neighbourhood = field(init=False)
    _sites: int = 0

    def __post_init__(self) -> None:
        self._neighbourhood = Neighbourhood(self.model)

    def refuses(self, key: Any, old: ir.Value, new: ir.Value, leaves: Mapping[ir.Value, ir.Value]) -> str:
        """Why the new value may not take the old one's place, or ""."""
        reason = self._neighbourhood.refuses(key, old, new, leaves)
        self._sites += not reason
        return reason

    def moved(self, shifts: Mapping[ir.Value, Mapping[int, Sequence[tuple[int, int]]]]) -> Moved | None:
        """Which shift an output sees, by a run in float64."""
        return None

    def whole(
        self,
        original: ir.Model,
        rewritten: ir.Model,
        provenance: Provenance,
        progress: Callable[[str], None] | None = None,
    ) -> Verdict:
        """The verdict on the whole model.

        Where the whole cannot be evaluated exactly, the sites decide: each keeps the value that it replaces,
        so the model keeps its outputs.
        """
        verdict = verify_models(original, rewritten, provenance=provenance, progress=progress)
        sites = Leg(
            True if not self._neighbourhood.skipped else None,
            {
                "rewrites": self._sites,
                "distinct": self._neighbourhood.checked,
                "method": "ball arithmetic on each rewrite's own neighbourhood",
            },
        )
        legs = {"sites": sites, **verdict.legs}
        only_algebra_is_missing = all(leg.passed for name, leg in legs.items() if name != "algebra")
        if verdict.verdict != "NOT VERIFIED" or not only_algebra_is_missing:
            return Verdict(
                verdict.verdict, legs, verdict.first_divergence, verdict.reason, verdict.assumptions
            )
        reason = f"every rewrite keeps the value that it replaces; the whole was not evaluated: {verdict.reason}"
        return Verdict("EQUAL", legs, None, reason, verdict.assumptions)
