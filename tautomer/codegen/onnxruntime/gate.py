"""The C++ that makes gates of mixtures of experts operators of onnxruntime; it follows the glue."""

from __future__ import annotations

from tautomer.patterns.expert_gate import MOST_CHOSEN, MOST_EXPERTS

PARTS = ("",)
_LIMITS = f"constexpr int64_t MOST_EXPERTS = {MOST_EXPERTS}, MOST_CHOSEN = {MOST_CHOSEN};\n"
GLUE = (
    _LIMITS
    + """\
struct GateDetails {
  Run run;
  int form;
};

struct GateState {
  const Op* op;
};

Status* gate_create(const CustomOp* described, const Api*, const KernelInfo*, void** out) {
  *out = new (std::nothrow) GateState{ours(described)};
  return *out ? nullptr : refuse(ours(described), "out of memory");
}

Status* gate_compute(void* data, KernelContext* context) {
  const Op* op = static_cast<const GateState*>(data)->op;
  const Api* api = op->api;
  const auto& details = *static_cast<const GateDetails*>(op->what->own);
  Tensor x, k;
  RETURN_IF(input(op, context, 0, &x));
  RETURN_IF(input(op, context, 1, &k));
  if (x.rank == 0) return refuse(op, "a number has no experts");
  const int64_t columns = x.sizes[x.rank - 1];
  if (columns > MOST_EXPERTS) return refuse(op, "there are %lld experts", (long long)columns);
  if (k.count != 1) return refuse(op, "k is not one number");
  int64_t count;
  std::memcpy(&count, k.data, sizeof count);
  if (count < 0 || count > columns || count > MOST_CHOSEN)
    return refuse(op, "%lld of %lld experts are to be chosen", (long long)count, (long long)columns);
  const int64_t rows = columns ? x.count / columns : 0;
  x.sizes[x.rank - 1] = count;
  void* outputs[2];
  for (size_t i = 0; i < 2; ++i) {
    Value* value = nullptr;
    RETURN_IF(api->KernelContext_GetOutput(context, i, x.sizes, x.rank, &value));
    if (!value) return refuse(op, "the output %d is missing", int(i));
    RETURN_IF(api->GetTensorMutableData(value, &outputs[i]));
  }
  if (rows * count == 0) return nullptr;
  const void* const inputs[] = {x.data};
  const double parameters[] = {double(count), double(details.form)};
  Job job{details.run, inputs, outputs, parameters, rows, 0, columns};
  return in_tasks(api, context, job, columns * op->what->element_size);
}

const Family GATE = {gate_create, gate_compute,
                     [](void* state) { delete static_cast<GateState*>(state); }, nullptr, nullptr};
"""
)
