"""Exports for the tests: made once, kept between runs."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
if str(ROOT) not in sys.path:  # benchmarks/ is not part of the installed package
    sys.path.insert(0, str(ROOT))


@pytest.fixture(scope="session")
def exports_folder(pytestconfig: pytest.Config) -> Path:
    """Where exports are kept: the folder that TAUTOMER_EXPORTS names, or pytest's cache."""
    named = os.environ.get("TAUTOMER_EXPORTS")
    return Path(named) if named else pytestconfig.cache.mkdir("tautomer-exports")
