"""The kernel of gates of mixtures of experts: softmax, the k largest and their share, in one pass over x.

    SYMBOL(x -> w, i; parameters: k, which of the operators of `patterns.expert_gate`)

is called as every kernel is (see `codegen.kernel`); x is [rows, columns], w and i are [rows, k]. As many rows
as a vector has lanes are done at once, one in each lane: rows are short, and across lanes nothing has to be
reduced. The order of floats is that of whole numbers made of their bits, so that NaN has a place in it. The k
largest so far are a sorted list, to which every expert is compared: a branch around that, where no lane has a
larger one, would be mispredicted so often that it costs more.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from tautomer.codegen.frame import unit
from tautomer.codegen.isa import Isa
from tautomer.codegen.kernel import FLAGS
from tautomer.codegen.storage import storage
from tautomer.codegen.vector_math import vector_math
from tautomer.codegen.vector_type import vector_type
from tautomer.patterns.expert_gate import FORMULAS, LOGITS, MOST_EXPERTS, SHARES

FORMS = tuple(FORMULAS)
"""The second parameter is the place of an operator here."""


@dataclass(frozen=True)
class GateKernel:
    """The function, as text.

    Attributes:
        symbol: its name.
        text: one complete C++17 translation unit.
        flags: what the compiler needs to be told.
    """

    symbol: str
    text: str
    flags: tuple[str, ...]


def gate_kernel(isa: Isa) -> GateKernel:
    """The kernel of all three operators, in float32."""
    constants = (
        f"constexpr int64_t MOST_EXPERTS = {MOST_EXPERTS};\n"
        f"constexpr int SHARES = {FORMS.index(SHARES)}, LOGITS = {FORMS.index(LOGITS)};\n"
    )
    parts = (vector_type(isa), storage("float32", isa), vector_math({"exp_relative"}, isa))
    body = "\n".join((*parts, constants, _CHOICE, _SOFTMAX, _GATE))
    flags = (*FLAGS, *isa.flags)
    digest = hashlib.sha256("\0".join((isa.name, *flags, body)).encode()).hexdigest()[:32]
    return GateKernel(f"tautomer_{digest}", unit(isa, digest, body), flags)


_CHOICE = """\
// Whole numbers in the order of floats: -0 is 0, and NaN is above all. No float is the least of them.
constexpr int32_t LEAST = INT32_MIN;
INLINE I key_of(V x) {
  const I bits = as_bits(x + 0.0f), ordered = bits ^ ((bits >> 31) & INT32_MAX);
  return x == x ? ordered : I{} + INT32_MAX;
}
INLINE V number_of(I key) { return as_float(key ^ ((key >> 31) & INT32_MAX)); }

// The k largest of each lane and their places, the first of equals first.
template <int fixed>
INLINE void choose(const V* x, int64_t columns, int64_t k, I* keys, I* places) {
  const int64_t count = fixed ? fixed : k;
  for (int64_t n = 0; n < count; ++n) keys[n] = I{} + LEAST, places[n] = I{};
  for (int64_t j = 0; j < columns; ++j) {
    const I key = key_of(x[j]), place = I{} + (int32_t)j;
    I larger = key > keys[count - 1];
#pragma GCC unroll 8
    for (int64_t n = count - 1; n > 0; --n) {
      const I before = key > keys[n - 1];
      keys[n] = before ? keys[n - 1] : larger ? key : keys[n];
      places[n] = before ? places[n - 1] : larger ? place : places[n];
      larger = before;
    }
    keys[0] = larger ? key : keys[0];
    places[0] = larger ? place : places[0];
  }
}
"""

# The largest starts at the smallest finite number: see `codegen.softmax_parts`.
_SOFTMAX = """\
// In the place of numbers, in each lane.
INLINE void softmax(V* x, int64_t columns) {
  V top = all(-0x1.fffffep127f), sums[4] = {};
  for (int64_t j = 0; j < columns; ++j) top = x[j] > top ? x[j] : top;
  int64_t j = 0;
  for (; j + 4 <= columns; j += 4)
#pragma GCC unroll 4
    for (int64_t n = 0; n < 4; ++n) sums[n] += x[j + n] = exp_relative(x[j + n] - top);
  for (; j < columns; ++j) sums[0] += x[j] = exp_relative(x[j] - top);
  const V factor = 1.0f / ((sums[0] + sums[1]) + (sums[2] + sums[3]));
  for (j = 0; j < columns; ++j) x[j] *= factor;
}
"""

_GATE = """\
typedef float Number __attribute__((may_alias));
typedef int32_t Place __attribute__((may_alias));

// As many rows as there are lanes, or fewer; the last one is in all lanes that are left.
template <int form>
void gate(const S* x, S* w, int64_t* i, int64_t k, int64_t rows, int64_t columns) {
  V lanes[MOST_EXPERTS];
  I keys[MOST_EXPERTS], places[MOST_EXPERTS];
  const S* at[LANES];
  for (int64_t r = 0; r < LANES; ++r) at[r] = x + (r < rows ? r : rows - 1) * columns;
  for (int64_t j = 0; j < columns; ++j) {
    V one = {};
#pragma GCC unroll 16
    for (int r = 0; r < LANES; ++r) one[r] = at[r][j];
    lanes[j] = one;
  }
  if (form != LOGITS) softmax(lanes, columns);
  switch (k) {
    case 1: choose<1>(lanes, columns, k, keys, places); break;
    case 2: choose<2>(lanes, columns, k, keys, places); break;
    case 4: choose<4>(lanes, columns, k, keys, places); break;
    case 8: choose<8>(lanes, columns, k, keys, places); break;
    default: choose<0>(lanes, columns, k, keys, places);
  }
  V sum = {};
  for (int64_t n = 0; n < k; ++n) sum += lanes[n] = number_of(keys[n]);
  if (form == LOGITS) softmax(lanes, k);
  for (int64_t n = 0; n < k && form == SHARES; ++n) lanes[n] /= sum;
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t n = 0; n < k; ++n) {
      w[r * k + n] = ((const Number*)lanes)[n * LANES + r];
      i[r * k + n] = ((const Place*)places)[n * LANES + r];
    }
}

extern "C" __attribute__((visibility("default")))
void SYMBOL(const void* const* inputs, void* const* outputs, const double* parameters, int64_t first,
            int64_t last, int64_t columns) {
  const int64_t k = (int64_t)parameters[0];
  const int form = (int)parameters[1];
  const auto run = form == SHARES ? gate<SHARES> : form == LOGITS ? gate<LOGITS> : gate<-1>;
  for (int64_t row = first; row < last; row += LANES)
    run((const S*)inputs[0] + row * columns, (S*)outputs[0] + row * k, (int64_t*)outputs[1] + row * k, k,
        last - row < LANES ? last - row : LANES, columns);
}
"""
