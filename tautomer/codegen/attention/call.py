"""What a kernel of attention is called with, and what its form decides, as C++ text."""

from __future__ import annotations

from tautomer.codegen.attention.tile import ROWS
from tautomer.patterns.attention.form import AttentionForm

CALL = """\
typedef V Aligned __attribute__((may_alias));

struct Call {
  const S *q, *k, *v;
  const void* mask;
  const int64_t* lengths;
  const float *slopes, *sink;
  S* y;
  float* statistics;
  char* scratch;
  float* parts;
  float scale, bias, cap, inverse_cap;
  int64_t window, free, batch, heads, kv_heads, rows, columns, depth, width, block, splits;
  int64_t q_steps[4], k_steps[4], v_steps[4], y_steps[4], mask_steps[4];

  int64_t group() const { return heads / kv_heads; }
  int64_t vectors() const { return (width + LANES - 1) / LANES; }
  int64_t blocks() const { return (rows * group() + block - 1) / block; }
  int64_t part_size() const { return block * (vectors() * LANES + 2); }
};

INLINE Call read(const void* const* inputs, void* const* outputs, const double* parameters) {
  Call call{};
  call.q = (const S*)*inputs++, call.k = (const S*)*inputs++, call.v = (const S*)*inputs++;
  if (MASK) call.mask = *inputs++;
  if (LENGTHS) call.lengths = (const int64_t*)*inputs++;
  if (ALIBI) call.slopes = (const float*)*inputs++;
  if (SINK) call.sink = (const float*)*inputs++;
  call.y = (S*)outputs[0], call.statistics = (float*)outputs[1];
  call.scratch = (char*)outputs[2], call.parts = (float*)outputs[3];
  call.scale = (float)*parameters++, call.bias = (float)*parameters++, call.cap = (float)*parameters++;
  call.inverse_cap = 1.0f / call.cap;
  int64_t* const whole[] = {&call.window, &call.free, &call.batch, &call.heads, &call.kv_heads, &call.rows,
                            &call.columns, &call.depth, &call.width, &call.block, &call.splits};
  for (int64_t* one : whole) *one = (int64_t)*parameters++;
  int64_t* const steps[] = {call.q_steps, call.k_steps, call.v_steps, call.y_steps, call.mask_steps};
  for (int64_t* four : steps)
    for (int i = 0; i < 4; ++i) four[i] = (int64_t)*parameters++;
  return call;
}
"""


def constants(form: AttentionForm) -> str:
    """What the form decides, as constants that the loops are written with."""
    kind = form.function.kind
    truths = {
        "MASK": bool(form.mask),
        "CAUSAL": bool(form.causal),
        "FROM_START": form.causal == "start",
        "WINDOW": form.window,
        "LENGTHS": form.lengths,
        "ALIBI": form.alibi,
        "SOFTCAP": form.softcap,
        "SINK": form.sink,
        "EXTRA": form.function.extra is not None,
        "EXPONENTIAL": kind == "exponential",
        "DIVIDED": kind != "pointwise",
        "TWO_SWEEPS": kind == "two sweeps",
        "EMPTY_IS_ZERO": form.empty == "zero",
        "ADJUSTED": bool(form.mask or form.alibi or form.softcap),
    }
    lines = [f"constexpr bool {name} = {str(value).lower()};" for name, value in truths.items()]
    lines += [
        f"constexpr int ROWS = {ROWS};",
        "constexpr float REMOVED = -__builtin_inff();",
    ]
    return "\n".join(lines) + "\n"
