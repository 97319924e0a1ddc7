"""The algebra leg: both graphs evaluated exactly on the same inputs, with no tolerance to choose.

Twice, with the stored weights (real constants, ties and zeros) and with random ones (the rule itself,
which a bias that happens to be 0 would hide). The first disagreement is localised by fingerprints.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx_ir as ir

from tautomer.graph.mapped import part_of
from tautomer.graph.semantics.casts import lift
from tautomer.graph.semantics.domain import Unsupported
from tautomer.graph.semantics.mathematics import Float64
from tautomer.graph.slabs import rows
from tautomer.graph.step_facts import step_facts
from tautomer.verify.allowance import allowing
from tautomer.verify.clues import clue
from tautomer.verify.exact import Exact, compare_values
from tautomer.verify.fingerprint import Divergence, Prints, first_divergence, matches
from tautomer.verify.interpreter import run
from tautomer.verify.provenance import Provenance, reader, sources_of, weight, written_in_nodes
from tautomer.verify.verdict import Leg
from tautomer.verify.weights import is_weight, randomised, strangers

Inputs = Mapping[str, Any]


@dataclass
class Check:
    """One exact comparison of two models.

    Attributes:
        weights: "stored" or "random".
        method: the domain's name.
        outputs: elements, and how many differ or could not be told, by output.
        divergence: where they part, when they do.
        matched: tensors of the original with a counterpart, and how many there are.
        assumptions: what was read or taken for granted.
        proves: whether a difference found is one between real numbers for certain.
    """

    weights: str
    method: str
    outputs: dict[str, dict[str, int]] = field(default_factory=dict)
    divergence: Divergence | None = None
    matched: tuple[int, int] | None = None
    assumptions: tuple[str, ...] = ()
    proves: bool = True

    @property
    def equal(self) -> bool | None:
        """True or False; None when some element could not be told."""
        if any(counts["different"] for counts in self.outputs.values()):
            return False
        return None if any(counts["undecided"] for counts in self.outputs.values()) else True


def check(
    original: ir.Model,
    other: ir.Model,
    inputs: Inputs,
    make_exact: Callable[[], Exact],
    *,
    random_weights: int | None = None,
    provenance: Provenance | None = None,
) -> Check:
    """Compares two models exactly on one set of inputs.

    Args:
        original: the model that decides.
        other: the model compared with it.
        inputs: arrays by name, for both.
        make_exact: makes the domain.
        random_weights: a seed to replace the weights by; None keeps the stored ones.
        provenance: what constants of the second model stand for, where a rewrite made them.

    Raises:
        Unsupported: an operator has no meaning in this domain.
    """
    exact = make_exact()
    prints = Prints(exact.slabs), Prints(exact.slabs)
    m = exact.domain
    sources, fixed = sources_of(original), written_in_nodes(original)
    constants = _Constants(m, random_weights, sources, provenance or {}, fixed)
    given = {
        name: exact.enter(x) if np.asarray(x).dtype.kind not in "biuSO" else x for name, x in inputs.items()
    }
    first = run(
        original,
        m,
        given,
        constants=constants.stored,
        rows=constants.stored_rows,
        observe=prints[0].observe,
    )
    second = run(
        other,
        m,
        given,
        constants=constants.derived,
        rows=constants.derived_rows,
        observe=prints[1].observe,
    )
    results = first, second
    done = Check("stored" if random_weights is None else "random", exact.name, proves=exact.proves)
    for name, value in results[0].items():
        found = compare_values(exact, value, results[1][name])
        done.outputs[name] = {
            "elements": found.elements,
            "different": found.different,
            "undecided": found.undecided,
        }
    if done.equal is False and (parted := first_divergence(*prints)) is not None:
        done.divergence = replace(parted, clue=clue(parted, *prints, other))
    done.matched = matches(*prints)
    done.assumptions = tuple(exact.assumptions)
    return done


@dataclass(frozen=True)
class _Constants:
    """What stands for a stored constant in one check."""

    m: Any
    seed: int | None
    sources: Mapping[str, ir.TensorProtocol]
    provenance: Provenance
    fixed: frozenset[str]
    weights: dict[int, bool] = field(default_factory=dict)

    def stored(self, value: ir.Value) -> Any:
        """The constant itself, or the random one that takes its place."""
        tensor = value.const_value
        if self.seed is None or tensor is None or not tensor.dtype.is_floating_point():
            return None
        return weight(self.m, np.asarray(tensor.numpy()), self.seed)

    def derived(self, value: ir.Value) -> Any:
        """The expression of a constant that a rewrite made; any other as it is stored."""
        expression = self.provenance.get(str(value.name))
        if expression is None or value.producer() is not None:
            return self.stored(value)
        return expression.value(self.m, reader(self.m, self.sources, self.seed, self.fixed))

    def stored_rows(self, value: ir.Value, positions: Any) -> Any:
        """Some rows of what `stored` gives; None where the rows as they are stored do."""
        tensor = value.const_value
        if self.seed is None or tensor is None or not tensor.dtype.is_floating_point():
            return None
        return self.replaced(tensor, np.asarray(tensor.numpy())[positions])

    def derived_rows(self, value: ir.Value, positions: Any) -> Any:
        """Some rows of what `derived` gives; None where they need more than rows."""
        expression = self.provenance.get(str(value.name))
        if expression is None:
            return self.stored_rows(value, positions)
        if any(name not in self.sources for name in expression.sources):
            return None  # the whole is refused with a reason
        return rows(expression, step_facts(expression, self.sources), self.m, self.part, positions)

    def part(self, name: str, axis: int | None, index: Any) -> Any:
        """Some positions of a source, lifted; only they are read of what is mapped."""
        tensor = self.sources[name]
        taken = part_of(tensor, axis, index)
        return lift(self.m, taken if name in self.fixed else self.replaced(tensor, taken))

    def replaced(self, tensor: ir.TensorProtocol, taken: Any) -> Any:
        """A part of a tensor, random where the tensor is a weight."""
        if self.seed is None or not tensor.dtype.is_floating_point():
            return taken
        if id(tensor) not in self.weights:  # asked of the whole: a row may look like a mask
            self.weights[id(tensor)] = is_weight(np.asarray(tensor.numpy()))
        return randomised(taken, self.seed) if self.weights[id(tensor)] else taken


def algebra_leg(
    original: ir.Model,
    other: ir.Model,
    inputs: Sequence[Inputs],
    domains: Sequence[Callable[[], Exact]],
    *,
    provenance: Provenance | None = None,
    seed: int = 1,
    roundings: Sequence[Inputs] | None = None,
) -> tuple[Leg, Check | None]:
    """The leg for two models: stored weights on every set of inputs, random ones on one of each size.

    Args:
        original: the model that decides.
        other: the model compared with it.
        inputs: made or given inputs.
        domains: to be tried in order.
        provenance: what constants of the second model stand for, where a rewrite made them.
        seed: of the random weights.
        roundings: accept a difference that the rounding of constants of one model only explains, on the
            inputs and on these; None accepts none.

    Returns:
        The leg, and the check that failed, if one did.
    """
    checks: list[Check] = []
    skipped = ""

    def told(one: Inputs, weights: int | None = None) -> Check:
        """The first check that can tell; a domain that lacks something leaves it to the next."""
        lacking: Unsupported | None = None
        done: Check | None = None
        for make_exact in domains:
            try:
                done = check(original, other, one, make_exact, random_weights=weights, provenance=provenance)
            except Unsupported as error:
                lacking = lacking or error
                continue
            if done.equal or (done.equal is False and done.proves):
                return done
        if done is None:
            assert lacking is not None
            raise lacking
        return done

    try:
        for one in inputs:
            checks.append(told(one))
            if checks[-1].equal is not True:
                leg = _leg(checks, skipped, original, other, inputs)
                if checks[-1].equal is None or roundings is None:
                    return leg, checks[-1]
                counts = checks[-1].outputs.items()
                different = [name for name, count in counts if count["different"]]
                leg = allowing(leg, different, original, other, inputs, roundings)
                return leg, None if leg.passed else checks[-1]
        made = provenance or {}
        used = {name for expression in made.values() for name in expression.sources}
        unshared = strangers(original, other, made, used)
        if unshared:
            skipped = f"not done: '{unshared[0]}' is a weight of one model only"
        else:
            sizes = {tuple(np.shape(x) for x in one.values()): one for one in reversed(inputs)}
            checks += [told(one, seed) for one in reversed(sizes.values())]
    except Unsupported as error:
        reason = f"cannot be evaluated exactly: {error}"
        return Leg(None, {"reason": reason, **_detail(checks, skipped)}, _assumed(checks)), None
    failed = next((one for one in checks if one.equal is not True), None)
    return _leg(checks, skipped, original, other, inputs), failed


def _float64_agrees(original: ir.Model, other: ir.Model, inputs: Inputs) -> bool:
    """Whether two models agree in float64 to nine digits: then a doubtful difference stays doubtful."""
    first, second = (run(model, Float64(), inputs) for model in (original, other))
    return all(
        np.allclose(x, second[name], rtol=1e-9, atol=1e-12, equal_nan=True) for name, x in first.items()
    )


def _leg(
    checks: Sequence[Check], skipped: str, original: ir.Model, other: ir.Model, inputs: Sequence[Inputs]
) -> Leg:
    failed = next((one for one in checks if one.equal is not True), None)
    if failed is None:
        return Leg(True, _detail(checks, skipped), _assumed(checks))
    counts = [(name, c) for name, c in failed.outputs.items() if c["different"] or c["undecided"]]
    name, count = counts[0]
    if failed.equal is None:
        how_many = f"{count['undecided']} of {count['elements']} elements"
        reason = f"{how_many} of '{name}' could not be told by {failed.method}"
        return Leg(None, {"reason": reason, **_detail(checks, skipped)}, _assumed(checks))
    if not failed.proves and _float64_agrees(original, other, inputs[0]):
        reason = f"'{name}' differs in {failed.method}, which knows some identities only, and not in float64"
        return Leg(None, {"reason": reason, **_detail(checks, skipped)}, _assumed(checks))
    how_many = f"{count['different']} of {count['elements']} elements"
    reason = f"{how_many} of '{name}' differ with {failed.weights} weights"
    return Leg(False, {"reason": reason, **_detail(checks, skipped)}, _assumed(checks))


def _assumed(checks: Sequence[Check]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(note for one in checks for note in one.assumptions))


def _detail(checks: Sequence[Check], skipped: str) -> dict[str, Any]:
    detail: dict[str, Any] = {
        "checks": [
            {
                "weights": one.weights,
                "method": one.method,
                "outputs": one.outputs,
                "tensors_matched": list(one.matched or ()),
            }
            for one in checks
        ]
    }
    return {**detail, "random_weights": skipped} if skipped else detail
