"""The page of benchmarks says of each figure whether it was reached, at the size where it is least."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
if str(ROOT) not in sys.path:  # benchmarks/ is not part of the installed package
    sys.path.insert(0, str(ROOT))

from benchmarks.bars import reached  # noqa: E402
from benchmarks.gpu_bars import bars  # noqa: E402

KERNELS = """# Generated kernels

| operation | size | ours, us | limit | torch | inductor | onnxruntime |
| --- | --- | --- | --- | --- | --- | --- |
| Softmax | 64 x 1024 | 39.2 | 27 % | 2.31 (2.24-2.56) | 4.20 (3.75-4.93) | 1.17 (0.98-1.14) |
| Softmax | 4096 x 768 | 22.6 | 27 % | 1.80 (1.74-1.83) | 1.97 (1.94-2.04) | **0.71** (0.66-0.75) |
| Softmax | 1 x 2^24 | 1684.7 | 31 % | 2.67 (1.61-1.82) | - | 1.60 (1.20-1.40) |
| RMSNormalization | 16384 x 1024 | 8149.5 | 85 % | 3.37 (3.16-3.49) | 1.19 (1.33-1.49) | 1.27 (1.25-1.35) |

## Largest error

| operation | size | ours |
| --- | --- | --- |
| Softmax | 64 x 1024 | 7.7e-08 |
"""


def rows() -> dict[tuple[str, str, str], tuple[str, str]]:
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in reached(KERNELS).splitlines()]
    return {(op, what, against): (found, verdict) for op, what, against, _, found, verdict in lines[2:]}


def test_the_least_of_the_sizes_and_of_the_peers_decides() -> None:
    said = rows()
    short = "rows of at most 8192"
    assert said["Softmax", short, "torch"] == ("1.80 (4096 x 768)", "**missed**")
    assert said["Softmax", short, "onnxruntime"] == ("0.71 (4096 x 768)", "**missed**")
    long = ("Softmax", "one row of 2^24 or more, the fastest", "torch, inductor, onnxruntime")
    assert said[long] == ("1.60 (1 x 2^24)", "reached")


def test_per_cent_of_the_limit_and_figures_just_below_what_was_to_be_reached() -> None:
    said = rows()
    assert said["RMSNormalization", "2^24 elements", "limit"] == ("0.85 (16384 x 1024)", "reached")
    assert said["RMSNormalization", "2^24 elements", "inductor"] == ("1.19 (16384 x 1024)", "**missed**")


def test_what_is_in_no_table_was_not_measured() -> None:
    assert rows()["PolyNorm", "all sizes", "inductor"] == ("not measured", "-")


def test_bars_of_a_gpu_are_missed_reached_or_not_measured() -> None:
    def case(section: str, name: str, size: str, **more: object) -> dict[str, object]:
        return {"section": section, "name": name, "size": size, "bar": "", "times": {"ours": 1.0}, **more}

    cases = [
        case("softmax", "softmax", "1024 x 65536", copy=0.86),
        case("softmax", "softmax", "2048 x 32768", copy=0.91),
        case("norms", "rms_norm", "87381 x 768", copy=0.99, ratios={"inductor": 1.0, "eager": 1.18}),
        case("attention", "sigmoid", "d128 N16384 full", matrix=0.7, ratios={"flash": 1.42}),
        case("attention", "sigmoid", "d64 N2048 full", matrix=0.2, ratios={"flash": 0.5}),
        {"section": "models", "left out": 6},
    ]
    lines = bars({"cases": cases, "ceilings": {"matrix": 7.21e14}}).splitlines()
    said = {tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines}
    assert ("softmax, rows to 64k", "90% of the copy", "**86%** to 91%") in said
    assert ("softmax, rows longer", "85% of the copy", "not measured") in said
    assert ("", "1.5 times eager", "**1.18**") in said
    assert ("sigmoid, d = 128", "1.17 times flash", "1.42") in said
    assert ("", "515 TFLOP/s", "**505**") in said
    assert ("models", "at most 2 % slower than inductor", "not measured") in said
