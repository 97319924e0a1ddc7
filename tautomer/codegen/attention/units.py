"""The functions of a kernel of attention, as C++ text: units of work, and joining those of parts of the keys.

Units that hold parts of the keys leave (largest, sum, values) of each row behind; they are joined as when a
larger score comes: what was summed is multiplied by e^(own largest - largest of all).
"""

from __future__ import annotations

UNITS = """\
INLINE void write_row(const Call& call, const Place& place, int64_t row, const float* values, float top,
                      float sum) {
  const int64_t head = head_of(call, place, row), i = query_of(call, place, row), step = call.y_steps[3];
  S* const y = call.y + place.batch * call.y_steps[0] + head * call.y_steps[1] + i * call.y_steps[2];
  float share = DIVIDED ? 1.0f / sum : 1.0f;
  // of no keys at all nothing is summed, whatever the weights are
  if (call.columns == 0 || (DIVIDED && EMPTY_IS_ZERO && sum == 0.0f)) share = 0.0f;
  for (int64_t n = 0; n < call.width; n += LANES) {
    const V x = *(const Aligned*)(values + n) * share;
    const int64_t left = call.width - n;
    if (step == 1 && left >= LANES)
      store(y + n, x);
    else
      for (int64_t lane = 0; lane < LANES && lane < left; ++lane)
        store_part(y + (n + lane) * step, all(x[lane]), 1);
  }
  if (EXPONENTIAL && call.statistics) {
    float* const two = call.statistics + 2 * ((place.batch * call.heads + head) * call.rows + i);
    two[0] = top, two[1] = sum;
  }
}

template <int R>
INLINE void unit(const Call& call, int64_t index) {
  char* at = call.scratch;
  const Space<R> space(call, at);
  const Place place = place_of(call, index);
  const int64_t padded = call.vectors() * LANES;
  begin<R>(call, place, space);
  if constexpr (TWO_SWEEPS) {
    sweep<R, false>(call, place, space);
    between<R>(call, space);
  }
  sweep<R, true>(call, place, space);
  float* const part = call.splits > 1 ? call.parts + index * call.part_size() : nullptr;
  for (int64_t row = 0; row < place.count; ++row) {
    const float* const values = space.result + row * padded;
    const float sum = total(space.sums[row]);
    if (part) {
      float* const to = part + row * (padded + 2);
      to[0] = space.top[row], to[1] = sum;
      std::memcpy(to + 2, values, (size_t)padded * sizeof(float));
    } else {
      write_row(call, place, row, values, space.top[row], sum);
    }
  }
}

// Joins the parts of the keys of one block of rows.
INLINE void joined(const Call& call, int64_t index) {
  const int64_t padded = call.vectors() * LANES, stride = padded + 2;
  const Place place = place_of(call, index * call.splits);
  const float* const parts = call.parts + index * call.splits * call.part_size();
  char* at = call.scratch;
  float* const values = take<float>(at, padded);
  for (int64_t row = 0; row < place.count; ++row) {
    float top = -__builtin_inff(), sum = 0.0f;
    for (int64_t i = 0; i < call.splits; ++i) {
      const float one = parts[i * call.part_size() + row * stride];
      top = one > top ? one : top;
    }
    std::memset(values, 0, (size_t)padded * sizeof(float));
    for (int64_t i = 0; i < call.splits; ++i) {
      const float* const part = parts + i * call.part_size() + row * stride;
      if (EXPONENTIAL && !(part[0] > -__builtin_inff()) && part[1] == 0.0f) continue;  // saw no key
      const V down = fall(part[0], top);
      sum += part[1] * down[0];
      for (int64_t n = 0; n < padded; n += LANES) {
        V x;
        std::memcpy(&x, part + 2 + n, sizeof x);
        *(Aligned*)(values + n) += x * down;
      }
    }
    write_row(call, place, row, values, top, sum);
  }
}

#define ENTRY extern "C" __attribute__((visibility("default")))

// the bytes of scratch that one thread needs
ENTRY void SYMBOL_scratch(const void* const*, void* const* outputs, const double* parameters, int64_t,
                          int64_t, int64_t) {
  void* none[4] = {};
  const void* nothing[8] = {};
  const Call call = read(nothing, none, parameters);
  char* at = nullptr;
  if (call.block <= DIRECT_ROWS) (void)Space<1>(call, at);
  else (void)Space<ROWS>(call, at);
  *(int64_t*)outputs[0] = (int64_t)(uintptr_t)at + 64;
}

ENTRY void SYMBOL(const void* const* inputs, void* const* outputs, const double* parameters, int64_t first,
                  int64_t last, int64_t) {
  const Call call = read(inputs, outputs, parameters);
  for (int64_t index = first; index < last; ++index) {
    if (call.block <= DIRECT_ROWS) unit<1>(call, index);
    else unit<ROWS>(call, index);
  }
}

ENTRY void SYMBOL_joined(const void* const* inputs, void* const* outputs, const double* parameters,
                         int64_t first, int64_t last, int64_t) {
  const Call call = read(inputs, outputs, parameters);
  for (int64_t index = first; index < last; ++index) joined(call, index);
}
"""
