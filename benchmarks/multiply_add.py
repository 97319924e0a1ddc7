"""How many multiply-adds one thread can do: a loop of nothing else, to be timed among other calls."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

from tautomer.runtime.kernel_cache import library
from tautomer.runtime.onnxruntime.kernels import isa_of

_ROUNDS = 100_000
# twelve independent sums: as many as hide the latency of an operation, and fit into registers
_TEXT = """\
typedef float V __attribute__((vector_size(4 * LANES)));
extern "C" __attribute__((visibility("default")))
float multiply_add(long rounds, float factor, float summand) {
  V sums[12], a = factor - V{}, b = summand - V{};
  for (int i = 0; i < 12; ++i) sums[i] = a * (float)i;
  for (long r = 0; r < rounds; ++r)
#pragma GCC unroll 12
    for (int i = 0; i < 12; ++i) sums[i] = sums[i] * a + b;
  V all{};
  for (int i = 0; i < 12; ++i) all += sums[i];
  float total = 0;
  for (int i = 0; i < LANES; ++i) total += all[i];
  return total;
}
"""


def multiply_adds() -> tuple[Callable[[], None], float]:
    """A call, and the floating-point operations that it does."""
    isa = isa_of("native")
    path = library(f"#define LANES {isa.lanes}\n{_TEXT}", isa.flags)
    function = ctypes.CDLL(str(path)).multiply_add
    function.argtypes = (ctypes.c_long, ctypes.c_float, ctypes.c_float)

    def call() -> None:
        function(_ROUNDS, 0.5, 0.25)

    return call, 2.0 * 12 * isa.lanes * _ROUNDS
