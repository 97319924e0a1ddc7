"""The generated page says what the definitions say."""

from __future__ import annotations

from pathlib import Path

from benchmarks.operations_page import PAGE, page

ROOT = Path(__file__).parents[1]


def test_the_table_of_operations_is_up_to_date() -> None:
    assert PAGE.read_text() == page(), "run `make docs`"
