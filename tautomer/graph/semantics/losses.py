"""Losses of classes: cross-entropy, and the negative log-likelihood that it ends with.

    loss[n, ...] = -w[t] p[n, t, ...],   p = log_softmax(scores) over axis 1, t the target of [n, ...]

Rows whose target is `ignore_index` have a loss of 0; a mean is by the sum of the weights of the others.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tautomer.graph.call import Call
from tautomer.graph.semantics.arrays import integers
from tautomer.graph.semantics.domain import Mathematics
from tautomer.graph.semantics.movement import moved, shape_of
from tautomer.graph.semantics.selection import along
from tautomer.graph.semantics.table import meaning


@meaning("NegativeLogLikelihoodLoss")
def negative_log_likelihood(m: Mathematics, call: Call, x: Any, target: Any, weight: Any = None) -> Any:
    """-x at the target of each row, reduced."""
    labels, ignored = integers(m, target), call.get("ignore_index")
    counted = np.ones(labels.shape, bool) if ignored is None else labels != ignored
    safe = np.where(counted, labels, 0)
    where = along(shape_of(m, x), safe[:, None], 1)[:, 0]
    own = m.constant(1.0) if weight is None else moved(m, lambda a: a[safe], weight)
    shares = m.where(counted, own, 0.0)
    losses = m.where(counted, -moved(m, lambda a: a.reshape(-1)[where], x) * own, 0.0)
    reduction, axes = call.get("reduction", "mean"), tuple(range(labels.ndim))
    if reduction == "none":
        return losses
    total = m.sum(losses, axes, False)
    return total if reduction == "sum" else total / m.sum(shares, axes, False)


@meaning("SoftmaxCrossEntropyLoss")
def cross_entropy(
    m: Mathematics, call: Call, scores: Any, target: Any, weight: Any = None
) -> tuple[Any, Any]:
    """The same of the logarithm of a softmax, which is the second result."""
    shifted = scores - m.amax(scores, (1,), True)
    log_probability = shifted - m.log(m.sum(m.exp(shifted), (1,), True))
    return negative_log_likelihood(m, call, log_probability, target, weight), log_probability
