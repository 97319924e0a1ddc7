"""Identities and near misses: which exact domain accepts and which refuses them.

Every true identity must be accepted by jets of order 4 and above and by balls, every false one refused by
the two primes and by balls. Jets below the order at which two sides part accept what is false: that is why
they never decide alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

from tautomer.patterns.operation import definition_of
from tautomer.patterns.rows import apply
from tautomer.verify.ball import Ball, agree
from tautomer.verify.field import value
from tautomer.verify.field.domain import JetField, TwoPrime
from tautomer.verify.single import Float32

ROWS, LENGTH, BLOCK = 3, 12, 4
DOMAINS = ("jet2", "jet3", "jet4", "jet6", "two-prime", "ball")


def domain(name: str, seed: int = 5) -> Any:
    if name == "ball":
        return Ball(read=True)
    return TwoPrime(seed, expand=True) if name == "two-prime" else JetField(seed, int(name[3:]), expand=True)


def cut(m: Any, x: Any, begin: int, end: int) -> Any:
    return m.move(lambda a: a[:, begin:end], x)


def total(m: Any, x: Any) -> Any:
    return m.sum(x, (1,), True)


def mean(m: Any, x: Any) -> Any:
    return m.mean(x, (1,), True)


def top(m: Any, x: Any) -> Any:
    return m.amax(x, (1,), True)


def softmax(m: Any, x: Any) -> Any:
    definition = definition_of("Softmax")
    assert definition is not None
    return apply(definition, m, x, axes=(1,))


def layer_norm(m: Any, x: Any) -> Any:
    definition = definition_of("LayerNormalization")
    assert definition is not None
    return apply(definition, m, x, axes=(1,))


def without_shift(m: Any, x: Any) -> Any:
    return m.exp(x) / total(m, m.exp(x))


def online(m: Any, x: Any, *, rescale: bool = True) -> Any:
    """Block by block with a running maximum."""
    running = top(m, cut(m, x, 0, BLOCK))
    weight = total(m, m.exp(cut(m, x, 0, BLOCK) - running))
    for begin in range(BLOCK, LENGTH, BLOCK):
        block = cut(m, x, begin, begin + BLOCK)
        larger = m.maximum(running, top(m, block))
        kept = weight * m.exp(running - larger) if rescale else weight
        weight, running = kept + total(m, m.exp(block - larger)), larger
    return m.exp(x - running) / weight


def per_block(m: Any, x: Any) -> Any:
    """Every block normalised by itself, then weighted by its share."""
    parts, weights = [], []
    for begin in range(0, LENGTH, BLOCK):
        block = cut(m, x, begin, begin + BLOCK)
        e = m.exp(block - top(m, block))
        parts.append(e / total(m, e))
        weights.append(total(m, e) * m.exp(top(m, block)))
    share = weights[0] + weights[1] + weights[2]
    blocks = [part * (weight / share) for part, weight in zip(parts, weights, strict=True)]
    return m.move(lambda *arrays: np.concatenate(arrays, 1), *blocks)


def mantissa_exponent(m: Any, x: Any) -> Any:
    """e^x as 2^(x log2 e), the power shifted by the largest."""
    power = x * math.log2(math.e)
    e = m.power(m.constant(2.0), power - top(m, power))
    return e / total(m, e)


def other_shift(m: Any, x: Any) -> Any:
    return m.exp(x - top(m, x)) / total(m, m.exp(x - top(m, cut(m, x, 0, BLOCK))))


def newton(m: Any, x: Any) -> Any:
    e = m.exp(x - top(m, x))
    inverse = m.constant(1.0 / LENGTH)
    for _ in range(2):
        inverse = inverse * (2.0 - total(m, e) * inverse)
    return e * inverse


def gelu(m: Any, x: Any) -> Any:
    definition = definition_of("Gelu", {"approximate": "tanh"})
    assert definition is not None
    return apply(definition, m, x)


def gelu_by_sigmoid(m: Any, x: Any) -> Any:
    """With 2 sqrt(2/pi) in one constant, as float32 stores it."""
    inner = x * (m.constant(np.float32(0.044715)) * x * x + 1)
    return x * m.sigmoid(inner * m.constant(np.float32(2 * math.sqrt(2 / math.pi))))


class Identity(NamedTuple):
    name: str
    left: Callable[[Any, Any], Any]
    right: Callable[[Any, Any], Any]
    accepted: str = " ".join(DOMAINS)  # the domains that accept it


TRUE = [
    Identity("softmax = online with block maxima", softmax, online),
    Identity("softmax = powers of two", softmax, mantissa_exponent),
    Identity("softmax = no shift", softmax, without_shift),
    Identity("softmax = normalised per block, then rescaled", softmax, per_block),
    Identity("softmax(x + c) = softmax(x)", softmax, lambda m, x: softmax(m, x + cut(m, x, 0, 1))),
    Identity(
        "sigmoid = (1 + tanh(x / 2)) / 2", lambda m, x: m.sigmoid(x), lambda m, x: (m.tanh(x * 0.5) + 1) * 0.5
    ),
    Identity("silu = x / (1 + e^-x)", lambda m, x: x * m.sigmoid(x), lambda m, x: x / (m.exp(-x) + 1)),
    Identity("sigmoid(-x) = 1 - sigmoid(x)", lambda m, x: m.sigmoid(-x), lambda m, x: 1 - m.sigmoid(x)),
    Identity("tanh-GELU = x sigmoid(2 u)", gelu, gelu_by_sigmoid),
    Identity("LN(x - mean x) = LN(x)", layer_norm, lambda m, x: layer_norm(m, x - mean(m, x))),
    Identity(
        "E[x^2] - E[x]^2 = var",
        lambda m, x: mean(m, x * x) - mean(m, x) * mean(m, x),
        lambda m, x: mean(m, (x - mean(m, x)) * (x - mean(m, x))),
    ),
    Identity("rsqrt = 1 / sqrt", lambda m, x: m.rsqrt(x * x + 1e-5), lambda m, x: 1 / m.sqrt(x * x + 1e-5)),
    Identity(
        "sqrt = power 1/2",
        lambda m, x: m.sqrt(x * x + np.float32(1e-5)),
        lambda m, x: m.power(x * x + 1e-5, 0.5),
    ),
    Identity(
        "x 64^-1/4 64^-1/4 = x / 8",
        lambda m, x: x * np.float32(64**-0.25) * np.float32(64**-0.25),
        lambda m, x: x / 8.0,
    ),
    Identity("max(4 x, 0) = 4 max(x, 0)", lambda m, x: m.maximum(x * 4, 0), lambda m, x: m.maximum(x, 0) * 4),
    Identity("max(x, 0) - max(-x, 0) = x", lambda m, x: m.maximum(x, 0) - m.maximum(-x, 0), lambda m, x: x),
    Identity("expm1 = exp - 1", lambda m, x: m.expm1(x) * m.exp(-x), lambda m, x: 1 - m.exp(-x)),
]

FALSE = [
    Identity("another shift below", softmax, other_shift, ""),
    Identity("online without rescaling", softmax, lambda m, x: online(m, x, rescale=False), ""),
    Identity("LN(2 x) is not LN(x), by epsilon", layer_norm, lambda m, x: layer_norm(m, x * 2), ""),
    Identity(
        "tanh is not sinh",
        lambda m, x: m.tanh(x),
        lambda m, x: (m.exp(x) - m.exp(-x)) * 0.5,
        "jet2 jet3",
    ),
    Identity(
        "(e^x - 1)^2 (e^2x - 1) is not 0",
        lambda m, x: m.expm1(x) * m.expm1(x) * m.expm1(x * 2),
        lambda m, x: x * 0,
        "jet2 jet3",
    ),
    Identity("two Newton steps for 1 / sum", softmax, newton, "jet2 jet3 jet4"),
]


def accepts(m: Any, identity: Identity) -> bool:
    numbers = np.random.default_rng(11).standard_normal((ROWS, LENGTH))
    if isinstance(m, Ball):
        x = m.constant(numbers)
        found = agree(identity.left(m, x), identity.right(m, x))
        assert found.undecided == 0
        return found.equal
    x = m.input(numbers)
    m.graph = "left"
    left = identity.left(m, x)
    m.graph = "right"
    return value.agree(left, identity.right(m, x)).equal


@pytest.mark.parametrize("name", DOMAINS)
@pytest.mark.parametrize("identity", TRUE + FALSE, ids=lambda identity: identity.name)
def test_verdict(identity: Identity, name: str) -> None:
    assert accepts(domain(name), identity) == (name in identity.accepted.split())


@pytest.mark.parametrize("identity", TRUE, ids=lambda identity: identity.name)
def test_true_identities_hold_for_other_seeds(identity: Identity) -> None:
    for seed in range(3):
        assert accepts(domain("jet4", seed), identity) and accepts(domain("two-prime", seed), identity)


def test_near_misses_below_the_eyes_of_single_precision() -> None:
    """A scale wrong by 2^-20 is a difference for every exact domain, and rounding noise in float32."""
    numbers = np.random.default_rng(3).standard_normal((ROWS, LENGTH))
    wrong = Identity("scale", softmax, lambda m, x: softmax(m, x * (1 + 2.0**-20)))
    assert not any(accepts(domain(name), wrong) for name in DOMAINS)
    m = Float32()
    x = m.constant(numbers)
    np.testing.assert_allclose(m.concrete(wrong.left(m, x)), m.concrete(wrong.right(m, x)), 1e-4)


def test_opaque_functions_know_what_they_must() -> None:
    """Without expansion tanh is a random odd function, and sigmoid is made of it."""
    for m in (JetField(2), TwoPrime(2)):
        x = m.input(np.random.default_rng(7).standard_normal((ROWS, LENGTH)))
        for left, right in (
            (m.tanh(-x), -m.tanh(x)),
            (m.erf(-x), -m.erf(x)),
            (m.cos(-x), m.cos(x)),
            (m.sigmoid(x), (m.tanh(x * 0.5) + 1) * 0.5),
            (m.sigmoid(-x), 1 - m.sigmoid(x)),
            (gelu(m, x), gelu_by_sigmoid(m, x)),
            (m.erf(x * 0), x * 0),
        ):
            assert value.agree(left, right).equal
        for left, right in ((m.tanh(x), m.erf(x)), (m.sin(x), m.cos(x)), (m.log(m.exp(x)), x)):
            assert value.agree(left, right).same == 0
