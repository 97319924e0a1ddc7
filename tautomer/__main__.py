"""`python -m tautomer`."""

from __future__ import annotations

import sys

from tautomer.cli import run_as_program

sys.exit(run_as_program())
