"""Mistakes in attention: heads, scales, masks, softmax and its blocks."""

from __future__ import annotations

import math

import numpy as np

from mutants.attentions import CUT, SCALE
from mutants.mutant import Mutant
from mutants.surgery import Surgery
from mutants.weights import BATCH, HEAD, HEADS, LENGTH, WIDTH

AT = "layer1/attention"
_SQUARE = np.ones((LENGTH, LENGTH), bool)
_MIXED = (f"{AT}/softmax", f"{AT}/mixed")


def _scale(name: str, factor: float) -> Mutant:
    return Mutant(name, "decomposed", lambda s: s.set(f"{AT}/scores/1", factor), (f"{AT}/scores",))


def _mask(name: str, allowed: np.ndarray) -> Mutant:
    return Mutant(name, "decomposed", lambda s: s.set(f"{AT}/allowed", allowed), (f"{AT}/masked", *_MIXED))


def _first_block_shorter(s: Surgery) -> None:
    s.set(f"{AT}/first/2", [CUT - 1])
    s.set(f"{AT}/values1/2", [CUT - 1])


def _blocks_overlap(s: Surgery) -> None:
    s.set(f"{AT}/second/1", [CUT - 1])
    s.set(f"{AT}/values2/1", [CUT - 1])


def _second_block_shorter(s: Surgery) -> None:
    s.set(f"{AT}/second/2", [LENGTH - 1])
    s.set(f"{AT}/values2/2", [LENGTH - 1])


def _bias_negated(s: Surgery) -> None:
    s.change("layer1/qkv/out", "Sub")


def _exchanged(a: str, b: str) -> Mutant:
    names = {"0": "q", "1": "k", "2": "v"}
    return Mutant(
        f"{names[a]} and {names[b]} exchanged",
        "decomposed",
        lambda s: s.exchange(f"layer1/split/part{a}", f"layer1/split/part{b}"),
        (f"{AT}/products", f"{AT}/scores", f"{AT}/masked", *_MIXED),
    )


def _unshifted(s: Surgery) -> None:
    s.model.graph.node.add(
        op_type="Exp", name=f"{AT}/unshifted", input=[f"{AT}/masked"], output=[f"{AT}/unshifted"]
    )
    s.rewire(f"{AT}/total", 0, f"{AT}/unshifted")


MUTANTS = (
    Mutant("qkv bias dropped", "decomposed", lambda s: s.bypass("layer1/qkv/out"), ("layer1/qkv/out",)),
    Mutant("qkv bias taken off", "decomposed", _bias_negated, ("layer1/qkv/out",)),
    Mutant(
        "query bias dropped too",
        "operators",
        lambda s: s.rewire("layer1/qkv/bias_kept", 0, "layer1/qkv/no_bias"),
        ("layer1/split", *_MIXED),
    ),
    Mutant(
        "value bias dropped too",
        "operators",
        lambda s: s.rewire("layer1/qkv/bias_kept", 2, "layer1/qkv/no_bias"),
        ("layer1/split", *_MIXED),
    ),
    _exchanged("0", "1"),
    _exchanged("1", "2"),
    _exchanged("0", "2"),
    _scale("scale 1/sqrt(width)", 1 / math.sqrt(WIDTH)),
    _scale("scale 1/sqrt(head - 1)", 1 / math.sqrt(HEAD - 1)),
    _scale("scale 1/head", 1 / HEAD),
    _scale("scale times 1 + 2^-20", SCALE * (1 + 2.0**-20)),
    Mutant("scale dropped", "moments", lambda s: s.bypass(f"{AT}/queries")),
    Mutant("scale on queries and on keys", "named", lambda s: s.set(f"{AT}/keys/1", SCALE)),
    _mask("mask one too wide", np.tril(_SQUARE, 1)),
    _mask("mask strict", np.tril(_SQUARE, -1)),
    _mask("mask transposed", np.triu(_SQUARE)),
    _mask("mask of a window", np.tril(_SQUARE) & np.triu(_SQUARE, -2)),
    Mutant("no mask", "decomposed", lambda s: s.bypass(f"{AT}/masked", 1), (f"{AT}/masked", *_MIXED)),
    Mutant(
        "masked scores 0", "decomposed", lambda s: s.set(f"{AT}/masked/2", 0.0), (f"{AT}/masked", *_MIXED)
    ),
    Mutant(
        "masked scores -10", "decomposed", lambda s: s.set(f"{AT}/masked/2", -10.0), (f"{AT}/masked", *_MIXED)
    ),
    Mutant("softmax along the queries", "named", lambda s: s.change(f"{AT}/softmax", axis=-2), _MIXED),
    Mutant("sum along the queries", "decomposed", lambda s: s.set(f"{AT}/total/1", [-2]), _MIXED),
    Mutant("sum over all heads", "decomposed", lambda s: s.set(f"{AT}/total/1", [1, -1]), _MIXED),
    Mutant("sum of the shifted", "decomposed", lambda s: s.rewire(f"{AT}/total", 0, f"{AT}/scores"), _MIXED),
    Mutant("not divided", "decomposed", lambda s: s.bypass(f"{AT}/softmax"), _MIXED),
    Mutant("shift not cancelled", "decomposed", _unshifted, _MIXED),
    Mutant("power of e with the factor of 2", "moments", lambda s: s.set(f"{AT}/base", math.e)),
    Mutant("power of 2 without its factor", "moments", lambda s: s.bypass(f"{AT}/binary")),
    Mutant("log2(e) cut to 1.44", "moments", lambda s: s.set(f"{AT}/binary/1", 1.44)),
    Mutant("stale maximum", "recentred", lambda s: s.rewire(f"{AT}/shifted2", 1, f"{AT}/top1")),
    Mutant("sum not rescaled", "recentred", lambda s: s.bypass(f"{AT}/kept_total")),
    Mutant("values not rescaled", "recentred", lambda s: s.bypass(f"{AT}/kept_mixed")),
    Mutant("rescaled the wrong way", "recentred", lambda s: s.flip(f"{AT}/drop")),
    Mutant(
        "rescaled by the second block's drop", "recentred", lambda s: s.rewire(f"{AT}/drop", 0, f"{AT}/top2")
    ),
    Mutant("first block without its last key", "recentred", _first_block_shorter),
    Mutant("blocks overlap", "recentred", _blocks_overlap),
    Mutant("second block without its last key", "recentred", _second_block_shorter),
    Mutant(
        "heads merged in another order",
        "decomposed",
        lambda s: s.change(f"{AT}/merged", perm=[0, 2, 3, 1]),
        (f"{AT}/out", "layer1/proj/product"),
    ),
    Mutant(
        "heads merged before they are transposed",
        "decomposed",
        lambda s: s.bypass(f"{AT}/merged"),
        (f"{AT}/out", "layer1/proj/product"),
    ),
    Mutant(
        "heads cut in another order",
        "operators",
        lambda s: (
            s.change(f"{AT}/q", perm=[0, 2, 3, 1])
            or s.after(f"{AT}/q", "Reshape", np.array([BATCH, HEADS, LENGTH, HEAD]))
        ),
    ),
)
