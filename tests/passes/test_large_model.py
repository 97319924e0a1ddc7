"""Memory does not grow with the model: what is written is computed and written slab by slab."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.large_model import wrong_rows
from benchmarks.sparse_model import Sizes, write_sparse

ROOT = Path(__file__).parents[2]
SMALL = Sizes(layers=1, width=64, hidden=256, tokens=100, positions=32, heads=4)
# 300 MB; the perceptron's matrices are the largest, with 42 MB each
LARGE = Sizes(layers=3, width=1280, hidden=8192, tokens=4000, positions=1024, heads=8)

CHILD = """
import json, sys
from pathlib import Path
from benchmarks.large_model import optimized
names = [Path(name) for name in sys.argv[1:]]
print(json.dumps([optimized(*names[:2]), optimized(*names[2:])]))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not say its peak memory")
def test_memory_does_not_grow_with_the_model(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("small.onnx", "small_out.onnx", "large.onnx", "large_out.onnx")]
    write_sparse(files[0], SMALL)
    write_sparse(files[2], LARGE)
    assert LARGE.bytes > 300e6
    # one process for both: what the libraries themselves take is in the first peak
    command = [sys.executable, "-c", CHILD, *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    small, large = json.loads(done.stdout.strip().splitlines()[-1])
    largest = 4 * LARGE.width * LARGE.hidden
    assert large["norms"] == 2 * LARGE.layers + 1
    # a matrix as it is stored, in float64, and less its mean would be five times as much
    assert large["peak"] - small["peak"] < 3 * largest
    assert wrong_rows(files[2], files[3], LARGE) == []
    assert wrong_rows(files[0], files[1], SMALL) == []
