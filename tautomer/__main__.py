"""`python -m tautomer`."""

from __future__ import annotations

import sys

from tautomer.cli import main

sys.exit(main())
