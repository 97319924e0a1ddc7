#include <cstdint>
#include <cstddef>
#include <cstring>
#include <cmath>
#ifdef __clang__
#include <immintrin.h>
#else
#define _IMMINTRIN_H_INCLUDED
#include <smmintrin.h>
#include <avxintrin.h>
#include <avx2intrin.h>
#include <fmaintrin.h>
#include <f16cintrin.h>
#endif

namespace kernel_efdd1929573d080ada42274c4f4685c0 {

constexpr int LANES = 8;
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
  const I lane = {0, 1, 2, 3, 4, 5, 6, 7};
  return lane < (int32_t)count;
}

typedef float S;
typedef V Stored;
INLINE V widened(Stored v) { return v; }
INLINE Stored narrowed(V v) { return v; }

typedef Stored Anywhere __attribute__((aligned(1), may_alias));
INLINE V load(const S* p) { return widened(*(const Anywhere*)p); }
INLINE void store(S* p, V v) { *(Anywhere*)p = narrowed(v); }

INLINE V load_part(const S* p, int64_t count) {
  return (V)_mm256_maskload_ps(p, (__m256i)first_lanes(count));
}
INLINE void store_part(S* p, V v, int64_t count) {
  _mm256_maskstore_ps(p, (__m256i)first_lanes(count), (__m256)v);
}

// what rounding to float32 took away; nothing where that is infinity or NaN
INLINE float low_part(double x) {
  const float low = (float)(x - (double)(float)x);
  return low - low == 0.0f ? low : 0.0f;
}

INLINE float total(V a) {
  typedef float V4 __attribute__((vector_size(16)));
  V4 low4, high4;
  std::memcpy(&low4, &a, sizeof low4);
  std::memcpy(&high4, (const char*)&a + sizeof low4, sizeof low4);
  const V4 s4 = low4 + high4;
  const float e = s4[0] + s4[2], f = s4[1] + s4[3];
  return e + f;
}

struct Sum {
  V a = {}, b = {}, c = {}, d = {};
  INLINE double value() const { return total((a + b) + (c + d)); }
};

// a number in the middle of the first elements of a row
INLINE float middle(V first, int64_t columns) {
  const int64_t count = columns < LANES ? columns : LANES;
  return total(pick(first_lanes(count), first, V{}) * (1.0f / (float)count));
}

extern "C" __attribute__((visibility("default")))
void tautomer_efdd1929573d080ada42274c4f4685c0(const void* const* inputs, void* const* outputs, const double* parameters,
            int64_t first, int64_t last, int64_t columns) {
  const S* const x_all = (const S*)inputs[0];
  const S* const scale_all = (const S*)inputs[1];
  const S* const bias_all = (const S*)inputs[2];
  S* const y_all = (S*)outputs[0];
  (void)parameters, (void)columns;
  const double u3 = parameters[0];
  const double count = (double)columns;
  for (int64_t row = first; row < last; ++row) {
    const S* const x_row = x_all + row * columns;
    const S* const scale_row = scale_all;
    const S* const bias_row = bias_all;
    S* const y_row = y_all + row * columns;
    const auto terms0 = [&](V x, V& r0) INLINE_LAMBDA {
      r0 = x;
    };
    V pivots4;
    terms0(load_part(x_row, columns < LANES ? columns : LANES), pivots4);
    const float pivot4 = middle(pivots4, columns);
    double u4 = 0.0;
    double squares4 = 0.0;
    for (int64_t from = 0, to; from < columns; from = to) {
      to = columns - from < BLOCK ? columns : from + BLOCK;
      Sum g0;
      Sum h0;
      int64_t i = from;
      for (; i + 4 * LANES <= to; i += 4 * LANES) {
        V r0a;
        terms0(load(x_row + i), r0a);
        V r0b;
        terms0(load(x_row + i + 1 * LANES), r0b);
        V r0c;
        terms0(load(x_row + i + 2 * LANES), r0c);
        V r0d;
        terms0(load(x_row + i + 3 * LANES), r0d);
        { const V d = r0a - pivot4; g0.a += d; h0.a += d * d; }
        { const V d = r0b - pivot4; g0.b += d; h0.b += d * d; }
        { const V d = r0c - pivot4; g0.c += d; h0.c += d * d; }
        { const V d = r0d - pivot4; g0.d += d; h0.d += d * d; }
      }
      for (; i + LANES <= to; i += LANES) {
        V r0a;
        terms0(load(x_row + i), r0a);
        { const V d = r0a - pivot4; g0.a += d; h0.a += d * d; }
      }
      if (i < to) {
        V r0a;
        terms0(load_part(x_row + i, to - i), r0a);
        const I there = first_lanes(to - i);
        r0a = pick(there, r0a, all(pivot4));
        { const V d = r0a - pivot4; g0.a += d; h0.a += d * d; }
      }
      u4 += g0.value();
      squares4 += h0.value();
    }
    const double taken4 = u4 * u4 / (double)columns;
    u4 += pivot4 * (double)columns;
    const double u6 = u4 / count;
    const V b6 = all((float)u6);
    const V l6 = all(low_part(u6));
    double u9 = squares4 - taken4;
    if (__builtin_expect(!(taken4 <= u9), 0)) {
      const auto terms1 = [&](V x, V& r0) INLINE_LAMBDA {
        const V t7 = (x - b6) - l6;
        const V t8 = t7 * t7;
        r0 = t8;
      };
      u9 = 0.0;
      for (int64_t from = 0, to; from < columns; from = to) {
        to = columns - from < BLOCK ? columns : from + BLOCK;
        Sum g0;
        int64_t i = from;
        for (; i + 4 * LANES <= to; i += 4 * LANES) {
          V r0a;
          terms1(load(x_row + i), r0a);
          V r0b;
          terms1(load(x_row + i + 1 * LANES), r0b);
          V r0c;
          terms1(load(x_row + i + 2 * LANES), r0c);
          V r0d;
          terms1(load(x_row + i + 3 * LANES), r0d);
          g0.a += r0a;
          g0.b += r0b;
          g0.c += r0c;
          g0.d += r0d;
        }
        for (; i + LANES <= to; i += LANES) {
          V r0a;
          terms1(load(x_row + i), r0a);
          g0.a += r0a;
        }
        if (i < to) {
          V r0a;
          terms1(load_part(x_row + i, to - i), r0a);
          const I there = first_lanes(to - i);
          r0a = pick(there, r0a, V{});
          g0.a += r0a;
        }
        u9 += g0.value();
      }
    }
    const double u10 = u9 / count;
    const double u11 = u10 + u3;
    const double u12 = 1.0 / std::sqrt(u11);
    const V b12 = all((float)u12);
    const auto result = [&](V x, V scale, V bias) INLINE_LAMBDA -> V {
      const V t7 = (x - b6) - l6;
      const V t13 = t7 * b12;
      const V t14 = t13 * scale;
      const V t15 = t14 + bias;
      return t15;
    };
    int64_t i = 0;
    for (; i + 4 * LANES <= columns; i += 4 * LANES) {
      const V r0 = result(load(x_row + i), load(scale_row + i), load(bias_row + i));
      const V r1 = result(load(x_row + i + 1 * LANES), load(scale_row + i + 1 * LANES), load(bias_row + i + 1 * LANES));
      const V r2 = result(load(x_row + i + 2 * LANES), load(scale_row + i + 2 * LANES), load(bias_row + i + 2 * LANES));
      const V r3 = result(load(x_row + i + 3 * LANES), load(scale_row + i + 3 * LANES), load(bias_row + i + 3 * LANES));
      store(y_row + i, r0);
      store(y_row + i + 1 * LANES, r1);
      store(y_row + i + 2 * LANES, r2);
      store(y_row + i + 3 * LANES, r3);
    }
    for (; i + LANES <= columns; i += LANES) {
      const V r0 = result(load(x_row + i), load(scale_row + i), load(bias_row + i));
      store(y_row + i, r0);
    }
    if (i < columns) {
      const V r0 = result(load_part(x_row + i, columns - i), load_part(scale_row + i, columns - i), load_part(bias_row + i, columns - i));
      store_part(y_row + i, r0, columns - i);
    }
  }
}

}  // namespace
#undef INLINE
#undef INLINE_LAMBDA
