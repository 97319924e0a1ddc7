"""NaN and infinities: what a rewritten graph may do where numbers end.

original finite, rewritten not                          rejected
original not finite, exact value and rewritten finite   improved
a row all NaN in one and numbers in the other           flagged: accepted only by name
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

SAFE_SOFTMAX = "safe-softmax"
"""The option that takes a number where the other graph has NaN for a whole row, as where all is masked."""

Rows = NDArray[np.float64]


@dataclass(frozen=True)
class Finding:
    """One way in which special values differ.

    Attributes:
        kind: rejected, improved, or flag: accepted by those who name the option.
        name: the option for a flag, else "".
        reason: what was seen.
        rows: in how many rows.
        first: the first of them.
    """

    kind: Literal["rejected", "improved", "flag"]
    name: str
    reason: str
    rows: int
    first: int


def examine(original: Rows, rewritten: Rows, exact: Rows) -> list[Finding]:
    """Compares the special values of two results, row by row.

    Args:
        original: what the original graph gives in its own type, as rows.
        rewritten: what the rewritten graph gives.
        exact: what the original graph means.
    """
    a, b, c = np.isfinite(original), np.isfinite(rewritten), np.isfinite(exact)
    nowhere = np.isnan(exact).all(-1)
    gained = nowhere & np.isnan(original).all(-1) & b.all(-1)
    lost = (original == 0.0).all(-1) & np.isnan(rewritten).all(-1)
    elsewhere = np.logical_not(gained | lost).reshape(-1, 1)
    # an infinity that is meant must stay; NaN where the exact value is no number either may become either
    changed = ~a & ~c & (b | ((original == exact) & (rewritten != exact)))
    found = [
        _finding("rejected", "", "not finite where the original is", a & ~b & elsewhere),
        _finding("rejected", "", "another special value than the original's", changed & elsewhere),
        _finding("improved", "", "finite where only the original's rounding was not", ~a & b & c),
        _finding(
            "flag", SAFE_SOFTMAX, "numbers in rows where the original is all NaN", gained.reshape(-1, 1)
        ),
        _finding("flag", SAFE_SOFTMAX, "NaN in rows where the original is all 0", lost.reshape(-1, 1)),
    ]
    return [finding for finding in found if finding is not None]


def _finding(kind: Any, name: str, reason: str, where: NDArray[np.bool_]) -> Finding | None:
    rows = np.flatnonzero(where.any(-1))
    return Finding(kind, name, reason, len(rows), int(rows[0])) if len(rows) else None


def refused(findings: Collection[Finding], allowed: Collection[str] = ()) -> Finding | None:
    """The first finding that is not acceptable; flags are when their option is allowed."""
    for finding in findings:
        if finding.kind == "rejected" or (finding.kind == "flag" and finding.name not in allowed):
            return finding
    return None
