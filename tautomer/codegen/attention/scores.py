"""What happens to the scores of a tile between the products, as C++ text: soft cap, slopes, masks, and ends.

A query sees the keys [begin, end) of its Row; the mask, if there is one, decides among these.
"""

from __future__ import annotations

from tautomer.codegen.isa import Isa
from tautomer.codegen.numbers_per_row import single
from tautomer.patterns.attention.form import LOWEST, AttentionForm

_ROW = """\
struct Row {
  int64_t begin, end;
  const Mask* mask;
  float slope, position;
};

INLINE I lanes_from(int64_t first) {
  const I lane = {NUMBERING};
  return lane + (int32_t)first;
}

// a vector of the mask from key j on, of which `left` are there
INLINE Masked mask_at(const Mask* row, int64_t step, int64_t j, int64_t left) {
  if (step == 0) return all_of_mask(row);
  if (step == 1 && left >= LANES) return load_mask(row + j);
  Masked m{};
  for (int64_t i = 0; i < LANES && i < left; ++i) m[i] = all_of_mask(row + (j + i) * step)[0];
  return m;
}

// of some panels of scores, which begin with key `first`; `ends`: not all keys of the panels are seen by all
// rows
template <int R>
NOINLINE void adjust(const Call& call, const Row* rows, int64_t first, float* scores, int panels, bool ends) {
  for (int p = 0; p < panels; ++p)
    for (int r = 0; r < R; ++r)
      for (int n = 0; n < WIDTH; n += LANES) {
        Aligned* const at = (Aligned*)(scores + r * KEYS + p * WIDTH + n);
        const int64_t j = first + p * WIDTH + n, left = call.columns - j;
        const Row& row = rows[r];
        V s = *at;
STEPS
        if (ends) {
          const I lane = lanes_from(j);
          s = pick((lane >= (int32_t)row.begin) & (lane < (int32_t)row.end), s, all(REMOVED));
        }
        *at = s;
      }
}
"""

# A softmax that has seen removed keys only may be one of removed keys alone, which count if what removes them
# is a finite number: it goes on until there is another key.
_REMOVED = """\

// Whether the mask removes keys [first, first + count) of all these rows: their weights are 0.
template <int R>
NOINLINE bool removed(const Call& call, const Row* rows, const float* top, int64_t first, int64_t count) {{
  (void)top;
  for (int r = 0; r < R; ++r) {{
    if (rows[r].end <= rows[r].begin) continue;
    if (EXPONENTIAL && {finite} && !(top[r] > -1e29f)) return false;
    I kept{{}};
    for (int64_t n = 0; n < count; n += LANES) {{
      const Masked m = mask_at(rows[r].mask, call.mask_steps[3], first + n, count - n);
      kept |= ({keeps}) & first_lanes(count - n);
    }}
    for (int lane = 0; lane < LANES; ++lane)
      if (kept[lane]) return false;
  }}
  return true;
}}
"""

_ADDITIVE = """\
typedef S Mask;
typedef V Masked;
INLINE Masked all_of_mask(const Mask* p) { return all(one(p)); }
INLINE Masked load_mask(const Mask* p) { return load(p); }
"""
_BOOLEAN = """\
typedef uint8_t Mask;
typedef I Masked;
typedef uint8_t Bytes __attribute__((vector_size(LANES), aligned(1), may_alias));
INLINE Masked all_of_mask(const Mask* p) { return I{} + (int32_t)*p; }
INLINE Masked load_mask(const Mask* p) { return __builtin_convertvector(*(const Bytes*)p, I); }
"""
_NO_MASK = """\
typedef uint8_t Mask;
"""


def mask_types(form: AttentionForm) -> str:
    """How a mask is read."""
    return {"additive": _ADDITIVE, "boolean": _BOOLEAN, "": _NO_MASK}[form.mask]


def scores_text(form: AttentionForm, isa: Isa) -> str:
    """The changes that this form makes to scores."""
    steps = []
    if form.softcap:
        steps.append("s = tanh(s * call.inverse_cap) * call.cap + call.bias;")
    if form.alibi:
        steps.append("s += (__builtin_convertvector(lanes_from(j), V) - row.position) * row.slope;")
    if form.mask:
        steps.append("const Masked m = row.mask ? mask_at(row.mask, call.mask_steps[3], j, left) : Masked{};")
    if form.mask == "additive":
        steps.append("s += m;")
    if form.mask == "boolean":
        removed = f"all({single(LOWEST)})" if form.empty == "mean" else "all(REMOVED)"
        steps.append(f"s = pick(m != 0, s, {removed});")
    lines = "\n".join(f"        {step}" for step in (steps or ["(void)row, (void)call;"]))
    text = _ROW + _removed(form) if form.mask else _without_mask(_ROW)
    if "left" not in lines:
        text = text.replace(", left = call.columns - j", "")
    numbering = ", ".join(map(str, range(isa.lanes)))
    return text.replace("NUMBERING", numbering).replace("STEPS", lines)


def _removed(form: AttentionForm) -> str:
    if form.mask == "boolean":
        return _REMOVED.format(finite=str(form.empty == "mean").lower(), keeps="m != 0")
    return _REMOVED.format(finite="true", keeps="~(m <= -1e30f)")  # NaN is no number that removes


def _without_mask(text: str) -> str:
    """Less the function that nothing would use."""
    first, last = text.index("// a vector of the mask"), text.index("// of some panels")
    return text[:first] + text[last:]
