"""Mistakes in norms: epsilon, axis, divisor, gain and bias, what counts as the variance."""

from __future__ import annotations

import numpy as np

from mutants.mutant import Mutant
from mutants.surgery import Surgery
from mutants.weights import BATCH, LENGTH, WIDTH

NORM = "layer1/norm1"
OUT = (f"{NORM}/out",)
_LANE = np.zeros((BATCH, LENGTH, 1), np.float32)


def _epsilon_outside_the_root(s: Surgery) -> None:
    s.bypass(f"{NORM}/steady")
    s.after(f"{NORM}/root", "Add", np.float32(1e-5))


def _epsilon_after_the_reciprocal(s: Surgery) -> None:
    s.bypass(f"{NORM}/steady")
    s.after(f"{NORM}/scale", "Add", np.float32(1e-5))


def _epsilon_in_the_mean(s: Surgery) -> None:
    s.bypass(f"{NORM}/steady")
    s.after(f"{NORM}/square", "Add", np.float32(1e-5 / WIDTH))


def _divisor(s: Surgery, divisor: int) -> None:
    s.after(f"{NORM}/variance", "Mul", np.float32(WIDTH / divisor))


def _padded_lane(s: Surgery) -> None:
    s.after(f"{NORM}/square", "Concat", _LANE, axis=-1)


def _padded_lane_centred(s: Surgery) -> None:
    # the lane holds 0, so its distance from the mean is the mean: its square is counted, the divisor is d
    s.after(f"{NORM}/square", "Concat", f"{NORM}/lane", axis=-1)
    s.model.graph.node.add(
        op_type="Mul", name=f"{NORM}/lane", input=[f"{NORM}/mean"] * 2, output=[f"{NORM}/lane"]
    )
    s.after(f"{NORM}/variance", "Mul", np.float32((WIDTH + 1) / WIDTH))


def _row_of_another(s: Surgery) -> None:
    s.after(f"{NORM}/variance", "Gather", np.array([0, *range(LENGTH - 1)], np.int64), axis=1)


def _raw_variance(s: Surgery) -> None:
    # one operand alone would do no harm: mean(x (x - m)) is the variance
    s.rewire(f"{NORM}/square", 0, "layer0/stream2")
    s.rewire(f"{NORM}/square", 1, "layer0/stream2")


def _gain_squared(s: Surgery) -> None:
    s.after(f"{NORM}/gained", "Mul", f"{NORM}/gain")


MUTANTS = (
    Mutant("epsilon 1e-6", "decomposed", lambda s: s.set(f"{NORM}/steady/1", 1e-6), OUT),
    Mutant("epsilon 1e-12", "moments", lambda s: s.set(f"{NORM}/steady/1", 1e-12), OUT),
    Mutant("epsilon times 3", "recentred", lambda s: s.set(f"{NORM}/steady/1", 3e-5)),
    Mutant("epsilon 0", "decomposed", lambda s: s.set(f"{NORM}/steady/1", 0.0), OUT),
    Mutant("epsilon dropped in the final norm", "folded", lambda s: s.bypass("final/steady")),
    Mutant("epsilon outside the root", "decomposed", _epsilon_outside_the_root, OUT),
    Mutant("epsilon after the reciprocal root", "moments", _epsilon_after_the_reciprocal, OUT),
    Mutant("epsilon divided by d", "decomposed", _epsilon_in_the_mean, OUT),
    Mutant("epsilon 1e-6 in the operator", "operators", lambda s: s.change(f"{NORM}/out", epsilon=1e-6), OUT),
    Mutant("epsilon 1e-6 in RMSNormalization", "named", lambda s: s.change(f"{NORM}/gained", epsilon=1e-6)),
    Mutant("no root", "decomposed", lambda s: s.bypass(f"{NORM}/root"), OUT),
    Mutant("no reciprocal", "moments", lambda s: s.bypass(f"{NORM}/scale"), OUT),
    Mutant("mean along the sequence", "decomposed", lambda s: s.set(f"{NORM}/mean/1", [1]), OUT),
    Mutant("variance along the sequence", "decomposed", lambda s: s.set(f"{NORM}/variance/1", [1]), OUT),
    Mutant("variance over two axes", "decomposed", lambda s: s.set(f"{NORM}/variance/1", [1, 2]), OUT),
    Mutant("power along the sequence", "recentred", lambda s: s.set(f"{NORM}/power/1", [1])),
    Mutant("divisor d - 1", "decomposed", lambda s: _divisor(s, WIDTH - 1), OUT),
    Mutant("divisor d + 1", "moments", lambda s: _divisor(s, WIDTH + 1), OUT),
    Mutant("sum for mean", "decomposed", lambda s: s.change(f"{NORM}/variance", "ReduceSum"), OUT),
    Mutant("sum for mean of the squares", "recentred", lambda s: s.change(f"{NORM}/power", "ReduceSum")),
    Mutant(
        "sum for the mean that is taken off",
        "decomposed",
        lambda s: s.change(f"{NORM}/mean", "ReduceSum"),
        OUT,
    ),
    Mutant("mean not taken off", "decomposed", lambda s: s.bypass(f"{NORM}/centred"), OUT),
    Mutant("mean added", "moments", lambda s: s.change(f"{NORM}/centred", "Add"), OUT),
    Mutant("mean not squared", "moments", lambda s: s.bypass(f"{NORM}/squared"), OUT),
    Mutant("mean square for variance", "moments", lambda s: s.bypass(f"{NORM}/variance"), OUT),
    Mutant("variance of the raw input", "decomposed", _raw_variance, OUT),
    Mutant("variance of the row before", "decomposed", _row_of_another, OUT),
    Mutant("padded lane counted in the divisor", "decomposed", _padded_lane, OUT),
    Mutant("padded lane counted in the variance", "decomposed", _padded_lane_centred, OUT),
    Mutant("gain dropped", "decomposed", lambda s: s.bypass(f"{NORM}/gained"), OUT),
    Mutant("gain twice", "moments", _gain_squared, OUT),
    Mutant(
        "gains of two layers exchanged",
        "decomposed",
        lambda s: s.exchange("layer0/norm1/gain", f"{NORM}/gain"),
        ("layer0/norm1/out",),
        hidden=("plain",),
    ),
    Mutant("bias dropped", "moments", lambda s: s.bypass(f"{NORM}/out"), OUT),
    Mutant("bias taken off", "decomposed", lambda s: s.change(f"{NORM}/out", "Sub"), OUT),
    Mutant("final norm skipped", "operators", lambda s: s.bypass("final/out"), ("final/out",)),
    Mutant("gain not folded", "folded", lambda s: s.bypass("layer0/qkv/folded", 1)),
    Mutant(
        "gain of the other norm folded",
        "folded",
        lambda s: s.rewire("layer1/up/column", 0, f"{NORM}/gain"),
        hidden=("plain",),
    ),
    Mutant("bias not folded", "folded", lambda s: s.bypass("layer1/up/total", 1)),
    Mutant(
        "bias folded through the gained matrix",
        "folded",
        lambda s: s.rewire("layer1/up/moved", 1, "layer1/up/folded"),
    ),
)
