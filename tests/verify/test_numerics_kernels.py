"""Kernels that are right and kernels that are wrong, and what a tolerance says about each."""

from __future__ import annotations

import numpy as np
import pytest

from tautomer.verify.classes import CLASSES, class_named
from tautomer.verify.numerics import LIMIT, judge, judge_kernel
from tautomer.verify.special import SAFE_SOFTMAX

F = np.float32
ROWS, WIDTH, BLOCK = 16, 768, 128
EPSILON = 1e-5
_RNG = np.random.default_rng(3)
GAMMA = (1.0 + 0.1 * _RNG.standard_normal(WIDTH)).astype(F)
BETA = (0.5 * _RNG.standard_normal(WIDTH)).astype(F)

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # overflow and nan are what is tested


def _x(inputs):
    return inputs["x"]


# --- norms ----------------------------------------------------------------------------------------------


def layer_norm(inputs, kind=F):
    x, gamma, beta = (inputs[n].astype(kind) for n in ("x", "gamma", "beta"))
    centred = x - x.mean(-1, keepdims=True, dtype=kind)
    variance = np.mean(centred * centred, -1, keepdims=True, dtype=kind)
    return centred / np.sqrt(variance + kind(EPSILON)) * gamma + beta


def layer_norm_exactly(inputs):
    return layer_norm(inputs, np.float64)


def one_pass_layer_norm(inputs):
    x, gamma, beta = _x(inputs), inputs["gamma"], inputs["beta"]
    mean = x.mean(-1, keepdims=True, dtype=F)
    variance = np.maximum(np.mean(x * x, -1, keepdims=True, dtype=F) - mean * mean, F(0))
    return (x - mean) / np.sqrt(variance + F(EPSILON)) * gamma + beta


def _rms(centred, gamma, beta):
    square = np.mean(centred * centred, -1, keepdims=True, dtype=F)
    return centred / np.sqrt(square + F(EPSILON)) * gamma + beta


def rms_of_recentred(inputs):
    """The writers of the residual were recentred: what arrives is x - mean(x), rounded once."""
    x = _x(inputs).astype(np.float64)
    return _rms((x - x.mean(-1, keepdims=True)).astype(F), inputs["gamma"], inputs["beta"])


def _lanes(x, count):
    """The sum as a vectorised loop makes it: `count` running sums, and then the sum of these."""
    return np.add.accumulate(x.reshape(len(x), -1, count), 1, dtype=F)[:, -1].sum(-1, keepdims=True, dtype=F)


def centre_then_rms(inputs):
    x = _x(inputs)
    mean = _lanes(x, 64) / F(x.shape[-1])  # four registers of 16
    return _rms(x - mean, inputs["gamma"], inputs["beta"])


def crms(inputs):
    """The last coordinate is implied: minus the sum of the others, with all their roundings."""
    x = _x(inputs).astype(np.float64)
    centred = (x - x.mean(-1, keepdims=True)).astype(F)[:, :-1]
    total = np.add.accumulate(centred, -1, dtype=F)[:, -1:]
    square = (np.sum(centred * centred, -1, keepdims=True, dtype=F) + total * total) / F(x.shape[-1])
    return (
        np.concatenate([centred, -total], -1) / np.sqrt(square + F(EPSILON)) * inputs["gamma"]
        + inputs["beta"]
    )


# --- softmax --------------------------------------------------------------------------------------------


def softmax(inputs, kind=F):
    x = _x(inputs).astype(kind)
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True, dtype=kind)


def softmax_exactly(inputs):
    return softmax(inputs, np.float64)


def _online(inputs, guarded):
    """One pass for maximum and sum, block by block."""
    x = _x(inputs)
    top = np.full((len(x), 1), -np.inf, F)
    total = np.zeros((len(x), 1), F)
    for begin in range(0, x.shape[1], BLOCK):
        block = x[:, begin : begin + BLOCK]
        higher = np.maximum(top, block.max(-1, keepdims=True))
        base = np.where(np.isneginf(higher), F(0), higher) if guarded else higher
        total = total * np.exp(top - base) + np.exp(block - base).sum(-1, keepdims=True, dtype=F)
        top = higher
    base = np.where(np.isneginf(top), F(0), top) if guarded else top
    scale = np.where(total == 0, F(1), total) if guarded else total
    return np.exp(x - base) / scale


def online_softmax(inputs):
    return _online(inputs, guarded=True)


def online_softmax_unguarded(inputs):
    return _online(inputs, guarded=False)


LOG2E, LN2_HIGH, LN2_LOW = F(1.44269504), F(0.693359375), F(-2.12194440e-4)


def mantissa_exponent_softmax(inputs):
    """exp(x) = m 2^n; the exponents are added as numbers, so no pass for the maximum of x is needed."""
    x = _x(inputs)
    n = np.rint(x * LOG2E)
    m = np.exp((x - n * LN2_HIGH) - n * LN2_LOW)
    most = n.max(-1, keepdims=True)
    parts = m * np.exp2(n - most)
    return parts / parts.sum(-1, keepdims=True, dtype=F)


SCALE = F(80**-0.5)


def scaled_softmax(inputs):
    return softmax({"x": _x(inputs) * SCALE})


def scaled_softmax_exactly(inputs):
    return softmax({"x": _x(inputs).astype(np.float64) * np.float64(SCALE)}, np.float64)


def scaled_softmax_contracted(inputs):
    """exp(fma(x, scale, -max)): the product is exact, the maximum was rounded."""
    x = _x(inputs)
    top = (x * SCALE).max(-1, keepdims=True)
    e = np.exp((x.astype(np.float64) * np.float64(SCALE) - top).astype(F))
    return e / e.sum(-1, keepdims=True, dtype=F)


# --- the verdicts ---------------------------------------------------------------------------------------

NORM = (layer_norm, layer_norm_exactly, {"gamma": GAMMA, "beta": BETA})
SOFTMAX = (softmax, softmax_exactly, {})
SCALED = (scaled_softmax, scaled_softmax_exactly, {})

# kernel -> family, and classes in which it must be rejected; an empty set: accepted in all
KERNELS = {
    "two passes": (layer_norm, NORM, set()),
    "rms of recentred": (rms_of_recentred, NORM, set()),
    "centre, then rms": (centre_then_rms, NORM, set()),
    "one-pass variance": (one_pass_layer_norm, NORM, {"offset 10", "offset 1e3"}),
    "crms": (crms, NORM, {"normal"}),
    "three passes": (softmax, SOFTMAX, set()),
    "online": (online_softmax, SOFTMAX, {"all masked"}),  # a change of meaning, to be allowed by name
    "online, unguarded": (online_softmax_unguarded, SOFTMAX, {"-inf prefix"}),
    "mantissa and exponent": (
        mantissa_exponent_softmax,
        SOFTMAX,
        {"-inf prefix", "one live", "finfo.min mask"},
    ),
    "scaled": (scaled_softmax, SCALED, set()),
    "scaled, contracted": (scaled_softmax_contracted, SCALED, {"size 1e10"}),
}


@pytest.mark.parametrize("name", KERNELS)
def test_the_grid(name):
    kernel, (original, exact, operands), rejected = KERNELS[name]
    scores = judge_kernel(original, kernel, exact, (ROWS, WIDTH), F, operands=operands)
    for s in scores:
        errors = " ".join(f"{x:9.3g}" for x in (s.e_orig, s.e_new, s.kappa, s.score))
        print(f"{name:24} {s.class_name:24} {errors} {s.reason}")
    failing = {s.class_name for s in scores if not s.accepted}
    assert failing >= rejected
    assert bool(failing) == bool(rejected)
    if not rejected:
        # twice the limit would still be passed: correct kernels are not near it
        assert max(s.score for s in scores) <= LIMIT / 1.5


def test_the_guard_is_accepted_by_name():
    scores = judge_kernel(softmax, online_softmax, softmax_exactly, (ROWS, WIDTH), F, allowed=(SAFE_SOFTMAX,))
    assert all(s.accepted for s in scores)
    masked = next(s for s in scores if s.class_name == "all masked")
    assert [f.name for f in masked.findings] == [SAFE_SOFTMAX] and masked.findings[0].rows == ROWS // 2


def allclose(kernel, family, class_name):
    """What the usual tolerance says, and what the criterion says."""
    original, exact, operands = family
    inputs = {"x": class_named(class_name).rows((ROWS, WIDTH), F, 1), **operands}
    says = bool(np.allclose(kernel(inputs), original(inputs), rtol=1e-3, atol=1e-5))
    return says, judge(original, kernel, exact, inputs, F).accepted


@pytest.mark.parametrize(
    ("kernel", "family", "class_name", "tolerance", "accepted"),
    [
        (rms_of_recentred, NORM, "normal", True, True),
        (rms_of_recentred, NORM, "offset 1e3", False, True),  # more accurate than the original
        (rms_of_recentred, NORM, "offset 1e7", False, True),
        (
            centre_then_rms,
            NORM,
            "constant up to an ulp",
            False,
            True,
        ),  # so is the mean: nobody knows it better
        (one_pass_layer_norm, NORM, "normal", True, True),
        (one_pass_layer_norm, NORM, "offset 10", True, False),  # 17 times what rounding explains
        (crms, NORM, "normal", True, False),
        (online_softmax, SOFTMAX, "ascending", True, True),
        (online_softmax_unguarded, SOFTMAX, "normal", True, True),
        (online_softmax_unguarded, SOFTMAX, "-inf prefix", False, False),
        (online_softmax, SOFTMAX, "-inf prefix", True, True),
        (mantissa_exponent_softmax, SOFTMAX, "normal", True, True),
        (mantissa_exponent_softmax, SOFTMAX, "finfo.min mask", False, False),
        (scaled_softmax_contracted, SCALED, "normal", True, True),
        (scaled_softmax_contracted, SCALED, "size 1e10", False, False),
    ],
)
def test_beside_a_tolerance(kernel, family, class_name, tolerance, accepted):
    assert allclose(kernel, family, class_name) == (tolerance, accepted)


def test_more_accurate_is_accepted_whatever_the_ratio():
    inputs = {"x": class_named("offset 1e3").rows((ROWS, WIDTH), F, 1), "gamma": GAMMA, "beta": BETA}
    s = judge(layer_norm, rms_of_recentred, layer_norm_exactly, inputs, F)
    assert s.score < 0.1 and s.e_orig > 20 * s.e_new


def test_every_wrong_kernel_is_seen_by_the_grid_and_not_by_normal_rows():
    wrong = [
        (k, f)
        for k, f, rejected in KERNELS.values()
        if rejected and k is not crms and k is not online_softmax
    ]
    for kernel, (original, exact, operands) in wrong:
        inputs = {"x": class_named("normal").rows((ROWS, WIDTH), F, 1), **operands}
        assert judge(original, kernel, exact, inputs, F).accepted
    assert len(wrong) == 4 and len(CLASSES) >= 18
