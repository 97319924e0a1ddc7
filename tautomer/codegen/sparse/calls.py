"""The C++ that computes a sparse linear map with the functions of `codegen.sparse_kernel`.

It is the same for every runtime, which gives it threads: `split(work)` has to call `work.piece(i)` for every
i below `work.pieces()`, in any order, and to wait. Parts follow from sizes alone, so that results do not
depend on the number of threads.
"""

from __future__ import annotations

CALLS = """\
constexpr int64_t FEW_ROWS_OF_H = 4, MOST_SPARSE_PARTS = 8, SPARSE_PART_BYTES = 256 << 10;

struct SparseFunctions { Run add, met, join, dots, many, gated_many; };

// A layer: y = h W + b; or with an x, y = (gate * (x U^T + c)) W + b, where h is the gate.
struct Sparse {
  const char *h, *x, *up, *up_bias, *weight, *bias;
  char* y;
  int64_t rows, inputs, neurons, outputs, size;  // of one number, in bytes
  bool everything;  // no weight that is not finite may be left out

  // by c and not by x: the address of a tensor without numbers, as x may be, is null in some allocators
  bool gated() const { return up_bias != nullptr; }
};

struct Pieces {
  Run run;
  const void* inputs[5];
  void* outputs[3];
  double parameters[3];
  int64_t count, step, columns;

  int64_t pieces() const { return (count + step - 1) / step; }

  void piece(int64_t i) const {
    const int64_t last = (i + 1) * step < count ? (i + 1) * step : count;
    run(inputs, outputs, parameters, i * step, last, columns);
  }
};

// Memory of a thread that lasts from call to call.
struct Scratch {
  std::unique_ptr<char[]> data;
  size_t size = 0;
  char* of(size_t bytes) {
    if (bytes > size) {
      data.reset(new (std::nothrow) char[bytes]);
      size = data ? bytes : 0;
    }
    return data.get();
  }
};

// What is kept of a few rows.
struct Met {
  float *gates, *factors, *sums;
  int32_t* places;
  int64_t count;

  static size_t bytes(const Sparse& s) {
    const int64_t numbers = FEW_ROWS_OF_H * (2 * s.neurons + MOST_SPARSE_PARTS * s.outputs);
    return size_t(numbers) * sizeof(float) + size_t(s.neurons) * sizeof(int32_t);
  }

  Met(const Sparse& s, char* at) : count(0) {
    gates = reinterpret_cast<float*>(at);
    factors = gates + FEW_ROWS_OF_H * s.neurons;
    sums = factors + FEW_ROWS_OF_H * s.neurons;
    places = reinterpret_cast<int32_t*>(sums + FEW_ROWS_OF_H * MOST_SPARSE_PARTS * s.outputs);
  }
};

void list_met(const SparseFunctions& f, const Sparse& s, int64_t row, int64_t rows, Met& met) {
  const char* const x = s.gated() ? s.x + row * s.inputs * s.size : nullptr;
  const void* inputs[] = {s.h + row * s.neurons * s.size, x};
  void* outputs[] = {s.gated() ? met.gates : met.factors, met.places, &met.count};
  const double parameters[] = {double(rows), double(s.inputs), double(s.everything)};
  f.met(inputs, outputs, parameters, 0, 1, s.neurons);
}

int64_t rows_of_a_part(int64_t count, int64_t row_bytes) {
  const int64_t by_number = (count + MOST_SPARSE_PARTS - 1) / MOST_SPARSE_PARTS;
  const int64_t by_size = (SPARSE_PART_BYTES + row_bytes - 1) / row_bytes;
  return ((by_number > by_size ? by_number : by_size) + 7) / 8 * 8;  // rows are read side by side
}

// The neurons of a few rows that are met are listed.
template <class Split>
void add_met(const SparseFunctions& f, const Sparse& s, int64_t row, int64_t rows, const Met& met,
             const Split& split) {
  const double number = double(rows);
  if (s.gated() && met.count) {
    const int64_t step = rows_of_a_part(met.count, s.inputs * s.size + 1);
    split(Pieces{f.dots, {s.x + row * s.inputs * s.size, met.gates, met.places, s.up, s.up_bias},
                 {met.factors}, {number}, met.count, step, s.inputs});
  }
  const int64_t step = rows_of_a_part(met.count, s.outputs * s.size);
  const Pieces sums{f.add, {met.factors, met.places, s.weight}, {met.sums},
                    {number, double(step)}, met.count, step, s.outputs};
  split(sums);
  split(Pieces{f.join, {met.sums, s.bias}, {s.y + row * s.outputs * s.size},
               {number, double(sums.pieces())}, s.outputs, 4096, s.outputs});
}

// All rows at once; hidden: what a gated layer has between its products.
template <class Split>
void many_rows(const SparseFunctions& f, const Sparse& s, char* hidden, const Split& split) {
  const double rows = double(s.rows);
  const char* h = s.h;
  if (s.gated()) {
    split(Pieces{f.gated_many, {s.x, s.up, s.up_bias, s.h}, {hidden}, {rows, double(s.inputs)}, s.neurons,
                 256, s.neurons});
    h = hidden;
  }
  split(Pieces{f.many, {h, s.weight, s.bias}, {s.y}, {rows, double(s.neurons)}, s.outputs, 256, s.outputs});
}

// Whether the dense product is the faster one, judged by the first rows. A pass of a few rows over all of W
// takes a time t; the dense product was measured at some (6 + rows / 6) t.
bool dense_is_faster(const Sparse& s, const Met& met) {
  const int64_t passes = (s.rows + FEW_ROWS_OF_H - 1) / FEW_ROWS_OF_H;
  return double(passes * met.count) > (6.0 + double(s.rows) / 6.0) * double(s.neurons);
}

// False: out of memory.
template <class Split>
bool sparse_linear(const SparseFunctions& f, const Sparse& s, Scratch& scratch, const Split& split) {
  char* memory = scratch.of(Met::bytes(s));
  if (!memory) return false;
  Met met(s, memory);
  for (int64_t row = 0; row < s.rows; row += FEW_ROWS_OF_H) {
    const int64_t rows = s.rows - row < FEW_ROWS_OF_H ? s.rows - row : FEW_ROWS_OF_H;
    list_met(f, s, row, rows, met);
    if (row == 0 && dense_is_faster(s, met)) {
      memory = s.gated() ? scratch.of(size_t(s.rows * s.neurons * s.size)) : memory;
      if (memory) many_rows(f, s, memory, split);
      return memory;
    }
    add_met(f, s, row, rows, met, split);
  }
  return true;
}
"""
