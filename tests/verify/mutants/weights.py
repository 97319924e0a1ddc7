"""The weights of the small transformer, in three regimes that hide different mistakes.

`random` hides nothing. `massive` has channels and offsets of up to 3000, beside which a wrong epsilon or a
bias of 1 is below any tolerance. `plain` is a network before training: every bias 0, every gain 1, so that a
dropped bias computes the same numbers.
"""

from __future__ import annotations

import numpy as np

Weights = dict[str, np.ndarray]

LAYERS, BATCH, LENGTH, HEADS, HEAD, HIDDEN, WORDS = 2, 2, 4, 2, 4, 10, 7
WIDTH = HEADS * HEAD
REGIMES = ("random", "massive", "plain")


def weights(regime: str) -> Weights:
    """The initializers, by name."""
    rng = np.random.default_rng(REGIMES.index(regime))
    made = {
        "tokens/table": rng.normal(0, 1, (WORDS, WIDTH)),
        "positions/table": rng.normal(0, 1, (LENGTH, WIDTH)),
    }
    for layer in range(LAYERS):
        place = f"layer{layer}"
        made |= {
            f"{place}/norm1/gain": rng.normal(1, 0.3, WIDTH),
            f"{place}/norm1/bias": rng.normal(0, 0.3, WIDTH),
            f"{place}/qkv/weight": rng.normal(0, 0.4, (WIDTH, 3 * WIDTH)),
            f"{place}/qkv/bias": rng.normal(0, 0.3, 3 * WIDTH),
            f"{place}/proj/weight": rng.normal(0, 0.4, (WIDTH, WIDTH)),
            f"{place}/proj/bias": rng.normal(0, 0.3, WIDTH),
            f"{place}/norm2/gain": rng.normal(1, 0.3, WIDTH),
            f"{place}/norm2/bias": rng.normal(0, 0.3, WIDTH),
            f"{place}/up/weight": rng.normal(0, 0.4, (WIDTH, HIDDEN)),
            f"{place}/up/bias": rng.normal(0, 0.3, HIDDEN),
            f"{place}/down/weight": rng.normal(0, 0.4, (HIDDEN, WIDTH)),
            f"{place}/down/bias": rng.normal(0, 0.3, WIDTH),
        }
    made |= {"final/gain": rng.normal(1, 0.3, WIDTH), "final/bias": rng.normal(0, 0.3, WIDTH)}
    if regime == "massive":
        made["tokens/table"][:, (1, WIDTH - 2)] *= 3000.0
        made["tokens/table"] += 500.0
        made["positions/table"][:, 3] += 1000.0
    if regime == "plain":
        made |= {name: np.zeros_like(array) for name, array in made.items() if name.endswith("bias")}
        made |= {name: np.ones_like(array) for name, array in made.items() if name.endswith("gain")}
    return {name: array.astype(np.float32) for name, array in made.items()}


def inputs() -> Weights:
    """Tokens, no two sentences alike."""
    return {"tokens": np.array([[0, 3, 5, 1], [4, 2, 2, 6]], np.int64)}
