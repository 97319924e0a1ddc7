"""Evidence while rewriting: the witness asks for it at every site, trust does without."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import onnx_ir as ir

from tautomer.passes.raise_operations import Folded
from tautomer.runtime.equivalence import verify_models
from tautomer.verify.neighbourhood import Neighbourhood
from tautomer.verify.provenance import Origin
from tautomer.verify.verdict import Leg, Verdict


@dataclass(frozen=True)
class Trust:
    """Refuses nothing; its user is told that nothing was verified."""

    def refuses(self, *_: Any) -> str:
        """Never a reason."""
        return ""


@dataclass
class Witness:
    """Checks each rewrite on its neighbourhood, then the whole model.

    Args:
        model: the model, before the first rewrite.
    """

    model: ir.Model
    _neighbourhood: Neighbourhood = field(init=False)
    _folded: Mapping[ir.Value, Folded] = field(default_factory=dict)
    _sites: int = 0

    def __post_init__(self) -> None:
        self._neighbourhood = Neighbourhood(self.model)

    def refuses(
        self,
        key: Any,
        old: ir.Value,
        new: ir.Value,
        leaves: Mapping[ir.Value, ir.Value],
        folded: Mapping[ir.Value, Folded],
    ) -> str:
        """Why the new value may not take the old one's place, or ""."""
        reason = self._neighbourhood.refuses(key, old, new, leaves, folded)
        if not reason:
            self._sites += 1
            self._folded = folded
        return reason

    def provenance(self) -> dict[str, Origin]:
        """What each constant that was made stands for."""
        return {
            str(value.name): Origin(None if made.source is None else str(made.source.name), made.factor)
            for value, made in self._folded.items()
        }

    def whole(
        self, original: ir.Model, rewritten: ir.Model, progress: Callable[[str], None] | None = None
    ) -> Verdict:
        """The verdict on the whole model.

        Where the whole cannot be evaluated exactly, the sites decide: each keeps the value that it replaces,
        so the model keeps its outputs.
        """
        verdict = verify_models(original, rewritten, provenance=self.provenance(), progress=progress)
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
