"""The C++ that runs a kernel for torch, against torch's stable ABI; the same text for all operators.

It finds the rows of a tensor, gives them to torch's own threads, and adds up what is summed over rows. Totals
are summed in parts whose sizes follow from the shape alone, so that they do not depend on the number of
threads: in float32 over at most TOTAL_ROWS rows, in double precision over these.
"""

from __future__ import annotations

GRAIN_BYTES = 128 << 10
"""What one thread reads of its first input, at least: enough to outweigh waking it up."""

INCLUDES = """\
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/util/Exception.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <optional>
#include <vector>
"""

GLUE = """\
using torch::headeronly::ScalarType;
using torch::stable::Tensor;
namespace stable = torch::stable;

using Run = void (*)(const void* const*, void* const*, const double*, int64_t, int64_t, int64_t);

constexpr ScalarType DTYPES[] = {ScalarType::Float, ScalarType::Half, ScalarType::BFloat16};
constexpr int64_t SIZES[] = {4, 2, 2};
constexpr int64_t TOTAL_ROWS = 128, MOST_PARTS = 64;
constexpr int MOST_VARIANTS = 8;

// One algorithm, for tensors of this size or more; bytes are those of x and y together.
struct Variant {
  Run run;
  int64_t least_bytes, least_columns, multiple;  // a row's elements are a multiple of this
};

// The algorithms for one element type; the first that fits is used.
struct Variants {
  Variant list[MOST_VARIANTS];
  std::atomic<int> size{0};
};

struct Operator {
  const char* name;
  bool rows;
  const char* inputs;  // a letter each: x has the shape of x; a row is 1 where it is absent, or 0
  int parameters, values, totals;
  Variants variants[3];
};

struct Work {
  const Operator& op;
  Run run;
  const void* inputs[MOST_INPUTS];
  void* outputs[MOST_OUTPUTS];
  double parameters[MOST_PARAMETERS];
  int64_t rows, columns, row_bytes;

  void part(int64_t first, int64_t last, void* const* into) const {
    run(inputs, into, parameters, first, last, columns);
  }
};

int dtype_of(const Operator& op, const Tensor& x) {
  for (int i = 0; i < 3; ++i)
    if (x.scalar_type() == DTYPES[i]) return i;
  STD_TORCH_CHECK(false, "tautomer::", op.name, " is for float32, float16 and bfloat16");
  return 0;
}

Run run_for(const Operator& op, int dtype, int64_t count, int64_t columns) {
  const Variants& there = op.variants[dtype];
  const int size = there.size.load(std::memory_order_acquire);
  for (int i = 0; i < size; ++i) {
    const Variant& one = there.list[i];
    if (2 * count * SIZES[dtype] >= one.least_bytes && columns >= one.least_columns &&
        columns % one.multiple == 0)
      return one.run;
  }
  STD_TORCH_CHECK(false, "tautomer::", op.name,
                  ": the kernel for this type is not loaded; tautomer.torch.load_kernels() does it");
  return nullptr;
}

Tensor in_order(const Tensor& tensor) {
  return tensor.is_contiguous() ? tensor : stable::contiguous(tensor);
}

// A row as float32; one that is absent is filled.
Tensor row_of(const Operator& op, std::optional<Tensor> given, char kind, const Tensor& x, int64_t columns) {
  if (!given) {
    Tensor row = stable::new_empty(x, {columns}, ScalarType::Float);
    std::fill_n(static_cast<float*>(row.mutable_data_ptr()), columns, kind == '1' ? 1.0f : 0.0f);
    return row;
  }
  STD_TORCH_CHECK(given->dim() == 1 && given->numel() == columns, "tautomer::", op.name,
                  ": a scale or bias must have the shape (", columns, ",), as the rows of x have");
  const ScalarType type = given->scalar_type();
  if (type == ScalarType::Float) return in_order(*given);
  dtype_of(op, *given);
  return in_order(stable::to(*given, ScalarType::Float));
}

// Sums over rows: parts of the rows, each in float32 over few rows and in double precision over these.
void with_totals(const Work& work) {
  const int64_t columns = work.columns, width = work.op.totals * columns;
  const int64_t least = std::max<int64_t>(1, GRAIN_BYTES / work.row_bytes);
  const int64_t rows_of_a_part = std::max(least, (work.rows + MOST_PARTS - 1) / MOST_PARTS);
  const int64_t parts = (work.rows + rows_of_a_part - 1) / rows_of_a_part;
  std::vector<double> sums(parts * width);
  stable::parallel_for(0, parts, 1, [&](int64_t from, int64_t to) {
    std::vector<float> few(width);
    void* into[MOST_OUTPUTS];
    std::copy_n(work.outputs, work.op.values, into);
    for (int i = 0; i < work.op.totals; ++i) into[work.op.values + i] = few.data() + i * columns;
    for (int64_t part = from; part < to; ++part) {
      double* const sum = sums.data() + part * width;
      const int64_t end = std::min(work.rows, (part + 1) * rows_of_a_part);
      for (int64_t row = part * rows_of_a_part; row < end; row += TOTAL_ROWS) {
        work.part(row, std::min(end, row + TOTAL_ROWS), into);
        for (int64_t i = 0; i < width; ++i) sum[i] += few[i];
      }
    }
  });
  for (int64_t part = 1; part < parts; ++part)
    for (int64_t i = 0; i < width; ++i) sums[i] += sums[part * width + i];
  for (int i = 0; i < work.op.totals; ++i)
    std::copy_n(sums.data() + i * columns, parts ? columns : 0,
                static_cast<float*>(work.outputs[work.op.values + i]));
}

void compute(const Operator& op, StableIValue* stack) {
  const int inputs = static_cast<int>(std::strlen(op.inputs));
  std::vector<Tensor> held;  // what was given, all of it, and what had to be copied
  held.reserve(2 * inputs + MOST_OUTPUTS);
  std::optional<Tensor> given[MOST_INPUTS];
  Work work{op};
  for (int i = 0; i < inputs; ++i)
    given[i] = op.inputs[i] == 'x' ? stable::detail::to<Tensor>(stack[i])
                                   : stable::detail::to<std::optional<Tensor>>(stack[i]);
  for (int i = 0; i < op.parameters; ++i)
    work.parameters[i] = stable::detail::to<double>(stack[inputs + i]);

  const Tensor& x = *given[0];
  const int dtype = dtype_of(op, x);
  STD_TORCH_CHECK(!op.rows || x.dim() > 0, "tautomer::", op.name, ": a number has no rows");
  const int64_t count = x.numel();
  work.columns = op.rows ? x.size(x.dim() - 1) : 1;
  work.rows = work.columns ? count / work.columns : 0;
  work.row_bytes = std::max<int64_t>(1, work.columns) * SIZES[dtype];
  for (int i = 0; i < inputs; ++i) {
    if (op.inputs[i] != 'x') {
      held.push_back(row_of(op, given[i], op.inputs[i], x, work.columns));
    } else {
      const auto sizes = x.sizes(), own = given[i]->sizes();
      STD_TORCH_CHECK(given[i]->scalar_type() == DTYPES[dtype], "tautomer::", op.name,
                      ": input ", i, " has another type than x");
      STD_TORCH_CHECK(sizes.size() == own.size() && std::equal(sizes.begin(), sizes.end(), own.begin()),
                      "tautomer::", op.name, ": input ", i, " has another shape than x");
      held.push_back(in_order(*given[i]));
    }
    work.inputs[i] = held.back().const_data_ptr();
  }
  std::vector<Tensor> results;
  for (int i = 0; i < op.values; ++i) results.push_back(stable::new_empty(x, x.sizes()));
  for (int i = 0; i < op.totals; ++i)
    results.push_back(stable::new_empty(x, {work.columns}, ScalarType::Float));
  for (size_t i = 0; i < results.size(); ++i) work.outputs[i] = results[i].mutable_data_ptr();

  if (count) {
    work.run = run_for(op, dtype, count, work.columns);
    if (op.totals) {
      with_totals(work);
    } else {
      const int64_t grain = (GRAIN_BYTES + work.row_bytes - 1) / work.row_bytes;
      stable::parallel_for(0, work.rows, grain, [&](int64_t first, int64_t last) {
        work.part(first, last, work.outputs);
      });
    }
  } else {
    for (int i = 0; i < op.totals; ++i)
      std::fill_n(static_cast<float*>(work.outputs[op.values + i]), work.columns, 0.0f);
  }
  for (size_t i = 0; i < results.size(); ++i) stack[i] = stable::detail::from(results[i]);
}
"""

ATTACH = """\
extern "C" __attribute__((visibility("default")))
int tautomer_torch_attach(int op, int dtype, void* run, int64_t least_bytes, int64_t least_columns,
                          int64_t multiple) {
  Variants& there = operators[op].variants[dtype];
  const int size = there.size.load(std::memory_order_relaxed);
  if (size == MOST_VARIANTS) return 0;
  there.list[size] = Variant{reinterpret_cast<Run>(run), least_bytes, least_columns, multiple};
  there.size.store(size + 1, std::memory_order_release);
  return 1;
}
"""
