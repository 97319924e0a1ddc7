"""Acceptance of rounding errors without a tolerance to pick.

For each row of each output, with y* the original graph in float64 on the same stored inputs and u the unit
roundoff of the type,

    E     = max |y - y*| / (u max |y*|)       of the original and of the rewritten graph
    kappa = max |y*(x +- 1 ulp) - y*(x)| / (u max |y*|)

and the rewrite is accepted where E_new <= 4 max(E_orig, kappa + 1): its error is explained by what the
original loses itself, or by what its inputs not being exact loses anyway. Where an output is computed from a
product of matrices that sums L terms which the original does not sum together, sqrt(L) stands in the place of
1 for that output, once the two are known to be one function. That is what rounding makes of such a sum
(Higham and Mary, SIAM J. Sci. Comput. 41 (2019), A2815); where all terms are equal, roundings add up, and the
original's order may have been a lucky one.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import DTypeLike, NDArray

from tautomer.graph.semantics.domain import Unsupported, is_float
from tautomer.graph.semantics.mathematics import Float64
from tautomer.verify.classes import CLASSES, InputClass, are_scores, moved
from tautomer.verify.constants import format_of
from tautomer.verify.input_roles import data_inputs
from tautomer.verify.inputs import make_inputs
from tautomer.verify.interpreter import Constants, run
from tautomer.verify.new_sums import longest_new_sums
from tautomer.verify.special import Finding, examine, refused
from tautomer.verify.weights import is_weight

Inputs = Mapping[str, Any]
Run = Callable[[Inputs], Any]
Rows = NDArray[np.float64]

LIMIT = 4.0
"""The one chosen number. Correct kernels were measured up to 2, wrong ones from 17 up or not finite."""
_DRAWS = 4  # perturbations; each moves every element of every row at random
_MORE_DRAWS = 8
_NO_DIGIT = 0.5  # of a row's largest element: an error that leaves nothing to keep
_MOST_KEPT = 1 << 20  # elements of a weight whose perturbation is kept for the next class of inputs


@dataclass(frozen=True)
class Score:
    """How the rewritten graph does on one input, at its worst row.

    Attributes:
        e_orig: the error of the original there.
        e_new: the error of the rewritten graph there.
        kappa: the change of the exact result under one ulp of the inputs there.
        score: e_new / max(e_orig, kappa + 1), or sqrt(L) for 1.
        accepted: the score is within the limit everywhere, and no special value differs.
        class_name: the class of the input.
        worst_row: output and row.
        reason: why it is not accepted, or "".
        findings: what special values did.
    """

    e_orig: float
    e_new: float
    kappa: float
    score: float
    accepted: bool
    class_name: str
    worst_row: tuple[str, int]
    reason: str = ""
    findings: tuple[Finding, ...] = ()


def judge(
    original: Run,
    rewritten: Run,
    oracle: Run,
    inputs: Inputs,
    dtype: DTypeLike | None = None,
    *,
    class_name: str = "",
    allowed: Collection[str] = (),
    perturbed: Callable[[int], Any] | None = None,
    draws: int = _DRAWS,
    floors: Mapping[str, float] | None = None,
) -> Score:
    """Judges the rewritten function on one input.

    Args:
        original: the function as it was, in its own type; gives an array, a sequence of them, or a mapping.
        rewritten: the function as it is now.
        oracle: the original in float64 or better; called with float64 arrays too.
        inputs: arrays by name, of the types that the functions take.
        dtype: the type whose roundoff is the unit; that of each output when left out.
        class_name: for the report.
        allowed: options that are accepted, such as "safe-softmax".
        perturbed: gives the oracle's outputs under the i-th perturbation; when left out, every float input
            moves by an ulp.
        draws: how many perturbations.
        floors: what rounding may lose where nothing else explains it, by output; 1 for those that it lacks.
    """
    a, b, exact = _named(original(inputs)), _named(rewritten(inputs)), _named(oracle(inputs))
    nudged = perturbed or (lambda i: oracle(_nudged(inputs, i)))
    changes = [_named(nudged(i)) for i in range(draws)]
    worst = Score(0.0, 0.0, 0.0, 0.0, True, class_name, ("", 0))
    findings: list[Finding] = []
    for name, first in a.items():
        second = b.get(name)
        if second is None or second.shape != first.shape or second.dtype != first.dtype:
            reason = f"'{name}' has another shape or type, or is missing"
            return replace(worst, score=np.inf, accepted=False, worst_row=(name, 0), reason=reason)
        if not is_float(first.dtype):
            place = _differing(first, second, exact[name])
            if place is not None:
                reason = f"'{name}' has other integers"
                return replace(worst, score=np.inf, accepted=False, worst_row=(name, place), reason=reason)
            continue
        found = examine(*(_rows(x) for x in (first, second, exact[name])))
        findings += found
        stop = refused(found, allowed)
        if stop is not None:
            return replace(
                worst,
                score=np.inf,
                accepted=False,
                worst_row=(name, stop.first),
                reason=f"'{name}': {stop.reason}, in {stop.rows} rows",
                findings=tuple(findings),
            )
        changed = [c[name] for c in changes]
        floor = (floors or {}).get(name, 1.0)
        score = _measured(name, first, second, exact[name], changed, dtype or first.dtype, floor)
        if score.score > worst.score or not worst.worst_row[0]:
            worst = replace(score, class_name=class_name)
    return replace(worst, findings=tuple(findings))


def _measured(
    name: str,
    first: Any,
    second: Any,
    exact: Any,
    changes: Sequence[Any],
    dtype: DTypeLike,
    floor: float,
) -> Score:
    """The criterion on the rows of one output."""
    kind = format_of(dtype)
    ys = _rows(exact)
    if not ys.size:
        return Score(0.0, 0.0, 0.0, 0.0, True, "", (name, 0))
    # below the least normal number spacing is absolute, and u * tiny is half of it
    scale = np.maximum(np.max(np.abs(np.where(np.isfinite(ys), ys, 0.0)), axis=-1), kind.tiny)

    # what an element is worth where the original has no number was said with the special values
    judged = np.isfinite(_rows(first)) & np.isfinite(ys)

    def error(x: Any) -> Rows:
        with np.errstate(all="ignore"):
            gap = np.abs(_rows(x) - ys)
        counted = np.where(judged & np.isfinite(gap), gap, 0.0)
        return np.asarray(np.max(counted, axis=-1) / (kind.roundoff * scale))

    e_orig, e_new = error(first), error(second)
    kappa = np.max([error(x) for x in changes], axis=0) if changes else np.zeros_like(e_orig)
    scores = e_new / np.maximum(e_orig, kappa + floor)
    row = int(np.argmax(scores))
    score = float(scores[row])
    reason = "" if score <= LIMIT else f"'{name}': an error of {score:.3g} times what rounding explains"
    return Score(
        float(e_orig[row]),
        float(e_new[row]),
        float(kappa[row]),
        score,
        score <= LIMIT,
        "",
        (name, row),
        reason,
    )


def _named(outputs: Any) -> dict[str, Any]:
    if isinstance(outputs, Mapping):
        return {str(name): np.asarray(value) for name, value in outputs.items()}
    if isinstance(outputs, (list, tuple)):
        return {str(i): np.asarray(value) for i, value in enumerate(outputs)}
    return {"output": np.asarray(outputs)}


def _rows(x: Any) -> Rows:
    wide = np.asarray(x).astype(np.float64)
    return wide.reshape(-1, wide.shape[-1]) if wide.ndim and wide.size else wide.reshape(-1, 1)


def _differing(first: Any, second: Any, exact: Any) -> int | None:
    """The first row where integers differ; a rewritten one that is the exact one is right."""
    wrong = (first != second) & (second != exact)
    return int(np.flatnonzero(_rows(wrong).any(-1))[0]) if wrong.any() else None


def _nudged(inputs: Inputs, draw: int) -> dict[str, Any]:
    rng = np.random.default_rng([1, draw])
    return {name: moved(x, rng) if _moves(x) else x for name, x in inputs.items()}


def _moves(x: Any) -> bool:
    """True for float data; a mask of 0 and 1 is what it is, and not the rounding of anything."""
    return is_float(x.dtype) and not np.isin(x.astype(np.float64), (0.0, 1.0)).all()


def judge_kernel(
    original: Run,
    rewritten: Run,
    oracle: Run,
    shape: Sequence[int],
    dtype: DTypeLike,
    *,
    operands: Inputs | None = None,
    classes: Sequence[InputClass] = CLASSES,
    allowed: Collection[str] = (),
    seed: int = 1,
) -> list[Score]:
    """Judges a kernel on rows of every class, given as the input "x" beside fixed operands."""
    return [
        judge(
            original,
            rewritten,
            oracle,
            {"x": each.rows(shape, dtype, seed), **(operands or {})},
            dtype,
            class_name=each.name,
            allowed=allowed,
        )
        for each in classes
    ]


def judge_models(
    original: ir.Model,
    rewritten: ir.Model,
    run_original: Run,
    run_rewritten: Run,
    *,
    sizes: Mapping[str, int],
    given: Inputs | None = None,
    seeds: Sequence[int] = (1,),
    classes: Sequence[InputClass] = CLASSES,
    allowed: Collection[str] = (),
    draws: int = 2,
    identical: bool = False,
) -> list[Score]:
    """Judges a rewritten model: on made inputs, and with each float input replaced by rows of every class.

    Args:
        original: the model as it was; evaluated in float64 as the oracle.
        rewritten: the model as it is now.
        run_original: runs the original in its own type; gives its outputs by name or in order.
        run_rewritten: runs the rewritten model.
        sizes: a size for each symbolic dimension.
        given: inputs to take instead of made ones.
        seeds: of the made inputs.
        classes: classes for float inputs that are no masks; those of scores only for what a softmax takes.
        allowed: options that are accepted, such as "safe-softmax".
        draws: perturbations of inputs and weights together.
        identical: both are known to be one function over the reals, so that where the original overflows
            even in float64 the rewritten graph may say what the result is.

    Raises:
        Unsupported: an operator has no meaning in float64, or the model itself computes in float64.
    """
    names = [str(value.name) for value in original.graph.outputs]
    if names != [str(value.name) for value in rewritten.graph.outputs]:
        raise Unsupported("model", "the outputs have other names")
    if any(value.dtype == ir.DataType.DOUBLE for value in original.graph.outputs):
        raise Unsupported("model", "float64 outputs need a wider oracle than float64")

    nudged_weights = functools.cache(_nudged_weights)

    @functools.cache
    def floors() -> dict[str, float]:
        found = longest_new_sums(original, rewritten, sizes) if identical else {}
        return {name: float(np.sqrt(terms)) for name, terms in found.items()}

    def score(inputs: Inputs, class_name: str, only: Sequence[str] = names) -> Score:
        done = scored(inputs, class_name, draws, {}, only)
        # of a row with few elements that differ, two draws may both have missed how far it moves
        missed = not done.accepted and np.isfinite(done.score)
        return scored(inputs, class_name, _MORE_DRAWS, floors(), only) if missed else done

    def scored(
        inputs: Inputs, class_name: str, draws: int, floors: Mapping[str, float], only: Sequence[str]
    ) -> Score:
        def chosen(outputs: Any) -> dict[str, Any]:
            found = _ordered(outputs, names)
            return {name: found[name] for name in only}

        def perturbed(draw: int) -> dict[str, Any]:
            return run(original, Float64(), _nudged(inputs, draw), constants=nudged_weights(draw))

        return judge(
            lambda x: chosen(run_original(x)),
            lambda x: chosen(run_rewritten(x)),
            lambda x: oracle(x, original, rewritten) if identical else run(original, Float64(), x),
            inputs,
            class_name=class_name,
            allowed=allowed,
            perturbed=perturbed,
            draws=draws,
            floors=floors,
        )

    def judged(inputs: Inputs, base: Inputs, each: InputClass) -> Iterator[Score]:
        """The inputs of a class together, unless new sums have nothing to keep: then each on its own."""
        done = score(inputs, each.name)
        changed = [name for name in inputs if inputs[name] is not base[name]]
        summed = [] if done.accepted or each.special or len(changed) < 2 else list(floors())
        if not summed or not nothing_right(inputs, summed):
            yield done
            return
        if others := [name for name in names if name not in summed]:
            yield score(inputs, each.name, others)
        for name in changed:
            yield score({**base, name: inputs[name]}, f"{each.name}, '{name}' alone")

    def nothing_right(inputs: Inputs, summed: Sequence[str]) -> bool:
        own, exact = _ordered(run_original(inputs), names), oracle(inputs, original, rewritten)
        return not any(_right(own[name], exact[name]) for name in summed)

    scores = []
    for seed in seeds:
        base = dict(given) if given is not None else make_inputs(original, sizes, seed)
        scores.append(score(base, "as made" if given is None else "as given"))
        if given is None:
            for each, inputs in of_classes(original, sizes, base, classes, seed):
                scores += judged(inputs, base, each)
    return scores


def _right(own: Any, exact: Any) -> bool:
    """Whether an output has a digit right in some row, or no finite number is meant in one."""
    a, b = _rows(own), _rows(exact)
    with np.errstate(all="ignore"):
        gap, size = (np.max(np.abs(x), axis=-1, initial=0.0) for x in (a - b, b))
    return bool(np.any((gap <= _NO_DIGIT * size) | ~np.isfinite(b).all(-1)))


def of_classes(
    model: ir.Model, sizes: Mapping[str, int], base: Inputs, classes: Sequence[InputClass], seed: int
) -> Iterator[tuple[InputClass, Inputs]]:
    """The inputs with all float data replaced by rows of a class, for every class that suits some of them."""
    data = data_inputs(model, sizes)
    scored = {str(value.name): are_scores(value) for value in model.graph.inputs}
    for each in classes:
        suited = [name for name in data if scored[name] or not each.scores]
        changed = {n: each.rows(base[n].shape, base[n].dtype, seed) for n in suited}
        if changed:
            yield each, {**base, **changed}


def oracle(inputs: Inputs, original: ir.Model, rewritten: ir.Model) -> dict[str, Any]:
    """The original in float64; where it overflows on finite inputs, the rewritten graph in float64."""
    exact = run(original, Float64(), inputs)
    if not all(np.all(np.isfinite(x.astype(np.float64))) for x in inputs.values() if is_float(x.dtype)):
        return exact  # of an infinity or NaN each graph makes what it makes
    return filled(exact, lambda: run(rewritten, Float64(), inputs))


def filled(exact: dict[str, Any], other: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Float results with their non-finite elements taken from another evaluation of the same function."""
    if all(np.all(np.isfinite(x)) for x in exact.values() if is_float(np.asarray(x).dtype)):
        return exact
    spare = other()
    return {
        name: np.where(np.isfinite(x), x, spare[name]) if is_float(np.asarray(x).dtype) else x
        for name, x in exact.items()
    }


def _ordered(outputs: Any, names: Sequence[str]) -> dict[str, Any]:
    if isinstance(outputs, Mapping):
        return {name: outputs[name] for name in names}
    return dict(zip(names, outputs, strict=True))


def _nudged_weights(draw: int) -> Constants:
    known: dict[ir.Value, Any] = {}  # the same for every class of inputs

    def constants(value: ir.Value) -> Any:
        if value in known:
            return known[value]
        tensor = value.const_value
        if tensor is None or not tensor.dtype.is_floating_point():
            return None
        array = tensor.numpy()
        if not is_weight(array):
            return None
        made = moved(array, np.random.default_rng([2, draw, zlib.crc32(str(value.name).encode())]))
        if made.size <= _MOST_KEPT:
            known[value] = made
        return made

    return constants
