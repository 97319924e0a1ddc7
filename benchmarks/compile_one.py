"""One run of one tool in a process of its own: `python -m benchmarks.compile_one TOOL SOURCE TARGET`.

Prints one JSON object: seconds of the import and of the work, stages where they are known, peak memory, and
the error if there was one.
"""

from __future__ import annotations

import importlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import stages
from benchmarks.peers import PEERS, operators

TOOLS = {
    "tautomer": (stages.IMPORTS, stages.run),
    "recognition": (stages.IMPORTS, stages.count),
    **{peer.name: (peer.imports, peer.run) for peer in PEERS},
}


def measured(tool: str, source: Path) -> dict[str, Any]:
    """Runs the tool in a fresh process on the file."""
    with tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch) / "optimized.onnx"
        command = [sys.executable, "-m", "benchmarks.compile_one", tool, str(source), str(target)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        lines = done.stdout.strip().splitlines()
        if done.returncode != 0 or not lines:
            return {"error": (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]}
        facts = json.loads(lines[-1])
        if target.exists():
            facts["nodes"] = operators(target).total()
        return facts


def main() -> None:
    """The child's side."""
    tool, source, target = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    imports, run = TOOLS[tool]
    with source.open("rb") as file:  # every tool finds the file in the page cache
        while file.read(1 << 24):
            pass
    start = time.perf_counter()
    for module in imports:
        importlib.import_module(module)
    imported = time.perf_counter()
    facts: dict[str, Any] = {"error": ""}
    try:
        facts |= run(source, target) or {}
    except Exception as error:
        facts["error"] = f"{type(error).__name__}: {error}".splitlines()[0][:160]
    facts["seconds"] = time.perf_counter() - imported
    facts["import"] = imported - start
    facts["peak MiB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
