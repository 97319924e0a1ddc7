"""How near any value of a model comes to an operation on other values of it, with the best parameters.

For each operation a fit takes the operands and the result, each with a leading axis of samples, and gives
the largest deviation that is left, relative to the result. Fits are deliberately generous: what they cannot
reach, no choice of axis, epsilon, scale, bias or alpha can.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import permutations, product

import numpy as np

from . import references as ref
from .nearness import Array, deviation, least, norm

Fit = Callable[..., float]


def along_an_axis(u: Array, v: Array, *, operation: Callable[..., Array]) -> float:
    if u.ndim < 2:
        return np.inf
    axes = [axis for axis in range(-1, -u.ndim, -1) if u.shape[axis] > 1]
    return min((deviation(operation(u, axis=axis), v) for axis in axes), default=np.inf)


def log_sum_exp(u: Array, v: Array) -> float:
    kept = along_an_axis(u, v, operation=ref.reduce_log_sum_exp)
    return min(kept, along_an_axis(u, v, operation=partial(ref.reduce_log_sum_exp, keepdims=False)))


def pointwise(u: Array, v: Array, *, operation: Callable[[Array], Array]) -> float:
    return deviation(operation(u), v) if u.shape == v.shape else np.inf


def with_alpha(u: Array, v: Array, *, operation: Callable[..., Array], guess: Callable[..., float]) -> float:
    """An operation with one parameter, which a single element of its result already tells."""
    if u.shape != v.shape:
        return np.inf
    fits = [np.inf]
    for at in np.flatnonzero((u.ravel() < -0.3) & (u.ravel() > -3))[:5]:
        alpha = guess(u.ravel()[at], v.ravel()[at])
        if np.isfinite(alpha) and alpha != 0:
            fits.append(deviation(operation(u, alpha=alpha), v))
    return min(fits)


def swish_alpha(u: float, v: float) -> float:
    return -np.log(u / v - 1) / u if v and u / v > 1 else np.nan


def selu(u: Array, v: Array) -> float:
    """Both constants are free: the slope above 0 gives one, a value below gives the other."""
    if u.shape != v.shape or not (u > 0.5).any():
        return np.inf
    gamma = v[u > 0.5][0] / u[u > 0.5][0]
    operation = partial(ref.selu, gamma=gamma)
    return with_alpha(u, v, operation=operation, guess=lambda x, y: y / (gamma * np.expm1(x)))


def celu(u: Array, v: Array) -> float:
    if u.shape != v.shape:
        return np.inf
    return least(lambda alpha: deviation(ref.celu(u, alpha=alpha), v), np.logspace(-2, 2, 41), np.inf)


def hard_sigmoid(u: Array, v: Array) -> float:
    if u.shape != v.shape:
        return np.inf
    sloped = (v > 0.02) & (v < 0.98)
    if sloped.sum() < 2 or np.ptp(u[sloped]) == 0:
        return np.inf
    alpha, beta = np.polyfit(u[sloped], v[sloped], 1)
    return deviation(ref.hard_sigmoid(u, alpha=alpha, beta=beta), v)


def gated(a: Array, b: Array, v: Array, *, fit: Fit) -> float:
    """fit(a) * b."""
    if not a.shape == b.shape == v.shape or not b.all():
        return np.inf
    return fit(a, v / b)


def added(x: Array, residual: Array, v: Array, *, centre: bool) -> float:
    return norm(x + residual, v, centre=centre) if x.shape == residual.shape else np.inf


def attention(q: Array, k: Array, v: Array, *masked_result: Array) -> float:
    """Scores of q and k times any scale, with or without the mask if there is one, applied to v."""
    *masks, result = masked_result
    scales = np.concatenate([-np.logspace(1, -3, 17), np.logspace(-3, 1, 17)])

    def distance(scale: float, score: str, mask: Array | float) -> float:
        return deviation(ref.attention(q, k, v, scale=scale, mask=mask, score=score), result)

    choices = product(("softmax", "sigmoid"), (0.0, *masks))
    return min(least(partial(distance, score=score, mask=mask), scales, np.inf) for score, mask in choices)


def combined(parts: Sequence[Array], v: Array, fixed: Array | float = 0.0) -> float:
    """A sum of parts with any factors but 0, any constant, and what is fixed."""
    if any(part.shape != v.shape or not np.isfinite(part).all() for part in parts):
        return np.inf
    columns = np.stack([*(part.ravel() for part in parts), np.ones(v.size)], axis=1)
    scale = 1.0 / np.maximum(np.abs(columns[:, :-1]).max(axis=1), 1e-6)
    wanted = (v - fixed).ravel()
    if not np.isfinite(wanted).all():
        return np.inf
    factors, *_ = np.linalg.lstsq(columns * scale[:, None], wanted * scale, rcond=None)
    if np.abs(factors[:-1]).min() < 1e-6:
        return np.inf
    return deviation((columns @ factors).reshape(v.shape) + fixed, v)


def poly_relu(u: Array, v: Array) -> float:
    r = np.maximum(u, 0)
    return combined([r**3, r**2, r], v)


def poly_norm(u: Array, v: Array) -> float:
    def distance(epsilon: float) -> float:
        return combined([ref.rms_norm(u**power, epsilon=epsilon) for power in (3, 2, 1)], v)

    return least(distance) if u.shape == v.shape and u.ndim > 1 and u.shape[-1] > 1 else np.inf


def crrelu(u: Array, v: Array) -> float:
    if u.shape != v.shape:
        return np.inf
    return combined([u * np.exp(-(u**2) / 2)], v, np.maximum(u, 0))


SWISH = partial(with_alpha, operation=ref.swish, guess=swish_alpha)
GELUS = [partial(ref.gelu, approximate=approximate) for approximate in ("none", "tanh")]


def gelu(u: Array, v: Array) -> float:
    return min(pointwise(u, v, operation=operation) for operation in GELUS)


FITS: dict[str, tuple[int, Fit]] = {
    "LayerNormalization": (1, partial(norm, centre=True)),
    "RMSNormalization": (1, partial(norm, centre=False)),
    "Softmax": (1, partial(along_an_axis, operation=ref.softmax)),
    "LogSoftmax": (1, partial(along_an_axis, operation=ref.log_softmax)),
    "SoftmaxPlusOne": (1, partial(along_an_axis, operation=ref.softmax_plus_one)),
    "ReduceLogSumExp": (1, log_sum_exp),
    "Gelu": (1, gelu),
    "Swish": (1, SWISH),
    "Sigmoid": (1, partial(pointwise, operation=ref.sigmoid)),
    "Softplus": (1, partial(pointwise, operation=ref.softplus)),
    "Mish": (1, partial(pointwise, operation=ref.mish)),
    "HardSwish": (1, partial(pointwise, operation=ref.hard_swish)),
    "HardSigmoid": (1, hard_sigmoid),
    "Relu": (1, partial(pointwise, operation=ref.relu)),
    "SquaredRelu": (1, partial(pointwise, operation=ref.squared_relu)),
    "LeakyRelu": (1, partial(with_alpha, operation=ref.leaky_relu, guess=lambda u, v: v / u)),
    "Elu": (1, partial(with_alpha, operation=ref.elu, guess=lambda u, v: v / np.expm1(u))),
    "Selu": (1, selu),
    "Celu": (1, celu),
    "Softsign": (1, partial(pointwise, operation=ref.softsign)),
    "Tanh": (1, partial(pointwise, operation=ref.tanh)),
    "PolyRelu": (1, poly_relu),
    "PolyNorm": (1, poly_norm),
    "CRRelu": (1, crrelu),
    "SwiGLU": (2, partial(gated, fit=SWISH)),
    "GeGLU": (2, partial(gated, fit=gelu)),
    "ReGLU": (2, partial(gated, fit=partial(pointwise, operation=ref.relu))),
    "AddLayerNormalization": (2, partial(added, centre=True)),
    "AddRMSNormalization": (2, partial(added, centre=False)),
}


def closest(op: str, values: dict[str, Array], sources: Mapping[str, Sequence[str]]) -> float:
    """The least deviation of any target from `op` on its sources; attention takes them all, in order."""

    def apart(names: Sequence[str], target: str, fit: Fit) -> float:
        return fit(*(values[name] for name in names), values[target])

    with np.errstate(all="ignore"):
        if op == "ScoreAttention":
            return min(apart(names, target, attention) for target, names in sources.items())
        arity, fit = FITS[op]
        return min(
            apart(names, target, fit)
            for target, choice in sources.items()
            for names in permutations(choice, arity)
        )
