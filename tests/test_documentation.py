"""The generated page says what the definitions say."""

from __future__ import annotations

from pathlib import Path

from benchmarks.operations_page import PAGE, page
from benchmarks.rewrites_table import PACKAGE, REWRITES

ROOT = Path(__file__).parents[1]


def test_the_table_of_operations_is_up_to_date() -> None:
    assert PAGE.read_text() == page(), "run `make docs`"


def test_rewrites_are_called_what_their_remarks_call_them() -> None:
    for one in REWRITES:
        assert f'= "{one.rule}"' in (PACKAGE / one.file).read_text()
