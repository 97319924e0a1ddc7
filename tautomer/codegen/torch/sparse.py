"""The library that makes sparse linear maps operators of torch, against its stable ABI.

    sparse_linear_v1(Tensor h, Tensor rows, Tensor? bias, Tensor finite) -> Tensor
    sparse_gated_linear_v1(Tensor x, Tensor gate, Tensor up, Tensor? up_bias,
                           Tensor rows, Tensor? bias, Tensor finite) -> Tensor

`rows` is the weight of the linear map with one contiguous row per neuron, the transpose of what torch keeps;
`up` is a weight as torch keeps it. `finite` is one truth: that the weights are within the limits of
`patterns.sparse_linear`. Where it is false nothing is left out. The library holds no kernel; see
`codegen.torch_library`.
"""

from __future__ import annotations

from tautomer.codegen.sparse.calls import CALLS
from tautomer.codegen.torch.glue import INCLUDES
from tautomer.codegen.torch.operators import NAMESPACE

NAMES = ("sparse_linear_v1", "sparse_gated_linear_v1")
SCHEMAS = (
    f"{NAMES[0]}(Tensor h, Tensor rows, Tensor? bias, Tensor finite) -> Tensor",
    f"{NAMES[1]}(Tensor x, Tensor gate, Tensor up, Tensor? up_bias, Tensor rows, Tensor? bias, "
    "Tensor finite) -> Tensor",
)

_GLUE = """\
using torch::headeronly::ScalarType;
using torch::stable::Tensor;
namespace stable = torch::stable;

constexpr ScalarType DTYPES[] = {ScalarType::Float, ScalarType::Half, ScalarType::BFloat16};
constexpr int64_t SIZES[] = {4, 2, 2};

SparseFunctions functions[3];
std::atomic<bool> attached[3];

// Tensors that a call holds, contiguous and of one type.
struct Held {
  int dtype;
  std::vector<Tensor> tensors;

  explicit Held(const Tensor& first) : dtype(3) {
    for (int i = 0; i < 3; ++i)
      if (first.scalar_type() == DTYPES[i]) dtype = i;
    STD_TORCH_CHECK(dtype < 3, "tautomer: sparse products are of float32, float16 and bfloat16");
    STD_TORCH_CHECK(attached[dtype].load(std::memory_order_acquire),
                    "tautomer: the sparse kernel for this type is not loaded");
    tensors.reserve(8);
  }

  const char* of(const Tensor& tensor) {
    STD_TORCH_CHECK(tensor.scalar_type() == DTYPES[dtype], "tautomer: a sparse product of two types");
    tensors.push_back(tensor.is_contiguous() ? tensor : stable::contiguous(tensor));
    return static_cast<const char*>(tensors.back().const_data_ptr());
  }

  // A bias, or zeros.
  const char* bias(const std::optional<Tensor>& given, const Tensor& like, int64_t count) {
    STD_TORCH_CHECK(!given || given->numel() == count, "tautomer: a bias of another size");
    if (given) return of(*given);
    tensors.push_back(stable::new_empty(like, {count}));
    void* const zeros = tensors.back().mutable_data_ptr();
    std::memset(zeros, 0, size_t(count * SIZES[dtype]));
    return static_cast<const char*>(zeros);
  }
};

void matrix(const Tensor& weight) {
  STD_TORCH_CHECK(weight.dim() == 2, "tautomer: the weight of a sparse product is no matrix");
}

Tensor product(Sparse s, Held& held, const Tensor& h, const Tensor& rows, const std::optional<Tensor>& bias,
               const Tensor& finite) {
  matrix(rows);
  STD_TORCH_CHECK(h.dim() > 0 && h.size(h.dim() - 1) == rows.size(0), "tautomer: h and W do not fit");
  STD_TORCH_CHECK(finite.numel() == 1 && finite.scalar_type() == ScalarType::Bool,
                  "tautomer: finite is no truth");
  s.neurons = rows.size(0), s.outputs = rows.size(1), s.size = SIZES[held.dtype];
  s.rows = 1;
  std::vector<int64_t> sizes;
  for (int64_t i = 0; i + 1 < h.dim(); ++i) sizes.push_back(h.size(i)), s.rows *= h.size(i);
  sizes.push_back(s.outputs);
  s.h = held.of(h), s.weight = held.of(rows), s.bias = held.bias(bias, h, s.outputs);
  s.everything = !*static_cast<const bool*>(finite.const_data_ptr());
  Tensor y = stable::new_empty(h, sizes);
  if (s.rows * s.outputs == 0) return y;
  s.y = static_cast<char*>(y.mutable_data_ptr());
  static thread_local Scratch scratch;
  const bool done = sparse_linear(functions[held.dtype], s, scratch, [](const Pieces& work) {
    stable::parallel_for(0, work.pieces(), 1, [&](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; ++i) work.piece(i);
    });
  });
  STD_TORCH_CHECK(done, "tautomer: out of memory");
  return y;
}

using Absent = std::optional<Tensor>;

void plain(StableIValue* stack, uint64_t, uint64_t) {
  using stable::detail::to;
  const Tensor h = to<Tensor>(stack[0]), rows = to<Tensor>(stack[1]);
  const Absent bias = to<Absent>(stack[2]);
  const Tensor finite = to<Tensor>(stack[3]);
  Held held(h);
  stack[0] = stable::detail::from(product(Sparse{}, held, h, rows, bias, finite));
}

void gated(StableIValue* stack, uint64_t, uint64_t) {
  using stable::detail::to;
  const Tensor x = to<Tensor>(stack[0]), gate = to<Tensor>(stack[1]), up = to<Tensor>(stack[2]);
  const Absent up_bias = to<Absent>(stack[3]);
  const Tensor rows = to<Tensor>(stack[4]);
  const Absent bias = to<Absent>(stack[5]);
  const Tensor finite = to<Tensor>(stack[6]);
  matrix(up);
  Held held(gate);
  Sparse s{};
  s.inputs = up.size(1);
  bool same = x.dim() == gate.dim() && x.dim() > 0 && x.size(x.dim() - 1) == s.inputs;
  for (int64_t i = 0; same && i + 1 < x.dim(); ++i) same = x.size(i) == gate.size(i);
  STD_TORCH_CHECK(same && up.size(0) == gate.size(gate.dim() - 1), "tautomer: x, gate and up do not fit");
  s.x = held.of(x), s.up = held.of(up), s.up_bias = held.bias(up_bias, x, up.size(0));
  stack[0] = stable::detail::from(product(s, held, gate, rows, bias, finite));
}
"""

_ATTACH = """\
extern "C" __attribute__((visibility("default")))
void tautomer_torch_attach_sparse(int dtype, void* const* given) {
  Run run[6];
  for (int i = 0; i < 6; ++i) run[i] = reinterpret_cast<Run>(given[i]);
  functions[dtype] = SparseFunctions{run[0], run[1], run[2], run[3], run[4], run[5]};
  attached[dtype].store(true, std::memory_order_release);
}
"""


def library_text() -> str:
    """The C++ file of the library; it exports `tautomer_torch_attach_sparse`, which takes the functions of
    `codegen.sparse_kernel.PARTS` in their order."""
    run = "using Run = void (*)(const void* const*, void* const*, const double*, int64_t, int64_t, int64_t);"
    return "\n".join(
        (
            INCLUDES + "#include <memory>\n#include <new>",
            "namespace {",
            run,
            CALLS,
            _GLUE,
            "}  // namespace",
            _ATTACH,
            f"STABLE_TORCH_LIBRARY_FRAGMENT({NAMESPACE}, m) {{",
            *(f'  m.def("{schema}");' for schema in SCHEMAS),
            "}",
            f"STABLE_TORCH_LIBRARY_IMPL({NAMESPACE}, CPU, m) {{",
            f'  m.impl("{NAMES[0]}", &plain);',
            f'  m.impl("{NAMES[1]}", &gated);',
            "}\n",
        )
    )
