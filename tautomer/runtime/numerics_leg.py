"""The legs of rounding and of special values: both models run by onnxruntime as they are written."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import onnx_ir as ir

from tautomer.errors import CheckFailedError
from tautomer.graph.semantics.domain import Unsupported, is_float
from tautomer.graph.semantics.mathematics import Float64
from tautomer.runtime.session import Session, installed, session_of
from tautomer.verify.classes import CLASSES
from tautomer.verify.interpreter import run
from tautomer.verify.new_sums import longest_new_sums
from tautomer.verify.numerics import LIMIT, Score, judge_models
from tautomer.verify.verdict import Leg
from tautomer.verify.weights import weights_of

METHOD = "onnxruntime, its optimizations off"
# Float32 rounding through some layers stays far below; what is above is another reading of the model.
_MISREAD = 0.05
# The grid of input classes runs a model some sixty times in float64: below a minute up to this size.
_MOST_WEIGHTS = 3_000_000


def numerics_legs(
    original: ir.Model,
    other: ir.Model,
    sizes: Mapping[str, int],
    inputs: Mapping[str, Any],
    *,
    given: bool = False,
    identical: bool = False,
    allowed: Collection[str] = (),
) -> dict[str, Leg]:
    """Runs both models on every class of inputs.

    Where the original cannot be run here, this says nothing of the other: the legs are then not run.

    Args:
        original: the model that decides.
        other: the model compared with it.
        sizes: of the symbolic dimensions.
        inputs: one set of inputs.
        given: the user gave these inputs, so no others are made.
        identical: the algebra leg has shown them to be one function over the reals.
        allowed: differences in special values that the user accepts by name.

    Returns:
        The legs "numerics" and "special", or "numerics" alone where only the original can be run.
    """
    if not installed():
        return _not_run("onnxruntime is not installed")
    try:
        with session_of(original, "original") as first:
            expected = first(inputs)
            try:
                with session_of(other, "other") as second:
                    self_test = max(
                        _self_test(original, inputs, expected), _self_test(other, inputs, second(inputs))
                    )
                    chosen = inputs if given else None
                    scores = _scores(original, other, first, second, sizes, chosen, identical, allowed)
            except CheckFailedError as error:
                return {"numerics": _missing(f"the second model cannot be run: {error.what}")}
    except CheckFailedError as error:
        return _not_run(f"the original cannot be run: {error.what}")
    except Unsupported as error:
        return _not_run(f"there is no exact result to compare with: {error}")
    sums = longest_new_sums(original, other, sizes) if identical else {}
    return {"numerics": _rounding(scores, self_test, sums), "special": _special(scores)}


def _scores(
    original: ir.Model,
    other: ir.Model,
    first: Session,
    second: Session,
    sizes: Mapping[str, int],
    given: Mapping[str, Any] | None,
    identical: bool,
    allowed: Collection[str],
) -> list[Score]:
    small = weights_of(original) <= _MOST_WEIGHTS
    return judge_models(
        original,
        other,
        first,
        second,
        sizes=sizes,
        given=given,
        classes=CLASSES if small else (),
        allowed=allowed,
        draws=2 if small else 1,
        identical=identical,
    )


def _not_run(reason: str) -> dict[str, Leg]:
    return {
        "numerics": Leg(None, {"reason": reason, "method": METHOD}, needed=False),
        "special": Leg(None, {"reason": "it looks at what numerics runs"}, needed=False),
    }


def _missing(reason: str) -> Leg:
    return Leg(None, {"reason": reason, "method": METHOD})


def _rounding(scores: list[Score], self_test: float, sums: Mapping[str, int]) -> Leg:
    """The leg; with L by output where sqrt(L) could stand in the place of 1."""
    worst = max(scores, key=lambda score: score.score)
    detail: dict[str, Any] = {
        "method": METHOD,
        "criterion": f"E_new <= {LIMIT:g} max(E_orig, kappa + 1)",
        "classes": len(scores),
        "worst_score": float(f"{worst.score:.3g}") if np.isfinite(worst.score) else str(worst.score),
        "worst_class": worst.class_name,
        "self_test": float(f"{self_test:.2g}"),
        **({"new_sums": dict(sums)} if sums else {}),
    }
    failed = next((s for s in scores if not s.accepted and not _by_special_values(s)), None)
    if failed is not None:
        reason = (
            failed.reason or f"an error of {failed.score:.3g} times what rounding explains (limit {LIMIT:g})"
        )
        return Leg(False, {"reason": f"{reason}, inputs '{failed.class_name}'", **detail})
    if self_test > _MISREAD:
        reason = f"this verifier reads the models otherwise than onnxruntime does, by {self_test:.2g}"
        return Leg(None, {"reason": reason, **detail})
    return Leg(True, detail)


def _by_special_values(score: Score) -> bool:
    return not score.accepted and bool(score.findings) and not np.isfinite(score.score)


def _special(scores: list[Score]) -> Leg:
    """NaN and infinities: where the original has numbers, the other must have them, too."""
    improved = sorted({s.class_name for s in scores for f in s.findings if f.kind == "improved"})
    flags = sorted({f.name for s in scores for f in s.findings if f.kind == "flag"})
    detail: dict[str, Any] = {"classes": len(scores), "improved": improved, "flags": flags}
    failed = next((s for s in scores if _by_special_values(s)), None)
    if failed is not None:
        return Leg(False, {"reason": f"{failed.reason}, inputs '{failed.class_name}'", **detail})
    return Leg(True, detail)


def _self_test(model: ir.Model, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> float:
    """How far the verifier's own reading of a model, in float64, is from what onnxruntime computes.

    Both graphs are read by one interpreter, so a shared misreading would cancel: this is where it shows.
    """
    read = run(model, Float64(), inputs)
    worst = 0.0
    for name, output in outputs.items():
        if isinstance(output, np.ndarray) and is_float(output.dtype) and output.size:
            wide = output.astype(np.float64)
            finite = np.isfinite(wide) & np.isfinite(read[name])
            gap = np.max(np.abs(wide - read[name])[finite], initial=0.0)
            worst = max(worst, float(gap / np.max(np.abs(wide[finite]), initial=1e-30)))
    return worst
