"""Results as Markdown: tables, ratios, and where they go."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of text cells."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows))


def ratio(quartiles: Sequence[float], digits: int = 2) -> str:
    """The median, in bold where it is below 1, and the quartiles around it."""
    low, middle, high = quartiles
    return f"{'**' * (middle < 1)}{middle:.{digits}f}{'**' * (middle < 1)} ({low:.2f}-{high:.2f})"


def publish(text: str, out: Path | None) -> None:
    """Prints a report, and writes it to a file where one is named."""
    print(text)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text.rstrip("\n") + "\n")
