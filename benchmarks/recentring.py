"""Which layer normalisations become RMSNormalization, family by family, and why the others do not.

    python -m benchmarks.recentring [--exports DIR] [--quick] [--write] [--no-verify]

Each export is optimized with --norm rms and verified. The counts that the architecture implies are in
benchmarks/conversions.py; a line that has other counts, or is not EQUAL, ends the run with exit code 1.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import tautomer
from benchmarks.conversions import CONVERSIONS
from benchmarks.exports import ExportFailed, ExportSpec, export, quick, specs
from benchmarks.machine import describe
from tautomer.errors import TautomerError

RESULTS = Path(__file__).parent / "results" / "recentring.md"


@dataclass(frozen=True)
class Row:
    """One export."""

    spec: ExportSpec
    converted: int
    norms: int
    centrings: int
    verdict: str
    reasons: tuple[str, ...]
    seconds: float

    @property
    def right(self) -> bool:
        """Whether it is what the architecture implies, and verified."""
        counts = (self.converted, self.norms, self.centrings)
        return counts == CONVERSIONS[self.spec.family] and self.verdict in ("EQUAL", "-")


def measure(spec: ExportSpec, path: Path, *, verify: bool) -> Row:
    """Optimizes one export."""
    start = time.perf_counter()
    verdict = "-"
    if verify:
        try:
            result = tautomer.optimize(path, norm="rms")
            remarks, verdict = result.remarks, str(result.verification["verdict"])
        except TautomerError as error:
            remarks, verdict = [], f"failed: {error}"
    else:
        remarks = tautomer.explain(path, norm="rms")
    found = [remark for remark in remarks if remark.rule == "recentre"]
    kinds = Counter(remark.kind for remark in found)
    reasons = Counter(remark.reason for remark in found if remark.kind == "missed")
    return Row(
        spec,
        kinds["passed"],
        kinds["passed"] + kinds["missed"],
        kinds["analysis"],
        verdict,
        tuple(f"{count} x {reason}" for reason, count in reasons.items()),
        time.perf_counter() - start,
    )


def _table(rows: list[Row]) -> str:
    lines = [
        "| export | converted | centred at run time | verdict | why the others stay |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        mark = "" if row.right else f" (expected {CONVERSIONS[row.spec.family]})"
        lines.append(
            f"| {row.spec.name} | {row.converted} / {row.norms}{mark} | {row.centrings} | {row.verdict} "
            f"| {'; '.join(row.reasons).replace('|', '/')} |"
        )
    return "\n".join(lines) + "\n"


def main() -> int:
    """Prints the table; writes it where it is asked to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--exports", type=Path, help="where exports are kept")
    parser.add_argument("--quick", action="store_true", help="one export a family and exporter")
    parser.add_argument("--no-verify", action="store_true", help="count only")
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.name}")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows: list[Row] = []
        for spec in quick() if options.quick else specs():
            try:
                path = export(spec, options.exports or Path(folder))
            except ExportFailed as failure:
                print(f"{spec.name}: the exporter refuses: {failure}", file=sys.stderr)
                continue
            rows.append(measure(spec, path, verify=not options.no_verify))
            row = rows[-1]
            print(
                f"{spec.name}: {row.converted}/{row.norms} {row.verdict} {row.seconds:.1f} s", file=sys.stderr
            )
    table = _table(rows)
    print(table)
    if options.write:
        command = "python -m benchmarks.recentring" + (" --quick" if options.quick else "") + " --write"
        machine = describe(("tautomer", "onnx", "onnxruntime", "torch", "transformers", "python-flint"))
        title = "# Layer normalisations converted to RMSNormalization"
        text = f"{title}\n\n{machine}\n\n    {command}\n\n{table}"
        RESULTS.write_text(text, encoding="utf-8")
    return 0 if all(row.right for row in rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
