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
from tautomer.codegen.vector_type import reductions, vector_type
from tautomer.patterns.expert_gate import FORMULAS, LOGITS, MOST_CHOSEN, MOST_EXPERTS, SHARES

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
        f"constexpr int64_t MOST_EXPERTS = {MOST_EXPERTS}, MOST_CHOSEN = {MOST_CHOSEN};\n"
        f"constexpr int SHARES = {FORMS.index(SHARES)}, LOGITS = {FORMS.index(LOGITS)};\n"
    )
    parts = (vector_type(isa), storage("float32", isa), reductions({"Sum", "Max"}, isa))
    math = vector_math({"exp_relative"}, isa)
    body = "\n".join((*parts, math, constants, _CHOICE, _WEIGHTS, _GATES))
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
_WEIGHTS = """\
// In the place of numbers: of each lane, or across all of them.
template <bool across>
INLINE void softmax(V* x, int64_t count) {
  V top = all(-0x1.fffffep127f), sums[4] = {};
  for (int64_t j = 0; j < count; ++j) top = x[j] > top ? x[j] : top;
  if (across) top = all(largest(top));
  int64_t j = 0;
  for (; j + 4 <= count; j += 4)
#pragma GCC unroll 4
    for (int64_t n = 0; n < 4; ++n) sums[n] += x[j + n] = exp_relative(x[j + n] - top);
  for (; j < count; ++j) sums[0] += x[j] = exp_relative(x[j] - top);
  V sum = (sums[0] + sums[1]) + (sums[2] + sums[3]);
  if (across) sum = all(total(sum));
  const V factor = 1.0f / sum;
  for (j = 0; j < count; ++j) x[j] *= factor;
}

// What becomes of the chosen numbers.
template <int form, bool across>
INLINE void weigh(V* chosen, int64_t count) {
  if (form == LOGITS) softmax<across>(chosen, count);
  if (form != SHARES) return;
  V sum = {};
  for (int64_t n = 0; n < count; ++n) sum += chosen[n];
  if (across) sum = all(total(sum));
  for (int64_t n = 0; n < count; ++n) chosen[n] /= sum;
}
"""

_GATES = """\
typedef float Number __attribute__((may_alias));
typedef int32_t Place __attribute__((may_alias));

INLINE void choose_any(const V* x, int64_t count, int64_t k, I* keys, I* places) {
  switch (k) {
    case 1: choose<1>(x, count, k, keys, places); break;
    case 2: choose<2>(x, count, k, keys, places); break;
    case 4: choose<4>(x, count, k, keys, places); break;
    case 8: choose<8>(x, count, k, keys, places); break;
    default: choose<0>(x, count, k, keys, places);
  }
}

// As many rows as there are lanes.
template <int form>
void gate_rows(const S* x, S* w, int64_t* i, int64_t k, int64_t columns) {
  V lanes[MOST_EXPERTS];
  I keys[MOST_CHOSEN], places[MOST_CHOSEN];
  for (int64_t j = 0; j < columns; ++j) {
    V one = {};
#pragma GCC unroll 16
    for (int r = 0; r < LANES; ++r) one[r] = x[r * columns + j];
    lanes[j] = one;
  }
  if (form != LOGITS) softmax<false>(lanes, columns);
  choose_any(lanes, columns, k, keys, places);
  for (int64_t n = 0; n < k; ++n) lanes[n] = number_of(keys[n]);
  weigh<form, false>(lanes, k);
  for (int64_t r = 0; r < LANES; ++r)
    for (int64_t n = 0; n < k; ++n) {
      w[r * k + n] = ((const Number*)lanes)[n * LANES + r];
      i[r * k + n] = ((const Place*)places)[n * LANES + r];
    }
}

// One row: the k largest of each lane, then of these. -infinity fills the last vector, and comes last.
template <int form>
void gate_row(const S* x, S* w, int64_t* i, int64_t k, int64_t columns) {
  V lanes[MOST_EXPERTS / LANES], chosen[MOST_CHOSEN / LANES];
  I keys[MOST_CHOSEN], places[MOST_CHOSEN];
  const int64_t whole = columns / LANES, left = columns % LANES, vectors = whole + (left > 0);
  for (int64_t j = 0; j < whole; ++j) lanes[j] = load(x + j * LANES);
  const V lowest = all(-__builtin_inff());
  if (left) lanes[whole] = pick(first_lanes(left), load_part(x + whole * LANES, left), lowest);
  if (form != LOGITS) softmax<true>(lanes, vectors);
  const int64_t most = k < vectors ? k : vectors;
  choose_any(lanes, vectors, most, keys, places);
  const Place *const key = (const Place*)keys, *const place = (const Place*)places;
  int64_t next[LANES] = {};
  const int64_t last = (k - 1) / LANES;
  chosen[last] = as_float(key_of(all(form == LOGITS ? -__builtin_inff() : 0.0f)));  // behind them
  for (int64_t n = 0; n < k; ++n) {
    int64_t best = -1, best_place = 0;
    for (int64_t lane = 0; lane < LANES; ++lane) {
      if (next[lane] == most) continue;
      const int64_t here = next[lane] * LANES + lane, its_place = place[here] * LANES + lane;
      const int64_t there = best < 0 ? here : next[best] * LANES + best;
      const bool before = key[here] > key[there] || (key[here] == key[there] && its_place < best_place);
      if (best < 0 || before) best = lane, best_place = its_place;
    }
    ((Place*)chosen)[n] = key[next[best]++ * LANES + best];
    i[n] = best_place;
  }
  for (int64_t n = 0; n <= last; ++n) chosen[n] = number_of(as_bits(chosen[n]));
  weigh<form, true>(chosen, last + 1);
  std::memcpy(w, chosen, (size_t)k * sizeof(float));
}

template <int form>
void gates(const S* x, S* w, int64_t* i, int64_t k, int64_t first, int64_t last, int64_t columns) {
  for (int64_t row = first, done; row < last; row += done) {
    done = last - row < LANES ? 1 : LANES;
    (done > 1 ? gate_rows<form> : gate_row<form>)(x + row * columns, w + row * k, i + row * k, k, columns);
  }
}

extern "C" __attribute__((visibility("default")))
void SYMBOL(const void* const* inputs, void* const* outputs, const double* parameters, int64_t first,
            int64_t last, int64_t columns) {
  const int form = (int)parameters[1];
  const auto run = form == SHARES ? gates<SHARES> : form == LOGITS ? gates<LOGITS> : gates<-1>;
  const int64_t k = (int64_t)parameters[0];
  run((const S*)inputs[0], (S*)outputs[0], (int64_t*)outputs[1], k, first, last, columns);
}
"""
