"""What kernels and models were meant to reach, beside what the tables in benchmarks/results say."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from benchmarks import markdown

Row = Mapping[str, str]
Size = Callable[[int, int], bool]


@dataclass(frozen=True)
class Bar:
    """A figure to reach.

    Attributes:
        what: in words.
        operation: as the table names it.
        size: which rows and columns it is about.
        columns: the columns of the table; the least of them counts.
        least: the figure.
    """

    what: str
    operation: str
    size: Size
    columns: tuple[str, ...]
    least: float


def _always(rows: int, columns: int) -> bool:
    return True


def _large(rows: int, columns: int) -> bool:
    return rows * columns >= 1 << 24


def _short(rows: int, columns: int) -> bool:
    return rows > 1 and columns <= 8192


_ALL = ("torch", "inductor", "onnxruntime")
KERNELS = (
    Bar("one row of 2^24 or more, the fastest", "Softmax", lambda r, c: r == 1 and c >= 1 << 24, _ALL, 1.6),
    Bar(
        "many rows of 32,000 to 131,072",
        "Softmax",
        lambda r, c: r > 1 and 32000 <= c <= 131072,
        ("onnxruntime",),
        1.35,
    ),
    Bar("rows of at most 8192", "Softmax", _short, ("onnxruntime",), 1.1),
    Bar("rows of at most 8192", "Softmax", _short, ("torch",), 2.0),
    Bar("2^24 elements", "LayerNormalization", _large, ("limit",), 0.85),
    Bar("2^24 elements", "LayerNormalization", _large, ("torch",), 1.7),
    Bar("2^24 elements", "RMSNormalization", _large, ("limit",), 0.85),
    Bar("2^24 elements", "RMSNormalization", _large, ("inductor",), 1.2),
    Bar("all sizes", "AddRMSNormalization", _always, ("inductor",), 1.35),
    Bar("all sizes", "AddRMSNormalization", _always, ("onnxruntime",), 1.9),
    Bar("2^24 elements", "Gelu[approximate=tanh]", _always, ("inductor",), 4.5),
    Bar("2^24 elements", "Gelu[approximate=none]", _always, ("inductor",), 1.7),
    Bar("all sizes", "PolyNorm", _always, ("inductor",), 3.0),
    Bar("all sizes", "EvoNorm-S0", _always, ("inductor",), 1.9),
    Bar("all sizes", "Rational (5, 4)", _always, ("inductor",), 1.3),
    Bar("all sizes", "Series of two GELUs", _always, ("inductor",), 1.3),
)


def reached(kernels: str) -> str:
    """A table: each bar, what was measured at the size where it is least, and whether that is enough.

    Args:
        kernels: the text of benchmarks/results/kernels.md.
    """
    rows = list(_first_table(kernels))
    lines = []
    for bar in KERNELS:
        found = {
            row["size"]: min(figures)
            for row in rows
            if row["operation"] == bar.operation
            and bar.size(*_size(row["size"]))
            and (figures := [_figure(row[column]) for column in bar.columns if row.get(column, "-") != "-"])
        }
        least = min(found, key=lambda size: found[size], default="")
        measured = f"{found[least]:.2f} ({least})" if found else "not measured"
        verdict = "-" if not found else "reached" if found[least] >= bar.least else "**missed**"
        against = "limit" if bar.columns == ("limit",) else ", ".join(bar.columns)
        lines.append([bar.operation, bar.what, against, f"{bar.least:g}", measured, verdict])
    return markdown.table(["kernel", "sizes", "against", "to reach", "measured", ""], lines)


def _first_table(text: str) -> Iterator[Row]:
    lines = [line for line in text.split("\n## ")[0].splitlines() if line.startswith("|")]
    head = _cells(lines[0])
    for line in lines[2:]:
        yield dict(zip(head, _cells(line), strict=True))


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def _size(name: str) -> tuple[int, int]:
    """Rows and columns of "64 x 1024" or "1 x 2^24"; what has more axes counts as rows of its last."""
    numbers = [2 ** int(part[2:]) if part.startswith("2^") else int(part) for part in name.split(" x ")]
    rows = 1
    for number in numbers[:-1]:
        rows *= number
    return rows, numbers[-1]


def _figure(cell: str) -> float:
    """The median of a cell; per cent as a part."""
    number = float(re.findall(r"[\d.]+", cell)[0])
    return number / 100 if "%" in cell else number
