"""A kernel that doubles, variants of it that misbehave, and what it should give."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable

import numpy as np

from tautomer.runtime.first_run import Trial

_FRAME = """
using int64_t = __INT64_TYPE__;  // no headers: they take most of the time
extern "C" int raise(int);
enum { SIGABRT = 6, SIGSEGV = 11 };
%(extra)s
extern "C" __attribute__((visibility("default")))
void doubled(const void* const* inputs, void* const* outputs, const double* parameters,
             int64_t first, int64_t last, int64_t columns) {
  const float* in = static_cast<const float*>(inputs[0]);
  float* out = static_cast<float*>(outputs[0]);
  const float scale = static_cast<float>(parameters[0]);
  %(before)s
  for (int64_t i = first * columns; i < last * columns; ++i) out[i] = scale * in[i];
  %(after)s
}
"""


def kernel_text(*, before: str = "", after: str = "", extra: str = "") -> str:
    """The kernel, with something of one's own in it."""
    return _FRAME % {"before": before, "after": after, "extra": extra}


TEXT = kernel_text()


def trial(rows: int = 5, columns: int = 7) -> Trial:
    """A run of the kernel that doubles."""
    x = np.arange(rows * columns, dtype=np.float32).reshape(rows, columns)
    return Trial("doubled", [x], [((rows, columns), np.float32)], [2.0], rows, columns)


def is_double(one: Trial) -> Callable[[list[np.ndarray]], str | None]:
    """The comparison that belongs to a trial."""

    def compare(outputs: list[np.ndarray]) -> str | None:
        return None if np.array_equal(outputs[0], 2 * one.inputs[0]) else "it is not twice its input"

    return compare


def report(done: subprocess.CompletedProcess[str]) -> dict[str, object]:
    """What such a program printed."""
    assert done.returncode == 0, done.stderr
    document: dict[str, object] = json.loads(done.stdout)
    return document
