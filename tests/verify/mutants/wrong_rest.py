"""Mistakes in the activation, the residual connections and the order of things."""

from __future__ import annotations

import math

import numpy as np

from mutants.mutant import Mutant
from mutants.surgery import Surgery

GELU = "layer1/gelu"
OUT = (f"{GELU}/out",)
_ROTATED = np.array([1, 2, 3, 4, 5, 6, 0], np.int64)


def _inner(name: str, form: str, constant: str, value: float) -> Mutant:
    return Mutant(
        name, form, lambda s: s.set(f"{GELU}/{constant}/1", value), OUT if form == "decomposed" else ()
    )


def _exchange_mlps(s: Surgery) -> None:
    for part in ("up/weight", "up/bias", "down/weight", "down/bias"):
        s.exchange(f"layer0/{part}", f"layer1/{part}")


MUTANTS = (
    Mutant("GELU with erf", "operators", lambda s: s.change(f"{GELU}/out", approximate="none"), OUT),
    _inner("0.44715 for 0.044715", "decomposed", "bent", 0.44715),
    _inner("0.0447 for 0.044715", "decomposed", "bent", 0.0447),
    _inner("0.04471 for 0.044715", "moments", "bent", 0.04471),
    _inner("0.79788 for sqrt(2/pi)", "decomposed", "scaled", 0.79788),
    _inner("sqrt(pi/2) for sqrt(2/pi)", "decomposed", "scaled", math.sqrt(math.pi / 2)),
    _inner("sigmoid of u, not of 2u", "moments", "scaled", math.sqrt(2 / math.pi)),
    _inner("GELU with 1.702", "moments", "scaled", 1.702),
    Mutant("factor 1/2 lost", "decomposed", lambda s: s.bypass(f"{GELU}/out"), OUT),
    Mutant("square for cube", "decomposed", lambda s: s.bypass(f"{GELU}/cube"), OUT),
    Mutant("cubic term lost", "decomposed", lambda s: s.bypass(f"{GELU}/inner"), OUT),
    Mutant("1 lost", "decomposed", lambda s: s.bypass(f"{GELU}/raised"), OUT),
    Mutant("sign in the exponent", "compressed", lambda s: s.bypass(f"{GELU}/negative")),
    Mutant("activation lost", "operators", lambda s: s.bypass(f"{GELU}/out"), OUT),
    Mutant(
        "residual of the attention dropped",
        "decomposed",
        lambda s: s.bypass("layer1/stream1", 1),
        ("layer1/stream1",),
    ),
    Mutant("residual of the MLP dropped", "recentred", lambda s: s.bypass("layer1/stream2", 1)),
    Mutant(
        "residual around the wrong place",
        "decomposed",
        lambda s: s.rewire("layer1/stream2", 0, "layer0/stream2"),
        ("layer1/stream2",),
    ),
    Mutant(
        "residual from behind the norm",
        "operators",
        lambda s: s.rewire("layer1/stream2", 0, "layer1/norm2/out"),
        ("layer1/stream2",),
    ),
    Mutant("bias of the MLP dropped", "decomposed", lambda s: s.bypass("layer1/up/out"), ("layer1/up/out",)),
    Mutant(
        "bias of the projection taken off",
        "decomposed",
        lambda s: s.change("layer1/proj/out", "Sub"),
        ("layer1/proj/out",),
        hidden=("plain",),
    ),
    Mutant(
        "biases exchanged",
        "decomposed",
        lambda s: s.exchange("layer1/proj/bias", "layer1/down/bias"),
        ("layer1/proj/out",),
        hidden=("plain",),
    ),
    Mutant(
        "matrices of two layers exchanged",
        "moments",
        lambda s: s.exchange("layer0/up/weight", "layer1/up/weight"),
        ("layer0/up/product",),
    ),
    Mutant(
        "layers of the MLP exchanged",
        "operators",
        _exchange_mlps,
        ("layer0/up/product",),
    ),
    Mutant("positions dropped", "decomposed", lambda s: s.bypass("stream"), ("stream",)),
    Mutant(
        "head of the wrong rows", "decomposed", lambda s: s.after("head/product", "Gather", _ROTATED, axis=-1)
    ),
)
