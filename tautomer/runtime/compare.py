"""Comparing two models by running both on onnxruntime with its own optimizations off."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from tautomer.errors import CheckFailedError, MissingToolError, TautomerError
from tautomer.graph.facts import bind_symbols
from tautomer.graph.reader import read_model
from tautomer.graph.writer import write_model
from tautomer.runtime.inputs import make_inputs

_SEEDS = (1, 2)
# A model's own noise is measured: how far its outputs move when float inputs move by an ulp or two. The
# rewrite may differ by a few times that, and by this many ulp of an output's largest value where the inputs
# are integers and nothing can be moved: 64 is eight layers of eight roundings, all in one direction.
_TIMES_NOISE = 16.0
_ULPS = 64.0
_ULP = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}
_SMALL_SIZES = (2, 5, 7, 3, 11, 6)


def compare(original: Path | ir.Model, rewritten: ir.Model) -> dict[str, Any]:
    """Runs both models on the same random inputs.

    Args:
        original: a path, or a model.
        rewritten: the model to compare with it.

    Returns:
        verdict ("AGREES" or "DISAGREES"), the largest error of each output in units of what is allowed, and
        for a disagreement the output and the reason.

    Raises:
        MissingToolError: onnxruntime is not installed.
        CheckFailedError: the original runs and the rewritten one does not, or neither can be run.
    """
    source = read_model(original) if isinstance(original, Path) else original
    with tempfile.TemporaryDirectory(prefix="tautomer-") as folder:
        first_path = original if isinstance(original, Path) else _written(source, Path(folder) / "original.onnx")
        first = _session(first_path)
        second = _session(_written(rewritten, Path(folder) / "rewritten.onnx"))
        worst: dict[str, float] = {}
        for seed in _SEEDS:
            inputs, expected = _runnable(source, first, seed)
            noise = _noise(first, inputs, expected)
            found = _run(second, inputs, "the rewritten model")
            for name, a, b, moved in zip(_outputs(first), expected, found, noise, strict=True):
                score, reason = _score(a, b, moved)
                worst[name] = max(worst.get(name, 0.0), score)
                if reason:
                    return {"verdict": "DISAGREES", "output": name, "reason": reason, "scores": worst}
    return {
        "verdict": "AGREES",
        "method": "onnxruntime, optimizations off, random inputs",
        "seeds": list(_SEEDS),
        "scores": {name: round(score, 4) for name, score in worst.items()},
    }


def _runtime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingToolError(
            "onnxruntime is needed to check the result", remedy="pip install 'tautomer[ort]', or pass --no-verify"
        ) from error
    return onnxruntime


def _session(path: Path) -> Any:
    onnxruntime = _runtime()
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own classes derive from nothing narrower
        raise CheckFailedError(
            f"onnxruntime does not load the model: {_first_line(error)}",
            where=path.name,
            remedy="pass --no-verify to do without the check",
        ) from error


def _written(model: ir.Model, path: Path) -> Path:
    write_model(model, path)
    return path


def _outputs(session: Any) -> list[str]:
    return [output.name for output in session.get_outputs()]


def _sizes(model: ir.Model) -> Iterator[dict[str, int]]:
    """Sizes for the symbolic dimensions to try: all different, then all equal, then 1."""
    names = list(bind_symbols(model))
    yield {name: _SMALL_SIZES[index % len(_SMALL_SIZES)] for index, name in enumerate(names)}
    if names:
        yield dict.fromkeys(names, 8)
        yield dict.fromkeys(names, 1)


def _runnable(model: ir.Model, session: Any, seed: int) -> tuple[dict[str, Any], list[Any]]:
    problem: TautomerError | None = None
    for sizes in _sizes(model):
        inputs = make_inputs(model, sizes, seed)
        try:
            return inputs, _run(session, inputs, "the original model")
        except CheckFailedError as error:
            problem = problem or error
    assert problem is not None
    raise problem


def _run(session: Any, inputs: dict[str, Any], which: str) -> list[Any]:
    try:
        return list(session.run(None, inputs))
    except Exception as error:  # onnxruntime's own classes derive from nothing narrower
        raise CheckFailedError(
            f"{which} cannot be run on made inputs: {_first_line(error)}", remedy="pass --no-verify to do without the check"
        ) from error


def _noise(session: Any, inputs: dict[str, Any], expected: list[Any]) -> list[Any]:
    rng = np.random.default_rng(97)
    moved = dict(inputs)
    for name, value in inputs.items():
        if value.dtype.name in _ULP:
            step = 1.0 + _ULP[value.dtype.name] * rng.choice([-1.0, 1.0], value.shape)
            moved[name] = (value.astype(np.float64) * step).astype(value.dtype)
    return [_difference(a, b) for a, b in zip(expected, _run(session, moved, "the original model"), strict=True)]


def _difference(a: Any, b: Any) -> float:
    if not isinstance(a, np.ndarray) or a.dtype.name not in _ULP or a.shape != b.shape:
        return 0.0
    with np.errstate(all="ignore"):
        gap = np.abs(a.astype(np.float64) - b.astype(np.float64))
    return float(np.max(gap[np.isfinite(gap)], initial=0.0))


def _score(a: Any, b: Any, noise: float) -> tuple[float, str]:
    """The error in units of what is allowed, and a reason when it is too large."""
    if not isinstance(a, np.ndarray):
        return (0.0, "") if _plain_equal(a, b) else (np.inf, "a sequence or map output differs")
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


def _plain_equal(a: Any, b: Any) -> bool:
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(not _score(x, y, 0.0)[1] for x, y in zip(a, b, strict=True))
    return bool(a == b)


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:300]


