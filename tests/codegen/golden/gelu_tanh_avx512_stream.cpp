#include <cstdint>
#include <cstddef>
#include <cstring>
#include <cmath>
#include <immintrin.h>

namespace kernel_51b6e46788c538fef0f62f24f5ce470e {

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC push_options
#pragma GCC optimize("schedule-insns,sched-pressure")
#endif
constexpr int LANES = 16;
#define INLINE inline __attribute__((always_inline))
#define INLINE_LAMBDA __attribute__((always_inline))
typedef float V __attribute__((vector_size(4 * LANES)));
typedef int32_t I __attribute__((vector_size(4 * LANES)));

// of so many elements at most, a sum is added up in float32
constexpr int64_t BLOCK = 2048;

INLINE V all(float value) { return value - V{}; }
INLINE V as_float(I bits) { return (V)bits; }
INLINE I as_bits(V value) { return (I)value; }
INLINE V pick(I mask, V yes, V no) { return mask ? yes : no; }

// the lanes that the last, partial vector of a row uses
INLINE I first_lanes(int64_t count) {
  const I lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  return lane < (int32_t)count;
}

typedef uint16_t S;
typedef uint16_t Stored __attribute__((vector_size(2 * LANES)));
typedef uint32_t U __attribute__((vector_size(4 * LANES)));
INLINE V widened(Stored v) { return (V)(__builtin_convertvector(v, U) << 16); }
INLINE Stored narrowed(V v) {
  const U bits = (U)v;
  const U even = bits + 0x7fffu + ((bits >> 16) & 1u);
  const U quiet = bits | 0x400000u;  // of a NaN, which rounding could carry over into infinity
  return __builtin_convertvector((v == v ? even : quiet) >> 16, Stored);
}

typedef Stored Anywhere __attribute__((aligned(1), may_alias));
INLINE V load(const S* p) { return widened(*(const Anywhere*)p); }
INLINE void store(S* p, V v) { *(Anywhere*)p = narrowed(v); }

INLINE V load_part(const S* p, int64_t count) {
  return widened((Stored)_mm256_maskz_loadu_epi16((__mmask16)((1u << count) - 1u), p));
}
INLINE void store_part(S* p, V v, int64_t count) {
  _mm256_mask_storeu_epi16(p, (__mmask16)((1u << count) - 1u), (__m256i)narrowed(v));
}

constexpr float ROUNDING = 0x1.8p23f, LOG2E = 0x1.715476p+0f;
constexpr float LN2_HIGH = 0x1.62e4p-1f, LN2_LOW = 0x1.7f7d1cp-20f;

INLINE V exp_curve(V r) {  // (e^r - 1 - r) / r^2
  V p = 0x1.6b4752p-10f * r + 0x1.122a6cp-7f;
  p = p * r + 0x1.55574ep-5f;
  p = p * r + 0x1.5554acp-3f;
  return p * r + 0x1.fffffep-2f;
}
INLINE V exp_near_zero(V r) { return (exp_curve(r) * r + 1.0f) * r + 1.0f; }

INLINE V exp_nonpositive(V x) {
  x = -104.0f > x ? all(-104.0f) : x;
  x = 89.0f < x ? all(89.0f) : x;
  const V shifted = x * LOG2E + ROUNDING, n = shifted - ROUNDING;
  const V p = exp_near_zero((x - n * LN2_HIGH) - n * LN2_LOW);
  return (V)_mm512_scalef_ps((__m512)p, (__m512)n);
}

INLINE V abs(V x) { return as_float(as_bits(x) & 0x7fffffff); }
INLINE V with_sign(V magnitude, V sign) {
  return as_float(as_bits(magnitude) | (as_bits(sign) & (int32_t)0x80000000));
}

INLINE V sigmoid(V x) {
  const V e = exp_nonpositive(-abs(x));
  return (x > 0.0f ? all(1.0f) : e) / (1.0f + e);
}

// four vectors from p on are going to be read, or written
INLINE void soon_read(uintptr_t p) {
  for (size_t i = 0; i < 4 * sizeof(Stored); i += 64) __builtin_prefetch((const void*)(p + i), 0, 3);
}
INLINE void soon_written(uintptr_t p) {
  for (size_t i = 0; i < 4 * sizeof(Stored); i += 64) __builtin_prefetch((const void*)(p + i), 1, 3);
}

INLINE void put(bool past_the_cache, S* p, V v) {
  if (past_the_cache) {
    _mm256_stream_si256((__m256i*)p, (__m256i)narrowed(v));
  } else {
    store(p, v);
  }
}
// how many elements come before the first that a whole vector may be streamed to; -1: there is none
INLINE int64_t before_aligned(const S* p) {
  const uintptr_t address = (uintptr_t)p;
  if (address % sizeof(S)) return -1;
  return (int64_t)((sizeof(Stored) - address % sizeof(Stored)) % sizeof(Stored) / sizeof(S));
}

extern "C" __attribute__((visibility("default")))
void tautomer_51b6e46788c538fef0f62f24f5ce470e(const void* const* inputs, void* const* outputs, const double* parameters,
            int64_t first, int64_t last, int64_t columns) {
  const S* const x_all = (const S*)inputs[0];
  S* const y_all = (S*)outputs[0];
  (void)parameters, (void)columns;
  const S* const x_row = x_all;
  S* const y_row = y_all;
  const int64_t ahead = 2048;
  const auto result = [&](V x) INLINE_LAMBDA -> V {
    const V t4 = 0x1.6e4e26p-5f * x;
    const V t5 = t4 * x;
    const V t6 = t5 * x;
    const V t7 = x + t6;
    const V t14 = 0x1.988454p+0f * t7;
    const V t15 = sigmoid(t14);
    const V t17 = x * t15;
    return t17;
  };
  int64_t i = first;
  const int64_t before = before_aligned(y_row + i);
  const bool streamed = before >= 0;
  const int64_t head = before < last - i ? before : last - i;
  if (head > 0) {
    const V r0 = result(load_part(x_row + i, head));
    store_part(y_row + i, r0, head);
    i += head;
  }
  for (; i + 4 * LANES <= last; i += 4 * LANES) {
    soon_read((uintptr_t)(x_row + i) + ahead);
    const V r0 = result(load(x_row + i));
    const V r1 = result(load(x_row + i + 1 * LANES));
    const V r2 = result(load(x_row + i + 2 * LANES));
    const V r3 = result(load(x_row + i + 3 * LANES));
    put(streamed, y_row + i, r0);
    put(streamed, y_row + i + 1 * LANES, r1);
    put(streamed, y_row + i + 2 * LANES, r2);
    put(streamed, y_row + i + 3 * LANES, r3);
  }
  for (; i + LANES <= last; i += LANES) {
    const V r0 = result(load(x_row + i));
    put(streamed, y_row + i, r0);
  }
  if (i < last) {
    const V r0 = result(load_part(x_row + i, last - i));
    store_part(y_row + i, r0, last - i);
  }
  _mm_sfence();
}

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC pop_options
#endif

}  // namespace
#undef INLINE
#undef INLINE_LAMBDA
