"""The C++ that makes attention an operator of onnxruntime; it follows the glue."""

from __future__ import annotations

from tautomer.codegen.attention.calls import CALLS

GLUE = (
    CALLS
    + """\
struct AttentionDetails {
  AttentionFunctions functions;
  const char* layouts;     // of q, k, v and y: see order_of
  bool masked, may_split;  // the fourth input is a mask
  bool capped, windowed, freed;
};

struct AttentionState {
  const Op* op;
  AttentionNumbers numbers;
};

const AttentionDetails& details_of(const Op* op) {
  return *static_cast<const AttentionDetails*>(op->what->own);
}

// Which axis of [batch, head, position, channel] stands at each place.
const int* order_of(char layout) {
  static const int orders[3][4] = {{0, 1, 2, 3}, {0, 2, 1, 3}, {0, 1, 3, 2}};
  return orders[layout == 'h' ? 0 : layout == 'n' ? 1 : 2];
}

Status* attention_create(const CustomOp* described, const Api* api, const KernelInfo* info, void** out) {
  const Op* op = ours(described);
  const AttentionDetails& what = details_of(op);
  std::unique_ptr<AttentionState> state(new (std::nothrow) AttentionState{op, {}});
  if (!state) return refuse(op, "out of memory");
  AttentionNumbers& numbers = state->numbers;
  const struct { const char* name; double* to; bool wanted, whole; } attributes[] = {
      {"scale", &numbers.scale, true, false},          {"bias", &numbers.bias, true, false},
      {"softcap", &numbers.softcap, what.capped, false}, {"window", &numbers.window, what.windowed, true},
      {"free", &numbers.free, what.freed, true}};
  for (const auto& one : attributes) {
    float number = 0.0f;
    int64_t whole = 0;
    if (!one.wanted) continue;
    if (!found(api, one.whole ? api->KernelInfoGetAttribute_int64(info, one.name, &whole)
                              : api->KernelInfoGetAttribute_float(info, one.name, &number)))
      return refuse(op, "the attribute %s is missing, or not of its type", one.name);
    *one.to = one.whole ? double(whole) : double(number);
  }
  *out = state.release();
  return nullptr;
}

// A contiguous tensor in a layout: its size along each axis, and the step from one index to the next.
void read_axes(const int64_t* sizes, char layout, int64_t* by_axis, double* steps) {
  const int* order = order_of(layout);
  int64_t step = 1;
  for (int place = 3; place >= 0; --place) {
    by_axis[order[place]] = sizes[place];
    steps[order[place]] = double(step);
    step *= sizes[place];
  }
}

// A mask broadcasts to [batch, head, query, key].
Status* read_mask(const Op* op, const Tensor& mask, const int64_t* whole, double* steps) {
  if (mask.rank > 4) return refuse(op, "the mask has more than four axes");
  int64_t step = 1;
  for (int axis = 3; axis >= 0; --axis) {
    const int place = axis - 4 + int(mask.rank);
    const int64_t size = place < 0 ? 1 : mask.sizes[place];
    if (size != 1 && size != whole[axis]) return refuse(op, "the mask does not broadcast to the scores");
    steps[axis] = size == 1 ? 0.0 : double(step);
    step *= size;
  }
  return nullptr;
}

Status* attention_compute(void* data, KernelContext* context) {
  const AttentionState& state = *static_cast<const AttentionState*>(data);
  const Op* op = state.op;
  const AttentionDetails& what = details_of(op);
  const List<const char*>& names = op->what->inputs;
  AttentionNumbers call = state.numbers;
  const void* inputs[MOST_INPUTS];
  int64_t sizes[3][4];
  double* const steps[] = {call.q, call.k, call.v};
  Tensor tensor;
  for (size_t i = 0; i < names.size; ++i) {
    RETURN_IF(input(op, context, i, &tensor));
    inputs[i] = tensor.data;
    if (i < 3) {
      if (tensor.rank != 4) return refuse(op, "%s has not four axes", names.first[i]);
      read_axes(tensor.sizes, what.layouts[i], sizes[i], steps[i]);
      continue;
    }
    const int64_t scores[] = {sizes[0][0], sizes[0][1], sizes[0][2], sizes[1][2]};
    if (i == 3 && what.masked) {
      RETURN_IF(read_mask(op, tensor, scores, call.mask));
    } else if (tensor.count != scores[std::strcmp(names.first[i], "lengths") == 0 ? 0 : 1]) {
      return refuse(op, "%s has another size", names.first[i]);
    }
  }
  const int64_t *q = sizes[0], *k = sizes[1], *v = sizes[2];
  const bool alike = q[0] == k[0] && q[0] == v[0] && k[1] == v[1] && k[2] == v[2] && q[3] == k[3];
  if (!alike || k[1] == 0 || q[1] % k[1])
    return refuse(op, "q, k and v do not fit");
  if (k[2] > INT32_MAX) return refuse(op, "there are too many keys");
  call.batch = double(q[0]), call.heads = double(q[1]), call.rows = double(q[2]), call.depth = double(q[3]);
  call.kv_heads = double(k[1]), call.columns = double(k[2]), call.width = double(v[3]);
  const int64_t result[] = {q[0], q[1], q[2], v[3]};
  const int* order = order_of(what.layouts[3]);
  int64_t placed[4], unused[4];
  for (int place = 0; place < 4; ++place) placed[place] = result[order[place]];
  read_axes(placed, what.layouts[3], unused, call.y);
  Value* value = nullptr;
  void* y = nullptr;
  RETURN_IF(op->api->KernelContext_GetOutput(context, 0, placed, 4, &value));
  if (!value) return refuse(op, "the output is missing");
  RETURN_IF(op->api->GetTensorMutableData(value, &y));
  Status* status = nullptr;
  const auto split = [&](const AttentionWork& work) {
    const auto task = [](void* data, size_t i) {
      static_cast<const AttentionWork*>(data)->piece(int64_t(i));
    };
    if (work.units == 1) work.piece(0);
    if (work.units < 2 || status) return;
    status = op->api->KernelContext_ParallelFor(context, task, size_t(work.units), 0,
                                                const_cast<AttentionWork*>(&work));
  };
  if (!attention(what.functions, call, inputs, y, nullptr, what.may_split, split))
    return refuse(op, "out of memory");
  return status;
}

const Family ATTENTION = {attention_create, attention_compute,
                          [](void* state) { delete static_cast<AttentionState*>(state); }, nullptr, nullptr};
"""
)
