"""The C++ that computes attention with the functions of `codegen.attention_kernel`.

It is the same for every runtime, which gives it threads: `split(work)` has to call `work.piece(i)` for every
i below `work.units`, in any order, and to wait. How the work is cut follows from sizes alone, so that results
do not depend on the number of threads.
"""

from __future__ import annotations

from tautomer.codegen.attention.direct import DIRECT_ROWS
from tautomer.codegen.attention.tile import KEYS, ROWS

PARTS = ("", "_joined", "_scratch")
"""What stands behind the symbol of each function of `AttentionFunctions`."""

# What a block keeps of its rows, queries and results, is to stay in the second cache beside a block of keys;
# and with fewer rows, packing the keys shows. Where units would be few, threads share the keys.
_PLAN = f"""\
constexpr int64_t TILE_ROWS = {ROWS}, BLOCK_NUMBERS = 80 << 10, LEAST_ROWS = 96;
constexpr int64_t FEW_ROWS_OF_UNIT = {DIRECT_ROWS}, WANTED_UNITS = 8, LEAST_KEYS = 8 * {KEYS};
"""

CALLS = (
    _PLAN
    + """\
struct AttentionFunctions { Run run, joined, scratch; };

// The order in which a kernel reads the numbers of a call.
struct AttentionNumbers {
  double scale = 1, bias = 0, softcap = 1, window = 0, free = 0;
  double batch, heads, kv_heads, rows, columns, depth, width, block = 1, splits = 1;
  double q[4], k[4], v[4], y[4], mask[4] = {};

  int64_t pairs() const { return int64_t(batch * kv_heads); }
  int64_t stacked() const { return int64_t(rows * (heads / kv_heads)); }  // of heads that share keys
};
static_assert(sizeof(AttentionNumbers) == 34 * sizeof(double), "read as an array");

// Memory of a thread that lasts from call to call.
struct AttentionScratch {
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

struct AttentionWork {
  Run run;
  const void* const* inputs;
  void* outputs[4];
  int scratch_at;  // of the outputs
  const AttentionNumbers* numbers;
  size_t scratch;
  int64_t units;
  std::atomic<bool>* failed;

  void piece(int64_t i) const {
    static thread_local AttentionScratch memory;
    void* own[] = {outputs[0], outputs[1], outputs[2], outputs[3]};
    own[scratch_at] = memory.of(scratch);
    if (own[scratch_at])
      run(inputs, own, &numbers->scale, i, i + 1, 0);
    else
      failed->store(true);
  }
};

int64_t ceil_of(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Into how many rows of a unit, and parts of the keys.
void plan(AttentionNumbers& call, bool may_split) {
  const int64_t rows = call.stacked(), pairs = call.pairs();
  int64_t most = BLOCK_NUMBERS / (int64_t(call.depth + call.width) + 1);
  const int64_t shared = ceil_of(rows, ceil_of(WANTED_UNITS, pairs));
  if (most > shared) most = shared;
  if (most < LEAST_ROWS) most = LEAST_ROWS;
  const int64_t even = ceil_of(rows, ceil_of(rows, most));
  const int64_t block = rows <= FEW_ROWS_OF_UNIT ? rows : ceil_of(even, TILE_ROWS) * TILE_ROWS;
  const int64_t units = pairs * ceil_of(rows, block), columns = int64_t(call.columns);
  int64_t splits = may_split && units < WANTED_UNITS ? WANTED_UNITS / units : 1;
  if (splits > columns / LEAST_KEYS) splits = columns / LEAST_KEYS;
  call.block = double(block), call.splits = double(splits < 1 ? 1 : splits);
}

size_t scratch_of(Run scratch, const AttentionNumbers& call) {
  int64_t bytes = 0;
  void* const size[] = {&bytes};
  scratch(nullptr, size, &call.scale, 0, 0, 0);
  return size_t(bytes);
}

// False where there is not enough memory.
template <class Split>
bool attention(const AttentionFunctions& functions, AttentionNumbers& call, const void* const* inputs,
               void* y, void* statistics, bool may_split, const Split& split) {
  if (call.batch * call.heads * call.rows * call.width == 0) return true;
  plan(call, may_split);
  std::atomic<bool> failed{false};
  const int64_t blocks = call.pairs() * ceil_of(call.stacked(), int64_t(call.block));
  const int64_t splits = int64_t(call.splits);
  const size_t scratch = scratch_of(functions.scratch, call);
  std::unique_ptr<float[]> parts;
  if (splits > 1) {
    const int64_t row = int64_t(call.width) + 18;  // a vector has at most 16 lanes
    parts.reset(new (std::nothrow) float[size_t(blocks * splits * int64_t(call.block) * row)]);
    if (!parts) return false;
  }
  AttentionWork work{functions.run, inputs, {y, statistics, nullptr, parts.get()}, 2, &call,
                     scratch, blocks * splits, &failed};
  split(work);
  if (splits > 1) {
    work.run = functions.joined, work.units = blocks;
    split(work);
  }
  return !failed.load();
}

// The same of the gradients of q, k and v, which are the outputs.
template <class Split>
bool attention_backward(const AttentionFunctions& functions, AttentionNumbers& call,
                        const void* const* inputs, void* const* outputs, const Split& split) {
  if (call.pairs() == 0) return true;
  call.block = double(call.stacked() ? call.stacked() : 1), call.splits = 1;
  std::atomic<bool> failed{false};
  const AttentionWork work{functions.run, inputs, {outputs[0], outputs[1], outputs[2], nullptr}, 3, &call,
                           scratch_of(functions.scratch, call), call.pairs(), &failed};
  split(work);
  return !failed.load();
}
"""
)
