"""The operations of the zoo written in numpy, each as its definition and in whatever precision it is given.

Nothing here knows the package under test.
"""

import math

import numpy as np

Array = np.ndarray
SELU_ALPHA = 1.67326319217681884765625
SELU_GAMMA = 1.05070102214813232421875


def layer_norm(x: Array, scale: Array | float = 1.0, bias: Array | float = 0.0, *, axis=-1, epsilon) -> Array:
    """(x - mean) / sqrt(mean((x - mean)^2) + epsilon) * scale + bias."""
    centred = x - x.mean(axis, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axis, keepdims=True) + epsilon) * scale + bias


def rms_norm(x: Array, scale: Array | float = 1.0, *, axis=-1, epsilon) -> Array:
    """x / sqrt(mean(x^2) + epsilon) * scale."""
    return x / np.sqrt((x**2).mean(axis, keepdims=True) + epsilon) * scale


def reduce_log_sum_exp(x: Array, *, axis=-1, keepdims=True) -> Array:
    """log(sum(exp(x))), shifted so that nothing overflows."""
    top = x.max(axis, keepdims=True)
    total = top + np.log(np.exp(x - top).sum(axis, keepdims=True))
    return total if keepdims else total.squeeze(axis)


def log_softmax(x: Array, *, axis=-1) -> Array:
    """x - log(sum(exp(x)))."""
    return x - reduce_log_sum_exp(x, axis=axis)


def softmax(x: Array, *, axis=-1) -> Array:
    """exp(x) / sum(exp(x))."""
    powers = np.exp(x - x.max(axis, keepdims=True))
    return powers / powers.sum(axis, keepdims=True)


def softmax_plus_one(x: Array, *, axis=-1) -> Array:
    """exp(x) / (1 + sum(exp(x))): a softmax with one more logit, 0, whose share is dropped."""
    top = np.maximum(x.max(axis, keepdims=True), 0)
    powers = np.exp(x - top)
    return powers / (np.exp(-top) + powers.sum(axis, keepdims=True))


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x))."""
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + small), small / (1 + small))


def softplus(x: Array) -> Array:
    """log(1 + exp(x))."""
    return np.logaddexp(0, x)


def gelu(x: Array, *, approximate="none") -> Array:
    """x * Phi(x), Phi the normal distribution; "tanh" replaces it by its usual approximation."""
    if approximate == "tanh":
        return x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return x / 2 * np.vectorize(math.erfc, otypes=[float])(-x / math.sqrt(2))


def swish(x: Array, *, alpha=1.0) -> Array:
    """x * sigmoid(alpha * x)."""
    return x * sigmoid(alpha * x)


def mish(x: Array) -> Array:
    """x * tanh(log(1 + exp(x)))."""
    return x * np.tanh(softplus(x))


def hard_sigmoid(x: Array, *, alpha=0.2, beta=0.5) -> Array:
    """alpha * x + beta, kept within 0 and 1."""
    return np.clip(alpha * x + beta, 0, 1)


def hard_swish(x: Array) -> Array:
    """x * clip(x + 3, 0, 6) / 6."""
    return x * np.clip(x + 3, 0, 6) / 6


def relu(x: Array) -> Array:
    """max(x, 0)."""
    return np.maximum(x, 0)


def squared_relu(x: Array) -> Array:
    """max(x, 0)^2."""
    return np.maximum(x, 0) ** 2


def leaky_relu(x: Array, *, alpha=0.01) -> Array:
    """x where it is positive, alpha * x elsewhere."""
    return np.where(x > 0, x, alpha * x)


def elu(x: Array, *, alpha=1.0) -> Array:
    """x where it is positive, alpha * (exp(x) - 1) elsewhere."""
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def selu(x: Array, *, alpha=SELU_ALPHA, gamma=SELU_GAMMA) -> Array:
    """gamma * elu(x, alpha)."""
    return gamma * elu(x, alpha=alpha)


def celu(x: Array, *, alpha=1.0) -> Array:
    """max(x, 0) + min(alpha * (exp(x / alpha) - 1), 0)."""
    return np.maximum(x, 0) + alpha * np.expm1(np.minimum(x, 0) / alpha)


def softsign(x: Array) -> Array:
    """x / (1 + |x|)."""
    return x / (1 + np.abs(x))


def tanh(x: Array) -> Array:
    """(exp(x) - exp(-x)) / (exp(x) + exp(-x))."""
    return np.tanh(x)


def attention(q: Array, k: Array, v: Array, *, scale, mask: Array | float = 0.0, score="softmax") -> Array:
    """score(scale * q k^T + mask) v."""
    logits = scale * (q @ np.swapaxes(k, -1, -2)) + mask
    return (softmax(logits) if score == "softmax" else sigmoid(logits)) @ v
