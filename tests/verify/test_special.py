"""What a rewritten graph may do where numbers end."""

from __future__ import annotations

import numpy as np
import pytest

from tautomer.verify.special import SAFE_SOFTMAX, examine, refused

NAN, INF = np.nan, np.inf
ONE = [1.0, 2.0]

# original, rewritten, exact -> kinds of what is found
CASES = {
    "numbers": (ONE, [1.0, 2.5], ONE, []),
    "a number lost": (ONE, [1.0, NAN], ONE, ["rejected"]),
    "an overflow of ours": (ONE, [1.0, INF], ONE, ["rejected"]),
    "an overflow of theirs": ([1.0, INF], ONE, ONE, ["improved"]),
    "nan of theirs": ([NAN, NAN], ONE, ONE, ["improved"]),
    "as bad": ([1.0, INF], [1.0, NAN], ONE, []),
    "the same infinity": ([1.0, INF], [1.0, INF], [1.0, INF], []),
    "infinity lost": ([1.0, INF], ONE, [1.0, INF], ["rejected"]),
    "infinity turned": ([1.0, INF], [1.0, -INF], [1.0, INF], ["rejected"]),
    "infinity spoilt": ([1.0, -INF], [1.0, NAN], [1.0, -INF], ["rejected"]),
    "the same nan": ([NAN, NAN], [NAN, NAN], [NAN, NAN], []),
    "masked rows become 0": ([NAN, NAN], [0.0, 0.0], [NAN, NAN], ["flag"]),
    "masked rows become a bias": ([NAN, NAN], [0.5, 2.0], [NAN, NAN], ["flag"]),
    "masked rows become nan": ([0.0, 0.0], [NAN, NAN], [0.0, 0.0], ["flag"]),
    "half a row becomes a number": ([NAN, NAN], [0.0, NAN], [NAN, NAN], ["rejected"]),
    "one nan of a row": ([1.0, NAN], ONE, [1.0, NAN], ["rejected"]),
}


@pytest.mark.parametrize("name", CASES)
def test_a_row(name):
    *rows, kinds = CASES[name]
    found = examine(*(np.asarray([ONE, row]) for row in rows))
    assert [f.kind for f in found] == kinds
    assert all(f.rows == 1 and f.first == 1 for f in found)


def test_flags_are_accepted_by_name_only():
    flags = examine(np.full((3, 4), NAN), np.zeros((3, 4)), np.full((3, 4), NAN))
    assert refused(flags) is flags[0] and refused(flags, ("something",)) is flags[0]
    assert refused(flags, (SAFE_SOFTMAX,)) is None
    assert flags[0].name == "safe-softmax" and flags[0].rows == 3


def test_no_name_accepts_a_rejection():
    found = examine(np.ones((1, 2)), np.asarray([[1.0, NAN]]), np.ones((1, 2)))
    stop = refused(found, (SAFE_SOFTMAX, ""))
    assert stop is not None and stop.kind == "rejected"


def test_improvements_are_accepted():
    found = examine(np.full((1, 2), INF), np.ones((1, 2)), np.ones((1, 2)))
    assert [f.kind for f in found] == ["improved"] and refused(found) is None
