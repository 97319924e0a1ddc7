"""One model in every way to run it: checked against each other, timed in turns, profiled."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.norm_models import AUTO, VARIANTS, Variant
from benchmarks.peers import operators
from benchmarks.timing import bound, interleaved, load

TOLERANCE = 1e-3  # of the largest output; a wrong norm shows in full
NORMS = tuple(
    f"{skip}{name}"
    for skip in ("", "Skip")
    for name in ("LayerNormalization", "SimplifiedLayerNormalization", "RMSNormalization")
)
# A norm's neighbours: a fused one has its addition inside, a converted one has its bias outside.
AROUND = (*NORMS, "Add", "Sum", "Sub", "ReduceMean")


@dataclass
class Way:
    """One variant of one model, made.

    Attributes:
        text: what its maker says about it, or why there is none.
        ops: the norms and additions that the session runs.
    """

    variant: Variant
    path: Path
    text: str
    ops: Counter[str] = field(default_factory=Counter)
    failed: bool = False


@dataclass
class Row:
    """One model at one sequence length: per variant, by name."""

    model: str
    width: int
    sequence: int
    ways: list[Way]
    seconds: dict[str, float] = field(default_factory=dict)
    ratios: dict[str, tuple[float, float, float]] = field(default_factory=dict)
    distance: dict[str, float] = field(default_factory=dict)
    norm_part: dict[str, float] = field(default_factory=dict)


def made(source: Path, folder: Path) -> list[Way]:
    ways = []
    for variant in VARIANTS:
        way = Way(variant, folder / f"{variant.name.replace(' ', '-')}.onnx", "")
        ways.append(way)
        ran = folder / "ran.onnx"
        try:
            way.text = variant.make(source, way.path)
            load(way.path, disabled=variant.disabled, written=ran)
            way.ops = Counter({op: n for op, n in operators(ran).items() if op in AROUND})
        except Exception as error:  # a peer that fails is a row that says so
            way.failed, way.text = True, f"{type(error).__name__}: {error}".splitlines()[0][:120]
        ran.unlink(missing_ok=True)
    return ways


def _norm_part(way: Way, inputs: dict[str, np.ndarray], runs: int, folder: Path) -> float:
    """Milliseconds in norms and what stands around them: the shortest time of each node over the runs."""
    session = load(way.path, disabled=way.variant.disabled, profile=folder / "profile")
    call = bound(session, inputs)
    for _ in range(runs):
        call()
    written = Path(session.end_profiling())
    times: dict[str, list[float]] = {}
    for event in json.loads(written.read_text()):
        if event.get("cat") == "Node" and event["args"].get("op_name") in AROUND:
            times.setdefault(event["name"], []).append(event["dur"] / 1000)
    written.unlink()
    return sum(map(min, times.values()))


def measure(row: Row, inputs: dict[str, np.ndarray], rounds: int, folder: Path) -> None:
    ways = [way for way in row.ways if not way.failed]
    plain = load(ways[0].path, optimized=False)
    taken = {item.name: inputs[item.name] for item in plain.get_inputs()}
    truth = plain.run(None, taken)[0]
    del plain
    sessions = {way.variant.name: load(way.path, disabled=way.variant.disabled) for way in ways}
    for name, session in sessions.items():
        off = np.abs(session.run(None, taken)[0] - truth).max() / np.abs(truth).max()
        row.distance[name] = float(off)
    agreed = {name: bound(s, inputs) for name, s in sessions.items() if row.distance[name] <= TOLERANCE}
    if AUTO not in agreed:
        return
    seconds = interleaved(agreed, rounds)
    for name, times in seconds.items():
        row.seconds[name] = statistics.median(times)
        rounds_of = [time / ours for time, ours in zip(times, seconds[AUTO], strict=True)]
        low, middle, high = statistics.quantiles(rounds_of, n=4)
        row.ratios[name] = (middle, low, high)
    del agreed, sessions
    runs = round(min(max(5 / row.seconds[AUTO], 3), 30))
    for way in ways:
        row.norm_part[way.variant.name] = _norm_part(way, inputs, runs, folder)
