"""Lists the benchmarks: `python -m benchmarks`, or `make bench`."""

from __future__ import annotations

import ast
from pathlib import Path


def commands() -> dict[str, str]:
    """Each benchmark's command, as its file gives it -> what it measures."""
    found = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        text = ast.get_docstring(ast.parse(path.read_text())) or ""
        for line in text.splitlines():
            if line.startswith(f"    python -m benchmarks.{path.stem}"):
                found[line.strip()] = text.splitlines()[0]
    return found


if __name__ == "__main__":
    for command, purpose in commands().items():
        print(f"{purpose}\n    {command}")
