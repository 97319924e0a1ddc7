"""The generated page says what the definitions say."""

from __future__ import annotations

from pathlib import Path

from tautomer.patterns.documentation import operations_table

ROOT = Path(__file__).parents[1]


def test_the_table_of_operations_is_up_to_date() -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    assert operations_table() in page, "run `make docs`"
