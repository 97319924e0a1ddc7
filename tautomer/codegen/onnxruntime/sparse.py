"""The C++ that makes sparse linear maps operators of onnxruntime; it follows the glue."""

from __future__ import annotations

from tautomer.codegen.sparse.calls import CALLS

GLUE = (
    CALLS
    + """\
struct SparseState {
  const Op* op;
};

Status* sparse_create(const CustomOp* described, const Api*, const KernelInfo*, void** out) {
  *out = new (std::nothrow) SparseState{ours(described)};
  return *out ? nullptr : refuse(ours(described), "out of memory");
}

// A bias: a number for each output, or one for all.
Status* sparse_bias(const Op* op, const KernelContext* context, size_t index, int64_t count, Operands* rows) {
  Tensor bias;
  RETURN_IF(input(op, context, index, &bias));
  rows->data[index] = bias.data;
  if (bias.count == count && (bias.rank == 0 || bias.sizes[bias.rank - 1] == count)) return nullptr;
  if (bias.count != 1) return refuse(op, "%s has not one number for each row", op->what->inputs.first[index]);
  rows->spreads[index].reset(spread(bias.data, op->what->element_size, count));
  rows->data[index] = rows->spreads[index].get();
  return rows->data[index] ? nullptr : refuse(op, "out of memory");
}

Status* sparse_matrix(const Op* op, const KernelContext* context, size_t index, Tensor* weight) {
  RETURN_IF(input(op, context, index, weight));
  return weight->rank == 2 ? nullptr : refuse(op, "%s is no matrix", op->what->inputs.first[index]);
}

Status* sparse_compute(void* data, KernelContext* context) {
  const Op* op = static_cast<const SparseState*>(data)->op;
  const Api* api = op->api;
  const bool gated = op->what->inputs.size > 3;
  const size_t at = gated ? 1 : 0;  // of h
  Tensor x, h, up, weight, y;
  RETURN_IF(input(op, context, at, &h));
  RETURN_IF(sparse_matrix(op, context, gated ? 4 : 1, &weight));
  if (h.rank == 0 || h.sizes[h.rank - 1] != weight.sizes[0])
    return refuse(op, "%s and %s do not fit", op->what->inputs.first[at], op->what->inputs.first[at + 1]);
  Sparse s{};
  s.neurons = weight.sizes[0], s.outputs = weight.sizes[1], s.size = op->what->element_size;
  s.rows = 1;
  for (size_t i = 0; i + 1 < h.rank; ++i) s.rows *= h.sizes[i];
  if (s.neurons > INT32_MAX) return refuse(op, "there are too many neurons");
  Operands operands;
  if (gated) {
    RETURN_IF(input(op, context, 0, &x));
    RETURN_IF(sparse_matrix(op, context, 2, &up));
    s.inputs = up.sizes[1];
    const bool same = x.rank == h.rank && std::memcmp(x.sizes, h.sizes, (h.rank - 1) * sizeof(int64_t)) == 0;
    if (!same || x.sizes[x.rank - 1] != s.inputs || up.sizes[0] != s.neurons)
      return refuse(op, "x, gate and up do not fit");
    RETURN_IF(sparse_bias(op, context, 3, s.neurons, &operands));
    s.x = static_cast<const char*>(x.data);
    s.up = static_cast<const char*>(up.data);
    s.up_bias = static_cast<const char*>(operands.data[3]);
  }
  const size_t last = op->what->inputs.size - 1;
  RETURN_IF(sparse_bias(op, context, last, s.outputs, &operands));
  int64_t sizes[MOST_AXES];
  std::memcpy(sizes, h.sizes, h.rank * sizeof(int64_t));
  sizes[h.rank - 1] = s.outputs;
  Value* value = nullptr;
  void* out = nullptr;
  RETURN_IF(api->KernelContext_GetOutput(context, 0, sizes, h.rank, &value));
  if (!value) return refuse(op, "the output is missing");
  RETURN_IF(api->GetTensorMutableData(value, &out));
  if (s.rows * s.outputs == 0) return nullptr;
  s.h = static_cast<const char*>(h.data);
  s.weight = static_cast<const char*>(weight.data);
  s.bias = static_cast<const char*>(operands.data[last]);
  s.y = static_cast<char*>(out);
  static thread_local Scratch scratch;
  Status* status = nullptr;
  const auto split = [&](const Pieces& work) {
    const auto task = [](void* data, size_t i) { static_cast<const Pieces*>(data)->piece(int64_t(i)); };
    const int64_t pieces = work.pieces();
    if (pieces == 1) work.piece(0);
    if (pieces < 2 || status) return;
    status = api->KernelContext_ParallelFor(context, task, size_t(pieces), 0, const_cast<Pieces*>(&work));
  };
  const auto& functions = *static_cast<const SparseFunctions*>(op->what->own);
  if (!sparse_linear(functions, s, scratch, split)) return refuse(op, "out of memory");
  return status;
}

const Family SPARSE = {sparse_create, sparse_compute,
                       [](void* state) { delete static_cast<SparseState*>(state); }, nullptr, nullptr};
"""
)
