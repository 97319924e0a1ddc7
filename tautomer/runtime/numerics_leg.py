"""The numerics leg: both models run by onnxruntime as they are written, and their rounding compared.

The original's own noise is measured, not chosen: how far its outputs move when its float inputs move by an
ulp. The other model may be off by a few times that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from tautomer.errors import CheckFailedError
from tautomer.graph.semantics.mathematics import Float64, Unsupported
from tautomer.runtime.session import installed, session_of
from tautomer.verify.interpreter import run
from tautomer.verify.verdict import Leg

# Where the inputs are integers nothing can be moved: 64 ulp of an output's largest value are eight layers of
# eight roundings, all in one direction.
_TIMES_NOISE = 16.0
_ULPS = 64.0
_ULP = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}
# Float32 rounding through some layers stays far below; half precision does not, and says so.
_MISREAD = 0.05
METHOD = "onnxruntime, its optimizations off"


def numerics_leg(original: ir.Model, other: ir.Model, inputs: Sequence[Mapping[str, Any]]) -> Leg | str:
    """Runs both models on the same inputs.

    Returns:
        The leg, or the reason why the original cannot be run here at all.
    """
    if not installed():
        return "onnxruntime is not installed"
    try:
        with session_of(original, "original") as first:
            expected = [(one, first(one), first(_moved(one))) for one in inputs]
    except CheckFailedError as error:
        return f"the original cannot be run: {error.what}"
    scores: dict[str, float] = {}
    self_test = _self_test(original, inputs[0], expected[0][1])
    try:
        with session_of(other, "other") as second:
            self_test = max(self_test, _self_test(other, inputs[0], second(inputs[0])))
            for one, outputs, moved in expected:
                reason = _compare(outputs, moved, second(one), scores)
                if reason:
                    return Leg(False, {"reason": reason, "method": METHOD, "scores": scores})
    except CheckFailedError as error:
        return Leg(None, {"reason": f"the second model cannot be run: {error.what}", "method": METHOD})
    rounded = {name: round(score, 4) for name, score in scores.items()}
    detail = {"method": METHOD, "inputs": len(inputs), "scores": rounded, "self_test": float(f"{self_test:.2g}")}
    if self_test > _MISREAD:
        reason = f"this verifier reads the models otherwise than onnxruntime does, by {self_test:.2g}"
        return Leg(None, {"reason": reason, **detail})
    return Leg(True, detail)


def _self_test(model: ir.Model, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> float:
    """How far the verifier's own reading of a model, in float64, is from what onnxruntime computes.

    Both graphs are read by one interpreter, so a shared misreading would cancel: this is where it shows.
    """
    try:
        read = run(model, Float64(), inputs)
    except Unsupported:
        return 0.0  # the algebra leg says so
    worst = 0.0
    for name, output in outputs.items():
        if isinstance(output, np.ndarray) and output.dtype.name in _ULP and output.size:
            top = float(np.max(np.abs(output[np.isfinite(output)].astype(np.float64)), initial=1e-30))
            worst = max(worst, _difference(output, np.asarray(read[name])) / top)
    return worst


def _compare(
    outputs: Mapping[str, Any], moved: Mapping[str, Any], found: Mapping[str, Any], scores: dict[str, float]
) -> str:
    for name, expected in outputs.items():
        score, reason = _score(expected, found[name], _difference(expected, moved[name]))
        scores[name] = max(scores.get(name, 0.0), score)
        if reason:
            return f"'{name}': {reason}"
    return ""


def _moved(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs with every float moved by one ulp, up or down."""
    rng = np.random.default_rng(97)
    moved = dict(inputs)
    for name, value in inputs.items():
        if value.dtype.name in _ULP:
            step = 1.0 + _ULP[value.dtype.name] * rng.choice([-1.0, 1.0], value.shape)
            moved[name] = (value.astype(np.float64) * step).astype(value.dtype)
    return moved


def _difference(a: Any, b: Any) -> float:
    if not isinstance(a, np.ndarray) or a.dtype.name not in _ULP or a.shape != b.shape:
        return 0.0
    with np.errstate(all="ignore"):
        gap = np.abs(a.astype(np.float64) - b.astype(np.float64))
    return float(np.max(gap[np.isfinite(gap)], initial=0.0))


def _score(a: Any, b: Any, noise: float) -> tuple[float, str]:
    """The error in units of what is allowed, and a reason when it is too large."""
    if not isinstance(a, np.ndarray):
        return (0.0, "") if _same(a, b) else (np.inf, "a sequence or map differs")
    if a.shape != b.shape or a.dtype != b.dtype:
        return np.inf, f"{a.dtype}{list(a.shape)} became {b.dtype}{list(b.shape)}"
    if a.dtype.name not in _ULP:
        different = int(np.sum(a != b))
        return (np.inf, f"{different} of {a.size} elements differ") if different else (0.0, "")
    finite = np.isfinite(a.astype(np.float64))
    if np.any(finite & ~np.isfinite(b.astype(np.float64))):
        return np.inf, "it has NaN or infinity where the original has numbers"
    top = float(np.max(np.abs(a[finite].astype(np.float64)), initial=0.0))
    allowed = _TIMES_NOISE * noise + _ULPS * _ULP[a.dtype.name] * top + 1e-300
    score = _difference(a, b) / allowed
    return score, f"an error of {score:.3g} times what rounding explains" if score > 1.0 else ""


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(not _score(x, y, 0.0)[1] for x, y in zip(a, b, strict=True))
    return bool(a == b)


