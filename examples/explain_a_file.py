"""Answers "why was this not fused?" for a model file: what was recognised, what was not, and why.

python examples/explain_a_file.py [MODEL]
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import tautomer

DEMO = Path(__file__).parent / "models" / "llama_tiny.onnx"


def main(path: str | Path = DEMO) -> None:
    """Prints the operations in the file, then one line for each remark."""
    operations = Counter(operation.op for operation in tautomer.inspect(path))
    print("found:", ", ".join(f"{count} {op}" for op, count in operations.most_common()))
    for remark in tautomer.explain(path):
        print(f"{remark.kind:<8} {remark.rule}: {remark.op} at {remark.node}: {remark.reason}")
        if remark.hint:
            print(f"{'':<8} {remark.hint}")


if __name__ == "__main__":
    main(*sys.argv[1:2])
