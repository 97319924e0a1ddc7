"""Chains of operations that nobody named to the kernels: what `--target kernels` makes one operator of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod

import torch
from torch.nn import functional

from benchmarks.kernel_cases import Operation, Tensor

EPSILON = 1e-5
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Region:
    """A chain of operations on a tensor.

    Attributes:
        operation: how torch computes it, and the graph that onnxruntime runs and that is fused.
        shape: of x.
        others: the shapes of the tensors after x, by name.
        result: the shape of what it gives; None for that of x.
    """

    operation: Operation
    shape: Shape
    others: Mapping[str, Shape] = field(default_factory=dict)
    result: Shape | None = None

    @property
    def name(self) -> str:
        """The size."""
        return " x ".join(map(str, self.shape))

    @property
    def size(self) -> int:
        """How many elements x has."""
        return prod(self.shape)


_POLY_WEIGHTS, _POLY_BIAS = (0.3, 0.4, 0.25), 0.1


def _poly_norm(x: Tensor) -> Tensor:
    def normalised(u: Tensor) -> Tensor:
        return u * torch.rsqrt((u * u).mean(-1, keepdim=True) + EPSILON)

    cubic, square, linear = _POLY_WEIGHTS
    return cubic * normalised(x**3) + square * normalised(x**2) + linear * normalised(x) + _POLY_BIAS


def _number(name: str, value: float) -> str:
    return f"{name} = Constant <value_float = {value}> ()"


def _normalised(u: str, to: str) -> str:
    """u / sqrt(mean(u^2) + epsilon), as torch's exporter writes it."""
    return (
        f"{to}q = Mul({u}, {u}) {to}m = ReduceMean <keepdims = 1> ({to}q, last) {to}e = Add({to}m, eps) "
        f"{to}s = Sqrt({to}e) {to}r = Reciprocal({to}s) {to} = Mul({u}, {to}r)"
    )


_NUMBERS = " ".join(
    (
        "last = Constant <value_ints = [-1]> ()",
        _number("eps", EPSILON),
        _number("two", 2.0),
        _number("three", 3.0),
        *(_number(f"w{i}", value) for i, value in enumerate(_POLY_WEIGHTS)),
        _number("b", _POLY_BIAS),
    )
)
POLY_NORM = Operation(
    "PolyNorm",
    _poly_norm,
    (
        f"{_NUMBERS} cube = Pow(x, three) square = Pow(x, two) {_normalised('cube', 'n3')} "
        f"{_normalised('square', 'n2')} {_normalised('x', 'n1')} "
        "t3 = Mul(w0, n3) t2 = Mul(w1, n2) t1 = Mul(w2, n1) t = Add(t3, t2) u = Add(t, t1) y = Add(u, b)",
    ),
)


def _evo_norm(x: Tensor, v: Tensor, gain: Tensor, shift: Tensor) -> Tensor:
    n, c, h, w = x.shape
    variance = x.reshape(n, 32, c // 32, h, w).var(dim=(2, 3, 4), unbiased=False, keepdim=True)
    root = (variance + EPSILON).sqrt().expand(n, 32, c // 32, h, w).reshape(n, c, h, w)
    return x * torch.sigmoid(v * x) / root * gain + shift


EVO_NORM = Operation(
    "EvoNorm-S0",
    _evo_norm,
    (
        "axes = Constant <value_ints = [2, 3, 4]> () split = Constant <value_ints = [8, 32, 8, 56, 56]> () "
        f"whole = Constant <value_ints = [8, 256, 56, 56]> () {_number('eps', EPSILON)} "
        "g = Reshape(x, split) m = ReduceMean <keepdims = 1> (g, axes) c = Sub(g, m) q = Mul(c, c) "
        "s = ReduceMean <keepdims = 1> (q, axes) e = Add(s, eps) r = Sqrt(e) f = Expand(r, split) "
        "o = Reshape(f, whole) a = Mul(v, x) p = Sigmoid(a) k = Mul(x, p) d = Div(k, o) h = Mul(d, gain) "
        "y = Add(h, shift)",
    ),
)

_ABOVE, _BELOW = (0.02, 0.5, 1.6, 1.2, 0.4, 0.03), (0.1, 1.8, 0.2, 0.06)


def _rational(x: Tensor) -> Tensor:
    above = _ABOVE[5]
    for factor in _ABOVE[4::-1]:
        above = above * x + factor
    below = _BELOW[3]
    for factor in _BELOW[2::-1]:
        below = below * x + factor
    return above / (1.0 + (below * x).abs())


def _horner(factors: tuple[float, ...], to: str) -> str:
    lines = [_number(f"{to}{i}", value) for i, value in enumerate(factors)]
    last = f"{to}{len(factors) - 1}"
    for i in range(len(factors) - 2, -1, -1):
        lines.append(f"{to}m{i} = Mul({last}, x) {to}s{i} = Add({to}m{i}, {to}{i})")
        last = f"{to}s{i}"
    return " ".join(lines)


RATIONAL = Operation(
    "Rational (5, 4)",
    _rational,
    (
        f"{_horner(_ABOVE, 'p')} {_horner(_BELOW, 'q')} {_number('one', 1.0)} "
        "z = Mul(qs0, x) a = Abs(z) d = Add(a, one) y = Div(ps0, d)",
    ),
    spread=2.0,
)


def _rational_in_powers(x: Tensor) -> Tensor:
    """As the reference code of PAU computes version A on a CPU: a matrix of powers, and sums over it."""
    z = x.reshape(-1)
    powers = torch.vander(z, 6, increasing=True)
    above = (powers * powers.new_tensor(_ABOVE)).sum(1)
    sizes = torch.cat([powers[:, :1], powers[:, 1:5] * powers.new_tensor(_BELOW)], 1).abs()
    return (above / sizes.sum(1)).view(x.shape)


def _powers(factors: tuple[float, ...], to: str, first: int, then: str) -> str:
    lines, total = [], ""
    for i, value in enumerate(factors, first):
        lines.append(f"{_number(f'{to}{i}', value)} {_number(f'{to}e{i}', float(i))}")
        lines.append(
            f"{to}p{i} = Pow(x, {to}e{i}) {to}t{i} = Mul({to}p{i}, {to}{i}) {to}u{i} = {then}({to}t{i})"
        )
        lines.append(f"{to}s{i} = Add({total}, {to}u{i})" if total else f"{to}s{i} = Identity({to}u{i})")
        total = f"{to}s{i}"
    return " ".join(lines)


RATIONAL_IN_POWERS = Operation(
    "Rational (5, 4) in powers",
    _rational_in_powers,
    (
        f"{_powers(_ABOVE[1:], 'p', 1, 'Identity')} {_number('p0', _ABOVE[0])} above = Add(ps5, p0) "
        f"{_powers(_BELOW, 'q', 1, 'Abs')} {_number('one', 1.0)} below = Add(qs4, one) y = Div(above, below)",
    ),
    spread=2.0,
)


def _dice(x: Tensor, alpha: Tensor, factor: Tensor, shift: Tensor) -> Tensor:
    p = torch.sigmoid(x * factor + shift)
    return p * x + alpha * (1 - p) * x


DICE = Operation(
    "Dice",
    _dice,
    (
        f"{_number('one', 1.0)} m = Mul(x, factor) s = Add(m, shift) p = Sigmoid(s) q = Sub(one, p) "
        "h = Mul(alpha, q) i = Mul(h, x) j = Mul(p, x) y = Add(j, i)",
    ),
)
CR_RELU = Operation(
    "CRRelu",
    lambda x: functional.relu(x) + 0.01 * x * torch.exp(-(x**2) / 2),
    (
        f"{_number('two', 2.0)} {_number('e', 0.01)} r = Relu(x) s = Pow(x, two) n = Neg(s) d = Div(n, two) "
        "g = Exp(d) f = Mul(x, e) b = Mul(f, g) y = Add(r, b)",
    ),
    spread=2.0,
)
_SERIES = ((1.0, 0.3, 0.7), (0.5, -0.2, 0.4))


def _series(x: Tensor) -> Tensor:
    (a0, b0, c0), (a1, b1, c1) = _SERIES
    return c0 * functional.gelu(a0 * x + b0) + c1 * functional.gelu(a1 * x + b1)


def _term(i: int) -> str:
    scale, shift, factor = _SERIES[i]
    numbers = " ".join((_number(f"a{i}", scale), _number(f"b{i}", shift), _number(f"c{i}", factor)))
    return f"{numbers} m{i} = Mul(x, a{i}) s{i} = Add(m{i}, b{i}) g{i} = Gelu(s{i}) t{i} = Mul(g{i}, c{i})"


SERIES = Operation("Series of two GELUs", _series, (f"{_term(0)} {_term(1)} y = Add(t0, t1)",), spread=2.0)
GATE = Operation(
    "Gate and residual",
    lambda x, g, r: x * torch.sigmoid(g) + r,
    ("s = Sigmoid(g) p = Mul(x, s) y = Add(p, r)",),
)

_TOKENS = (4, 256, 1152)
MODULATED = Operation(
    "Modulated LayerNorm",
    lambda x, gain, shift: functional.layer_norm(x, x.shape[-1:]) * gain + shift,
    (
        f"{_number('one', 1.0)} size = Constant <value_ints = [{_TOKENS[-1]}]> () ones = Expand(one, size) "
        f"n = LayerNormalization <axis = -1, epsilon = {EPSILON}> (x, ones) p = Mul(n, gain) "
        "y = Add(p, shift)",
    ),
)
MASKED = Operation(
    "Masked softmax",
    lambda x, mask: torch.softmax(x * 0.125 + mask, -1),
    (f"{_number('scale', 0.125)} s = Mul(x, scale) t = Add(s, mask) y = Softmax <axis = -1> (t)",),
)
ENTROPY = Operation(
    "Entropy of a softmax",
    lambda x: -(torch.softmax(x, -1) * torch.log_softmax(x, -1)).sum(-1),
    (
        "last = Constant <value_ints = [-1]> () p = Softmax <axis = -1> (x) l = LogSoftmax <axis = -1> (x) "
        "t = Mul(p, l) s = ReduceSum <keepdims = 0> (t, last) y = Neg(s)",
        "last = Constant <value_ints = [-1]> () p = Softmax <axis = -1> (x) l = Log(p) t = Mul(p, l) "
        "s = ReduceSum <keepdims = 0> (t, last) y = Neg(s)",
    ),
)

_CHANNELS = dict.fromkeys(("v", "gain", "shift"), (1, 256, 1, 1))
REGIONS = (
    Region(POLY_NORM, (256, 1024)),
    Region(POLY_NORM, (4096, 11008)),
    Region(EVO_NORM, (8, 256, 56, 56), _CHANNELS),
    *(Region(RATIONAL, size) for size in ((512, 512), (4096, 4096))),
    Region(RATIONAL_IN_POWERS, (1024, 1024)),
    *(Region(SERIES, size) for size in ((512, 512), (4096, 4096))),
    Region(DICE, (4096, 1024), dict.fromkeys(("alpha", "factor", "shift"), (1024,))),
    Region(CR_RELU, (4096, 4096)),
    Region(GATE, (4096, 4096), dict.fromkeys(("g", "r"), (4096, 4096))),
    Region(MODULATED, _TOKENS, dict.fromkeys(("gain", "shift"), (4, 1, 1152))),
    Region(MASKED, (2, 8, 128, 128), {"mask": (2, 1, 1, 128)}),
    Region(ENTROPY, (4096, 1000), result=(4096,)),
)
