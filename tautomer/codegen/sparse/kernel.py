"""The kernels of sparse linear maps: products that read only the rows of W whose factor is not zero.

    y = b + sum over j with h_j != 0 of h_j * W[j, :]

for at most FEW rows of h at once, which share what is read of W: neuron j is met where one of them is not
zero there. W is stored [neurons, outputs], one contiguous row per neuron. The functions are called as every
kernel is (see `codegen.kernel`):

    SYMBOL_met   lists the neurons that are met, and their factors
    SYMBOL_dots  gives listed neurons of a gated layer their factors: gate_j * (x . U[j, :] + c_j)
    SYMBOL       adds up the rows of W of some of the list, a part
    SYMBOL_join  adds up parts and the bias
    SYMBOL_many, SYMBOL_gated_many  are the same for more rows, dense (see `codegen.dense_product`)

A row of W is as long as several pages of memory and is read once, so memory's speed is what counts. Several
rows are read side by side: with one row at a time memory is kept waiting at each of its ends, and asking for
what comes next ahead of time was slower than leaving that to the processor.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from tautomer.codegen.frame import unit
from tautomer.codegen.isa import Isa
from tautomer.codegen.kernel import FLAGS
from tautomer.codegen.sparse.dense_product import dense_product
from tautomer.codegen.storage import storage
from tautomer.codegen.vector_type import reductions, vector_type
from tautomer.patterns.sparse_linear import ROW_LIMITS

PARTS = ("", "_met", "_join", "_dots", "_many", "_gated_many")
"""What the names of the functions end with."""


@dataclass(frozen=True)
class SparseKernel:
    """The functions for one element type, as text.

    Attributes:
        symbol: what the names of all functions begin with.
        text: one complete C++17 translation unit.
        flags: what the compiler needs to be told.
    """

    symbol: str
    text: str
    flags: tuple[str, ...]


def sparse_kernel(dtype: str, isa: Isa) -> SparseKernel:
    """The kernel for one element type; sums are in float32.

    Args:
        dtype: what h, W, b and y are stored as: float32, float16 or bfloat16.
        isa: the instruction set.
    """
    vectors = (vector_type(isa), storage(dtype, isa), reductions({"Sum"}, isa))
    limit = f"constexpr float LIMIT = {ROW_LIMITS[dtype]:.1f}f;\n"
    body = "\n".join((*vectors, limit, _TYPES, _MET, _SUMS, _DOTS, _ENTRIES, dense_product(isa)))
    flags = (*FLAGS, *isa.flags)
    digest = hashlib.sha256("\0".join((isa.name, *flags, body)).encode()).hexdigest()[:32]
    return SparseKernel(f"tautomer_{digest}", unit(isa, digest, body), flags)


_TYPES = "typedef V Single __attribute__((aligned(4), may_alias));\n"

# A factor that is NaN is not zero, one that is -0.0 is: so does the product see them.
_MET = """\
INLINE float single(const S* p) { return load_part(p, 1)[0]; }

// whether a row of x is so small that no product with a row of U is infinite; NaN is not
bool fits(const S* x, int64_t count) {
  V sum = {};
  for (int64_t i = 0; i < count; i += LANES) {
    const V one = count - i < LANES ? load_part(x + i, count - i) : load(x + i);
    sum += as_float(as_bits(one) & 0x7fffffff);
  }
  return total(sum) < LIMIT;
}

// The neurons that are met, all of them where `everything` says so.
template <int rows>
int64_t met(const S* h, float* factors, int32_t* places, int64_t neurons, bool everything) {
  int64_t count = 0;
  for (int64_t j = 0; j < neurons; j += LANES) {
    const int64_t left = neurons - j < LANES ? neurons - j : LANES;
    float here[rows][LANES];
    int32_t any[LANES];
    I mask = I{} - (int32_t)everything;
#pragma GCC unroll 4
    for (int r = 0; r < rows; ++r) {
      const S* const p = h + r * neurons + j;
      const V one = left < LANES ? load_part(p, left) : load(p);
      mask |= one != V{};
      std::memcpy(here[r], &one, sizeof one);
    }
    std::memcpy(any, &mask, sizeof mask);
    for (int64_t i = 0; i < left; ++i) {
#pragma GCC unroll 4
      for (int r = 0; r < rows; ++r) factors[count * rows + r] = here[r][i];
      places[count] = (int32_t)(j + i);
      count -= any[i];
    }
  }
  return count;
}
"""

_SUMS = """\
// Adds `together` rows of W, times their factors, to sums over outputs.
template <int rows, int together>
INLINE void add_rows(float* sums, const float* factors, const int32_t* places, const S* weight,
                     int64_t outputs) {
  V f[together][rows];
  const S* at[together];
#pragma GCC unroll 8
  for (int k = 0; k < together; ++k) {
    at[k] = weight + places[k] * outputs;
#pragma GCC unroll 4
    for (int r = 0; r < rows; ++r) f[k][r] = all(factors[k * rows + r]);
  }
  int64_t i = 0;
  for (; i + LANES <= outputs; i += LANES) {
    V w[together];
#pragma GCC unroll 8
    for (int k = 0; k < together; ++k) w[k] = load(at[k] + i);
#pragma GCC unroll 4
    for (int r = 0; r < rows; ++r) {
      Single* const to = (Single*)(sums + r * outputs + i);
      V sum = *to;
#pragma GCC unroll 8
      for (int k = 0; k < together; ++k) sum += f[k][r] * w[k];
      *to = sum;
    }
  }
  for (; i < outputs; ++i)
    for (int r = 0; r < rows; ++r)
      for (int k = 0; k < together; ++k) sums[r * outputs + i] += factors[k * rows + r] * single(at[k] + i);
}

// The sums over listed neurons.
template <int rows>
void add(const float* factors, const int32_t* places, const S* weight, float* sums, int64_t first,
         int64_t last, int64_t outputs) {
  constexpr int most = rows == 1 ? 8 : 4;
  std::memset(sums, 0, (size_t)(rows * outputs) * sizeof(float));
  int64_t n = first;
  for (; n + most <= last; n += most)
    add_rows<rows, most>(sums, factors + n * rows, places + n, weight, outputs);
  for (; n < last; ++n) add_rows<rows, 1>(sums, factors + n * rows, places + n, weight, outputs);
}

// The bias and the sums of all parts.
void join(const float* sums, const S* bias, S* y, int64_t rows, int64_t parts, int64_t first, int64_t last,
          int64_t outputs) {
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t i = first; i < last; i += LANES) {
      const int64_t left = last - i;
      V sum = {};
      for (int64_t part = 0; part < parts; ++part) {
        const float* const p = sums + (part * rows + r) * outputs + i;
        V one = {};
        std::memcpy(&one, p, (left < LANES ? (size_t)left : LANES) * sizeof(float));
        sum += one;
      }
      sum += left < LANES ? load_part(bias + i, left) : load(bias + i);
      S* const to = y + r * outputs + i;
      if (left < LANES) store_part(to, sum, left);
      else store(to, sum);
    }
}
"""

_DOTS = """\
// gate * (x . U[j] + c_j) for listed neurons, `together` at a time
template <int rows, int together>
INLINE void few_dots(const S* x, const float* gates, const int32_t* places, const S* weight, const S* bias,
                     float* factors, int64_t inputs) {
  constexpr int chains = rows == 1 ? 2 : 1;  // of additions, for each product
  V sums[together][rows][chains] = {};
  const S* at[together];
  for (int k = 0; k < together; ++k) at[k] = weight + places[k] * inputs;
  int64_t i = 0;
  for (; i + chains * LANES <= inputs; i += chains * LANES)
#pragma GCC unroll 2
    for (int c = 0; c < chains; ++c)
#pragma GCC unroll 4
      for (int k = 0; k < together; ++k) {
        const V u = load(at[k] + i + c * LANES);
#pragma GCC unroll 4
        for (int r = 0; r < rows; ++r) sums[k][r][c] += u * load(x + r * inputs + i + c * LANES);
      }
  for (; i < inputs; i += LANES) {
    const int64_t left = inputs - i;
    for (int k = 0; k < together; ++k)
      for (int r = 0; r < rows; ++r) {
        const S *const u = at[k] + i, *const p = x + r * inputs + i;
        sums[k][r][0] += left < LANES ? load_part(u, left) * load_part(p, left) : load(u) * load(p);
      }
  }
  for (int k = 0; k < together; ++k)
    for (int r = 0; r < rows; ++r) {
      V sum = sums[k][r][0];
      for (int c = 1; c < chains; ++c) sum += sums[k][r][c];
      factors[k * rows + r] = gates[k * rows + r] * (total(sum) + single(bias + places[k]));
    }
}

template <int rows>
void dots(const S* x, const float* gates, const int32_t* places, const S* weight, const S* bias,
          float* factors, int64_t first, int64_t last, int64_t inputs) {
  constexpr int most = rows > 2 ? 2 : 4;
  int64_t n = first;
  for (; n + most <= last; n += most)
    few_dots<rows, most>(x, gates + n * rows, places + n, weight, bias, factors + n * rows, inputs);
  for (; n < last; ++n)
    few_dots<rows, 1>(x, gates + n * rows, places + n, weight, bias, factors + n * rows, inputs);
}
"""

_ENTRIES = """\
#define ENTRY(NAME) \\
  extern "C" __attribute__((visibility("default"))) void NAME( \\
      const void* const* inputs, void* const* outputs, const double* parameters, int64_t first, \\
      int64_t last, int64_t columns)
#define FOR_ROWS(CALL) \\
  switch ((int)parameters[0]) { \\
    case 1: CALL(1); break; \\
    case 2: CALL(2); break; \\
    case 3: CALL(3); break; \\
    case 4: CALL(4); break; \\
  }

// h, x or nothing -> factors [neurons][rows], places, count; parameters: rows, inputs, whether to list
// everything; columns: neurons
ENTRY(SYMBOL_met) {
  (void)first, (void)last;
  const S* const x = (const S*)inputs[1];
  float* const factors = (float*)outputs[0];
  int32_t* const places = (int32_t*)outputs[1];
  const int64_t rows = (int64_t)parameters[0], width = (int64_t)parameters[1];
  bool everything = parameters[2] != 0.0;
  for (int64_t r = 0; x && r < rows; ++r) everything |= !fits(x + r * width, width);
#define CALL(rows) \\
  *(int64_t*)outputs[2] = met<rows>((const S*)inputs[0], factors, places, columns, everything)
  FOR_ROWS(CALL)
#undef CALL
}

// factors, places, W -> sums [parts][rows][outputs]; parameters: rows, listed neurons of a part; those of
// [first, last), a part; columns: outputs
ENTRY(SYMBOL) {
  const int64_t part = first / (int64_t)parameters[1];
  float* const sums = (float*)outputs[0] + part * (int64_t)parameters[0] * columns;
#define CALL(rows) \\
  add<rows>((const float*)inputs[0], (const int32_t*)inputs[1], (const S*)inputs[2], sums, first, last, \\
            columns)
  FOR_ROWS(CALL)
#undef CALL
}

// sums, b -> y; parameters: rows, parts; outputs [first, last) of columns
ENTRY(SYMBOL_join) {
  join((const float*)inputs[0], (const S*)inputs[1], (S*)outputs[0], (int64_t)parameters[0],
       (int64_t)parameters[1], first, last, columns);
}

// x, gates, places, U, c -> factors; parameters: rows; listed neurons [first, last); columns: of x
ENTRY(SYMBOL_dots) {
#define CALL(rows) \\
  dots<rows>((const S*)inputs[0], (const float*)inputs[1], (const int32_t*)inputs[2], \\
             (const S*)inputs[3], (const S*)inputs[4], (float*)outputs[0], first, last, columns)
  FOR_ROWS(CALL)
#undef CALL
}
"""
