"""Evidence while rewriting: the witness asks for it at every site, trust does without."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import onnx_ir as ir

from tautomer.errors import CheckFailedError, InputError
from tautomer.graph.semantics.domain import Unsupported
from tautomer.graph.semantics.mathematics import Float64
from tautomer.passes.workspace import Moved
from tautomer.runtime.equivalence import made_inputs, verify_models
from tautomer.verify.interpreter import run
from tautomer.verify.mean_probe import largest_means
from tautomer.verify.neighbourhood import Neighbourhood
from tautomer.verify.provenance import Provenance
from tautomer.verify.shift_oracle import Shift, moved_by_shifts
from tautomer.verify.verdict import Leg, Verdict, equal_by

# The weights of a row of d, rounded to bfloat16, leave about 2^-9 / sqrt(d) of a mean; a forgotten writer
# leaves about 1.
MOST_MEAN = 1e-2


@dataclass(frozen=True)
class Trust:
    """Refuses nothing; its user is told that nothing was verified."""

    def refuses(self, *_: Any, linear: bool = False) -> str:
        """Never a reason."""
        return ""

    def blind(self) -> str:
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
    _shifted: int = 0
    _whole: bool = False

    def __post_init__(self) -> None:
        self._neighbourhood = Neighbourhood(self.model)

    def refuses(
        self,
        key: Any,
        old: ir.Value,
        new: ir.Value,
        leaves: Mapping[ir.Value, ir.Value],
        *,
        linear: bool = False,
    ) -> str:
        """Why the new value may not take the old one's place, or ""."""
        reason = self._neighbourhood.refuses(key, old, new, leaves, linear=linear)
        self._sites += not reason
        return reason

    @cached_property
    def _asked(self) -> tuple[ir.Model, dict[str, Any]]:
        """The original model once more, and inputs that it takes."""
        original = self.reread()
        return original, made_inputs(original, (1,))[1][0]

    def blind(self) -> str:
        """Why the whole model cannot be evaluated, or ""; once it can, the sites alone do not decide."""
        try:
            original, inputs = self._asked
            run(original, Float64(), inputs)
        except (Unsupported, InputError) as error:
            return f"the whole model cannot be evaluated, which this rewrite needs: {error}"
        self._whole = True
        return ""

    def moved(self, shifts: Mapping[ir.Value, Mapping[int, Sequence[tuple[int, int]]]]) -> Moved | None:
        """Which shift an output of the original model sees, by a run in float64 with all of them at once."""
        original, inputs = self._asked
        named = {str(v.name): v for node in original.graph for v in node.outputs}
        named |= {str(value.name): value for value in original.graph.inputs}
        back = {named[str(value.name)]: value for value in shifts if value.name in named}
        asked = {
            there: Shift({axis: tuple(pieces) for axis, pieces in shifts[here].items()})
            for there, here in back.items()
        }
        try:
            found = moved_by_shifts(original, asked, inputs)
        except (Unsupported, InputError) as error:
            return Moved(None, f"whether an output sees the mean could not be asked of the model: {error}")
        self._shifted = len(asked)
        if found is None:
            return None
        return Moved(back[found.value], f"output '{found.output}' moves when '{found.value.name}' is shifted")

    def means(self, rewritten: ir.Model, centred: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
        """What is left of the mean at each norm that relies on a mean of zero, in float32.

        Raises:
            CheckFailedError: it is more than rounding explains.
        """
        if not centred:
            return {}
        _, inputs = self._asked
        found: dict[str, float] = {}
        for axes in dict.fromkeys(centred.values()):
            names = [name for name, own in centred.items() if own == axes]
            found |= largest_means(rewritten, names, inputs, axes=axes)
        worst = max(found, key=lambda name: found[name])
        if found[worst] > MOST_MEAN:
            raise CheckFailedError(
                f"its mean is {found[worst]:.3g} of its size, and a norm was converted that relies on zero",
                where=f"value '{worst}'",
                remedy="nothing was written; --norm ln leaves norms as they are",
            )
        return {"centred": {"norms": len(found), "largest_mean_by_rms": float(f"{found[worst]:.3g}")}}

    def whole(
        self,
        original: ir.Model,
        rewritten: ir.Model,
        provenance: Provenance,
        progress: Callable[[str], None] | None = None,
    ) -> Verdict:
        """The verdict on the whole model.

        Where the whole cannot be evaluated exactly, the sites decide: each keeps the value that it replaces,
        so the model keeps its outputs. That is so only where no rewrite changed more than a site.
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
        if self._shifted:
            detail = {
                "values": self._shifted,
                "method": "random shifts of the original in float64: no output moved",
            }
            legs["shifts"] = Leg(True, detail)
        only_algebra_is_missing = all(
            leg.passed or not leg.needed for name, leg in legs.items() if name != "algebra"
        )
        if verdict.verdict != "NOT VERIFIED" or self._whole or not only_algebra_is_missing:
            reason = equal_by(legs) if verdict.verdict == "EQUAL" else verdict.reason
            return replace(verdict, legs=legs, reason=reason)
        reason = (
            f"every rewrite keeps the value that it replaces; the whole was not evaluated: {verdict.reason}"
        )
        return Verdict("EQUAL", legs, None, f"{reason}; {equal_by(legs)}", verdict.assumptions)
