"""What all tests share: exports of real architectures, made once, and a quiet garbage collector."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

# Many tests start programs that import the package: its sources are compiled once, not by each of them.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

if TYPE_CHECKING:
    from benchmarks.specs import ExportSpec

ROOT = Path(__file__).parents[1]
if str(ROOT) not in sys.path:  # benchmarks/ is not part of the installed package
    sys.path.insert(0, str(ROOT))


def pytest_collection_finish() -> None:
    """Takes what is imported by now, millions of objects, out of every later collection of garbage."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def exported(pytestconfig: pytest.Config) -> Callable[[ExportSpec], Path]:
    """The file of an export, from the folder that TAUTOMER_EXPORTS names, or from pytest's cache."""
    from benchmarks.exports import export

    named = os.environ.get("TAUTOMER_EXPORTS")
    folder = Path(named) if named else pytestconfig.cache.mkdir("tautomer-exports")
    return lambda spec: export(spec, folder)
