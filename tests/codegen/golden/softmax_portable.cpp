#include <cstdint>
#include <cstddef>
#include <cstring>
#include <cmath>

namespace kernel_3c131d00b94181b94d3d2683da3e8fac {

constexpr int LANES = 4;
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
  const I lane = {0, 1, 2, 3};
  return lane < (int32_t)count;
}

typedef uint16_t S;
typedef uint16_t Stored __attribute__((vector_size(2 * LANES)));
typedef uint32_t U __attribute__((vector_size(4 * LANES)));
INLINE V widened(Stored v) {
  const U bits = __builtin_convertvector(v, U);
  const U magnitude = bits & 0x7fffu;
  const V finite = (V)(magnitude << 13) * 0x1p112f;
  const U special = (magnitude << 13) | 0x7f800000u;
  const U sign = (bits & 0x8000u) << 16;
  return (V)((magnitude > 0x7bffu ? special : (U)finite) | sign);
}
INLINE Stored narrowed(V v) {
  const U bits = (U)v, sign = (bits >> 16) & 0x8000u, magnitude = bits & 0x7fffffffu;
  const U normal = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  const U denormal = (U)((V)magnitude + 0.5f) - 0x3f000000u;  // the addition rounds
  const U large = magnitude > 0x7f800000u ? (U{} + 0x7e00u) : (U{} + 0x7c00u);
  const U finite = magnitude < 0x38800000u ? denormal : normal;
  return __builtin_convertvector((magnitude >= 0x477ff000u ? large : finite) | sign, Stored);
}

typedef Stored Anywhere __attribute__((aligned(1), may_alias));
INLINE V load(const S* p) { return widened(*(const Anywhere*)p); }
INLINE void store(S* p, V v) { *(Anywhere*)p = narrowed(v); }

INLINE V load_part(const S* p, int64_t count) {
  Stored part = {};
  for (size_t i = 0; i < (size_t)count * sizeof(S); i += sizeof(S))
    std::memcpy((char*)&part + i, (const char*)p + i, sizeof(S));
  return widened(part);
}
INLINE void store_part(S* p, V v, int64_t count) {
  const Stored part = narrowed(v);
  for (size_t i = 0; i < (size_t)count * sizeof(S); i += sizeof(S))
    std::memcpy((char*)p + i, (const char*)&part + i, sizeof(S));
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

// e^x for x <= 0; the power of two stays normal by a factor that is taken out again at the end
INLINE V exp_nonpositive(V x) {
  x = -104.0f > x ? all(-104.0f) : x;
  const V shifted = x * LOG2E + ROUNDING, n = shifted - ROUNDING;
  const V p = exp_near_zero((x - n * LN2_HIGH) - n * LN2_LOW);
  return p * as_float((as_bits(shifted) << 23) + ((127 + 64) << 23)) * 0x1p-64f;
}

INLINE V exp_relative(V x) { return exp_nonpositive(x); }

INLINE float total(V a) {
  const float e = a[0] + a[2], f = a[1] + a[3];
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

INLINE double larger(double a, double b) { return a != a || a > b ? a : b; }
INLINE float largest(V a) {
  const float e = a[0] > a[2] ? a[0] : a[2], f = a[1] > a[3] ? a[1] : a[3];
  return e > f ? e : f;
}

// NaN does not compare: it is passed over
struct Max {
  V a, b, c, d;
  INLINE Max() { a = b = c = d = all(-__builtin_inff()); }
  INLINE void take(V& most, V x) { most = x > most ? x : most; }
  INLINE double value() const {
    const V x = a > b ? a : b, y = c > d ? c : d;
    return largest(x > y ? x : y);
  }
};

extern "C" __attribute__((visibility("default")))
void tautomer_3c131d00b94181b94d3d2683da3e8fac(const void* const* inputs, void* const* outputs, const double* parameters,
            int64_t first, int64_t last, int64_t columns) {
  const S* const x_all = (const S*)inputs[0];
  S* const y_all = (S*)outputs[0];
  (void)parameters, (void)columns;
  for (int64_t row = first; row < last; ++row) {
    const S* const x_row = x_all + row * columns;
    S* const y_row = y_all + row * columns;
    const auto terms0 = [&](V x, V& r0) INLINE_LAMBDA {
      r0 = x;
    };
    double u1 = -__builtin_inf();
    for (int64_t from = 0, to; from < columns; from = to) {
      to = columns - from < columns ? columns : from + columns;
      Max g0;
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
        g0.take(g0.a, r0a);
        g0.take(g0.b, r0b);
        g0.take(g0.c, r0c);
        g0.take(g0.d, r0d);
      }
      for (; i + LANES <= to; i += LANES) {
        V r0a;
        terms0(load(x_row + i), r0a);
        g0.take(g0.a, r0a);
      }
      if (i < to) {
        V r0a;
        terms0(load_part(x_row + i, to - i), r0a);
        const I there = first_lanes(to - i);
        r0a = pick(there, r0a, all(-__builtin_inff()));
        g0.take(g0.a, r0a);
      }
      u1 = larger(u1, g0.value());
    }
    const V b1 = all((float)u1);
    const auto terms1 = [&](V x, V& r0) INLINE_LAMBDA {
      const V t2 = x - b1;
      const V t3 = exp_relative(t2);
      r0 = t3;
    };
    double u4 = 0.0;
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
      u4 += g0.value();
    }
    const V r4 = all((float)(1.0 / u4));
    const auto result = [&](V x) INLINE_LAMBDA -> V {
      const V t2 = x - b1;
      const V t3 = exp_relative(t2);
      const V t5 = t3 * r4;
      return t5;
    };
    int64_t i = 0;
    for (; i + 4 * LANES <= columns; i += 4 * LANES) {
      const V r0 = result(load(x_row + i));
      const V r1 = result(load(x_row + i + 1 * LANES));
      const V r2 = result(load(x_row + i + 2 * LANES));
      const V r3 = result(load(x_row + i + 3 * LANES));
      store(y_row + i, r0);
      store(y_row + i + 1 * LANES, r1);
      store(y_row + i + 2 * LANES, r2);
      store(y_row + i + 3 * LANES, r3);
    }
    for (; i + LANES <= columns; i += LANES) {
      const V r0 = result(load(x_row + i));
      store(y_row + i, r0);
    }
    if (i < columns) {
      const V r0 = result(load_part(x_row + i, columns - i));
      store_part(y_row + i, r0, columns - i);
    }
  }
}

}  // namespace
#undef INLINE
#undef INLINE_LAMBDA
