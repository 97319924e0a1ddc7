"""Optimizes a model file, shows what changed and how it was checked, and saves the result.

python examples/optimize_a_file.py [MODEL [RESULT]]
"""

from __future__ import annotations

import sys
from pathlib import Path

import tautomer

DEMO = Path(__file__).parent / "models" / "llama_tiny.onnx"


def main(path: str | Path = DEMO, result: str | Path = "optimized.onnx") -> None:
    """Prints the operators before and after, then the evidence that both files compute the same."""
    optimized = tautomer.optimize(path)
    print(f"{'operator':<28} before  after")
    for op in sorted({*optimized.before, *optimized.after}):
        before, after = optimized.before.get(op, 0), optimized.after.get(op, 0)
        if before != after:
            print(f"{op:<28} {before:>6} {after:>6}")
    print(f"\nverification: {optimized.verification}")
    optimized.save(result)
    print(f"saved to {result}")


if __name__ == "__main__":
    main(*sys.argv[1:3])
