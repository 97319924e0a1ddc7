"""What was to be reached on a GPU, and what a run of `benchmarks.gpu` reached; bold is what was missed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from benchmarks.gpu_case import OURS
from benchmarks.markdown import table

Row = dict[str, Any]
_MODEL = 0.98  # of inductor's speed, at least
_TFLOPS = 515.0  # of an H100


def bars(results: dict[str, Any]) -> str:
    """A table, by what was asked for."""
    cells = [[what, bar, reached or "not measured"] for what, bar, reached in _reached(results)]
    return table(["", "bar", "reached"], cells)


def _reached(results: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    def rows(section: str, wanted: Callable[[Row], bool]) -> list[Row]:
        cases = [one for one in results["cases"] if one.get("section") == section and "times" in one]
        return [one for one in cases if isinstance(one["times"].get(OURS), float) and wanted(one)]

    norms = rows("norms", lambda one: "norm" in one["name"] and "backward" not in one["name"])
    yield "norms and residual norms, forward, 768 to 16384", "90% of the copy", _shares(norms, 0.90)
    yield "", "not slower than inductor", _ratios(norms, "inductor", 1.0)
    yield "", "1.5 times eager", _ratios(norms, "eager", 1.5)
    many = rows("softmax", lambda one: one["name"] == "softmax" and one["bar"] != "few rows")
    for what, bar, found in (
        ("to 64k", 0.90, [one for one in many if _columns(one) <= 1 << 16]),
        ("longer", 0.85, [one for one in many if _columns(one) > 1 << 16]),
    ):
        yield f"softmax, rows {what}", f"{bar:.0%} of the copy", _shares(found, bar)
    whole = rows("attention", _whole)
    for name, bar in (("sigmoid", 1.17), ("sigmoid backward", 1.1)):
        wide = [one for one in whole if one["name"] == name]
        yield f"{name}, d = 128", f"{bar} times flash", _ratios(wide, "flash", bar)
        if name == "sigmoid":
            rates = [one["matrix"] * results["ceilings"]["matrix"] / 1e12 for one in wide if "matrix" in one]
            yield "", f"{_TFLOPS:.0f} TFLOP/s", _marked(max(rates), _TFLOPS, "{:.0f}") if rates else ""
    models = rows("models", lambda one: True)
    told = [f"{one['name']} {_ratios([one], 'inductor', _MODEL)}" for one in models]
    yield "models", "at most 2 % slower than inductor", ", ".join(told)


def _columns(row: Row) -> int:
    return int(row["size"].rpartition(" ")[2])


def _whole(row: Row) -> bool:
    return bool(row["size"].startswith("d128 ") and row["size"].endswith(" full"))


def _shares(rows: Sequence[Row], bar: float) -> str:
    """Of the copy, the least and the most."""
    return _span([row["copy"] for row in rows if "copy" in row], bar, "{:.0%}")


def _ratios(rows: Sequence[Row], peer: str, bar: float) -> str:
    """A peer's times in times of ours."""
    return _span([row["ratios"][peer] for row in rows if peer in row.get("ratios", {})], bar, "{:.2f}")


def _span(values: Sequence[float], bar: float, shown: str) -> str:
    if not values:
        return ""
    ends = [_marked(one, bar, shown) for one in (min(values), max(values))]
    return ends[0] if len(values) == 1 else " to ".join(ends)


def _marked(value: float, bar: float, shown: str) -> str:
    told = shown.format(value)
    return told if value >= bar else f"**{told}**"
