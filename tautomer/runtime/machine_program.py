"""The C++ program that measures a machine: bytes moved and float32 operations per second of one thread."""

from __future__ import annotations

import platform
import re

from tautomer.codegen.isa import AVX2, AVX512, PORTABLE

_ISAS = {one.name: one for one in (AVX512, AVX2, PORTABLE)}

# Copies multiply, because a plain copy becomes a call of memcpy, which chooses its stores by itself. Times
# are those that the thread has run, and the least of many: other programs run beside this one.
_TEXT = """\
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef float Vector __attribute__((vector_size(WIDTH)));

#if defined(__clang__)
#define STREAM(to, value) __builtin_nontemporal_store(value, to)
#elif defined(__AVX512F__)
#define STREAM(to, value) __builtin_ia32_movntps512((float*)(to), value)
#elif defined(__AVX__)
#define STREAM(to, value) __builtin_ia32_movntps256((float*)(to), value)
#elif defined(__SSE__)
#define STREAM(to, value) __builtin_ia32_movntps((float*)(to), value)
#endif

static double now(clockid_t clock) {
  timespec time;
  clock_gettime(clock, &time);
  return double(time.tv_sec) + 1e-9 * double(time.tv_nsec);
}

template <class Work>
static double least_time(double seconds, Work work) {
  double least = 1e30;
  const double end = now(CLOCK_MONOTONIC) + seconds;
  for (int tries = 0; tries < 3 || now(CLOCK_MONOTONIC) < end; ++tries) {
    const double before = now(CLOCK_THREAD_CPUTIME_ID);
    work();
    const double taken = now(CLOCK_THREAD_CPUTIME_ID) - before;
    if (taken < least) least = taken;
  }
  return least > 1e-9 ? least : 1e-9;
}

static void read(const Vector* from, size_t count, Vector* out) {
  Vector SUMS;
  for (size_t i = 0; i < count; i += 8) {
    ADD
  }
  out[0] = TOTAL;
}

static void copy(const Vector* from, size_t count, float factor, Vector* to) {
  for (size_t i = 0; i < count; ++i) to[i] = from[i] * factor;
}

#ifdef STREAM
static void stream(const Vector* from, size_t count, float factor, Vector* to) {
  for (size_t i = 0; i < count; ++i) STREAM(to + i, from[i] * factor);
#if defined(__SSE__)
  __builtin_ia32_sfence();
#endif
}
#endif

static void multiply_add(size_t rounds, float factor, float summand, Vector* out) {
  Vector CHAINS;
  for (size_t i = 0; i < rounds; ++i) {
    STEP
  }
  out[0] = LAST;
}

// numbers: bytes per second read, copied and streamed; operations per second; 0 for what is not known
extern "C" __attribute__((visibility("default")))
void tautomer_measure(size_t bytes, double seconds, double* numbers) {
  void* memory[2] = {};
  if (!posix_memalign(&memory[0], 4096, bytes) && !posix_memalign(&memory[1], 4096, bytes)) {
    memset(memory[0], 0, bytes);
    memset(memory[1], 0, bytes);
    const size_t count = bytes / sizeof(Vector) / 8 * 8;
    const double moved = double(count * sizeof(Vector));
    const Vector* from = (const Vector*)memory[0];
    Vector* to = (Vector*)memory[1];
    volatile float half = 0.5f;
    const size_t rounds = 1 << 16;
    numbers[0] = moved / least_time(seconds, [&] { read(from, count, to); });
    numbers[1] = 2 * moved / least_time(seconds, [&] { copy(from, count, half, to); });
#ifdef STREAM
    numbers[2] = 2 * moved / least_time(seconds, [&] { stream(from, count, half, to); });
#endif
    const double operations = 2.0 * double(rounds) * COUNT * (sizeof(Vector) / sizeof(float));
    numbers[3] = operations / least_time(seconds, [&] { multiply_add(rounds, half, half, to); });
  }
  free(memory[0]);
  free(memory[1]);
}
"""


def program(isa: str) -> tuple[str, tuple[str, ...]]:
    """The text and the compiler's flags.

    Args:
        isa: the instruction set, by name.
    """
    found = _ISAS.get(isa, PORTABLE)
    # enough chains to fill two units of five cycles each with 16 registers, or four of four cycles with 32
    chains = range(24 if platform.machine() in ("aarch64", "arm64") else 12)
    # single names: compilers keep arrays in memory
    parts = {
        "WIDTH": str(4 * found.lanes),
        "SUMS": ", ".join(f"s{i} = {{}}" for i in range(8)),
        "ADD": " ".join(f"s{i} += from[i + {i}];" for i in range(8)),
        "TOTAL": " + ".join(f"s{i}" for i in range(8)),
        "CHAINS": ", ".join(f"c{i} = out[{i}]" for i in chains),
        "STEP": " ".join(f"c{i} = c{i} * factor + summand;" for i in chains),
        "LAST": " + ".join(f"c{i}" for i in chains),
        "COUNT": str(len(chains)),
    }
    return re.sub(r"\b(?:" + "|".join(parts) + r")\b", lambda name: parts[name[0]], _TEXT), found.flags
