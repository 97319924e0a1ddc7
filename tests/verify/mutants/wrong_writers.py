"""Mistakes in what is written to a stream that must be centred, and in what is read from one cut short."""

from __future__ import annotations

import numpy as np

from mutants.mutant import Mutant
from mutants.surgery import Surgery
from mutants.weights import LAYERS, WIDTH

_WRITERS = (
    "tokens",
    "positions",
    *(
        f"layer{layer}/{name}/{part}"
        for layer in range(LAYERS)
        for name in ("proj", "down")
        for part in ("weight", "bias")
    ),
)


def _not_centred(writer: str) -> Mutant:
    return Mutant(f"{writer} not centred", "recentred", lambda s: s.bypass(f"{writer}/centred"))


def _centred_down(writer: str) -> Mutant:
    return Mutant(f"{writer} centred along its rows", "recentred", lambda s: s.set(f"{writer}/mean/1", [0]))


def _tied_head(s: Surgery) -> None:
    s.rewire("head/table", 0, "tokens/centred")


def _last_coordinate_not_counted(s: Surgery) -> None:
    s.bypass("layer1/norm1/both")


def _other_row(s: Surgery) -> None:
    s.set("layer1/qkv/row/1", [0])
    s.set("layer1/qkv/row/2", [1])


def _first_coordinate_left_out(s: Surgery) -> None:
    s.set("layer1/proj/weight/short/1", [1])
    s.set("layer1/proj/weight/short/2", [WIDTH])


MUTANTS = (
    *map(_not_centred, _WRITERS),
    *map(_centred_down, ("tokens", "positions", "layer1/proj/weight", "layer0/down/weight")),
    Mutant(
        "writer centred with a sum", "recentred", lambda s: s.change("layer1/proj/weight/mean", "ReduceSum")
    ),
    Mutant(
        "writer centred twice over",
        "recentred",
        lambda s: s.after("layer1/down/weight/mean", "Mul", np.float32(2.0)),
    ),
    Mutant("tied head centred", "recentred", _tied_head),
    Mutant("last coordinate not counted", "compressed", _last_coordinate_not_counted),
    Mutant("last coordinate not squared", "compressed", lambda s: s.bypass("layer1/norm1/last")),
    Mutant("last coordinate taken off", "compressed", lambda s: s.change("layer1/norm1/both", "Sub")),
    Mutant("power over d - 1", "compressed", lambda s: s.set("layer1/norm1/power/1", WIDTH - 1)),
    Mutant("reader not reduced", "compressed", lambda s: s.bypass("layer1/qkv/short")),
    Mutant("reader's last row added", "compressed", lambda s: s.change("layer1/up/short", "Add")),
    Mutant("reader reduced by its first row", "compressed", _other_row),
    Mutant("writer without its first coordinate", "compressed", _first_coordinate_left_out),
    Mutant(
        "writer cut short before it is centred",
        "compressed",
        lambda s: s.rewire("layer1/proj/weight/short", 0, "layer1/proj/weight"),
    ),
)
