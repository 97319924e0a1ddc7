"""What is found in exports of real architectures, against what their torch code executes.

    python -m benchmarks.recognition [--exports DIR] [--quick] [--write]

Beside it: what other optimizers leave in their outputs. A kind (norm, softmax, attention, activation) is
found when one operator stands for it. Every output also runs in ONNX Runtime without optimizations, against
the file that it was made from.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnxruntime

from benchmarks.exports import ExportFailed, ExportSpec, expected, export, quick, silence, specs
from benchmarks.machine import describe
from benchmarks.peers import KINDS, PEERS, fused_kinds, kinds, operators
from benchmarks.specs import counted

RESULTS = Path(__file__).parent / "results" / "recognition.md"
RIVALS = tuple(
    peer for peer in PEERS if peer.name in ("onnxruntime", "onnxscript", "onnxslim") and peer.version
)
# Of the largest output. Reordered roundings stay under 1e-5 on these models; a wrong rewrite shows in full.
TOLERANCE = 1e-4


@dataclass
class Outcome:
    """What one tool did to one file."""

    found: Counter[str] = field(default_factory=Counter)
    nodes: int = 0
    seconds: float = 0.0
    fault: str = ""


def _run(path: Path, inputs: dict[str, np.ndarray]) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    taken = {argument.name for argument in session.get_inputs()}
    return session.run(None, {name: value for name, value in inputs.items() if name in taken})[0]


def _tautomer(source: Path, target: Path) -> None:
    import tautomer

    tautomer.optimize(source).save(target)


def measured(run: Callable[[Path, Path], None], source: Path, spec: ExportSpec) -> Outcome:
    """Runs a tool on a file, counts what is in its output and checks that output."""
    outcome = Outcome()
    with tempfile.TemporaryDirectory() as scratch, silence():
        target = Path(scratch) / "optimized.onnx"
        start = time.perf_counter()
        try:
            run(source, target)
            outcome.seconds = time.perf_counter() - start
            outcome.found, outcome.nodes = fused_kinds(target), operators(target).total()
        except Exception as error:
            outcome.fault = f"fails: {type(error).__name__}"
            return outcome
        # An exporter's rotary embedding at opset 23 runs with a batch of 1 only.
        inputs = {
            name: value[:1] if spec.shapes == "dynamic" else value for name, value in spec.inputs().items()
        }
        wanted = _run(source, inputs)
        try:
            error = float(np.abs(_run(target, inputs) - wanted).max() / np.abs(wanted).max())
        except Exception:
            outcome.fault = "does not run"
        else:
            outcome.fault = "" if error < TOLERANCE else f"differs by {error:.0e}"
    return outcome


def ours(source: Path, spec: ExportSpec) -> Outcome:
    """What `tautomer.inspect` finds, and what `tautomer.optimize` makes of the file."""
    import tautomer

    outcome = measured(_tautomer, source, spec)
    try:
        outcome.found = kinds(counted(tautomer.inspect(source)))
    except Exception as error:
        outcome.fault = f"inspect fails: {type(error).__name__}"
    return outcome


def _cells(outcome: Outcome, truth: Counter[str]) -> str:
    found = " ".join(f"{outcome.found[kind]}/{truth[kind]}" for kind in KINDS)
    return f"{found}{' **' + outcome.fault + '**' if outcome.fault else ''}"


def table(folder: Path, chosen: tuple[ExportSpec, ...]) -> list[str]:
    """A row for each export, and the totals."""
    names = ["tautomer", *(peer.name for peer in RIVALS)]
    lines = [f"| export | {' | '.join(names)} | nodes | seconds |", "|---" * (len(names) + 3) + "|"]
    totals = {name: Counter[str]() for name in names}
    faults, wanted = Counter[str](), Counter[str]()
    for done, spec in enumerate(chosen, 1):
        print(f"[{done}/{len(chosen)}] {spec.name}", file=sys.stderr, flush=True)
        try:
            source = export(spec, folder)
        except ExportFailed:
            continue
        truth = kinds(Counter(expected(spec.family)))
        wanted.update(truth)
        outcomes = {"tautomer": ours(source, spec)}
        outcomes |= {peer.name: measured(peer.run, source, spec) for peer in RIVALS}
        for name, outcome in outcomes.items():
            totals[name].update({kind: min(outcome.found[kind], truth[kind]) for kind in KINDS})
            faults[name] += bool(outcome.fault)
        mine = outcomes["tautomer"]
        cells = " | ".join(_cells(outcome, truth) for outcome in outcomes.values())
        nodes = f"{operators(source).total()} -> {mine.nodes}"
        lines.append(f"| {spec.name} | {cells} | {nodes} | {mine.seconds:.2f} |")
    sums = (" ".join(f"{totals[name][kind]}/{wanted[kind]}" for kind in KINDS) for name in names)
    lines.append(f"| **all** | {' | '.join(sums)} | | |")
    lines.append(f"| **files with a fault** | {' | '.join(str(faults[name]) for name in names)} | | |")
    return lines


def main(arguments: list[str] | None = None) -> int:
    """Prints the table, and keeps it when asked to."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.recognition", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--exports", type=Path, default=Path(tempfile.gettempdir()) / "tautomer-exports")
    parser.add_argument("--quick", action="store_true", help="one export a family and exporter")
    parser.add_argument("--write", action="store_true", help=f"also write {RESULTS.name} beside this file")
    options = parser.parse_args(arguments)
    lines = [
        "# What is found in real exports",
        "",
        f"Found/executed: {', '.join(KINDS)}. For tautomer what `inspect` finds, for the others what is one",
        "operator in their output. Nodes and seconds: of `tautomer.optimize`, with its check.",
        "",
        *table(options.exports, quick() if options.quick else specs()),
        "",
        describe(["tautomer", "torch", "transformers", "onnx", *(peer.package for peer in RIVALS)]),
    ]
    print("\n".join(lines))
    if options.write:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
