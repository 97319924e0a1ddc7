"""The library that makes gates of mixtures of experts an operator of torch, against its stable ABI.

    expert_gate_v1(Tensor x, int k, int form) -> (Tensor weights, Tensor experts)

`form` is the place of an operator in `codegen.gate_kernel.FORMS`; x is in float32. The library holds no
kernel; see `codegen.torch_library`.
"""

from __future__ import annotations

from tautomer.codegen.gate_kernel import FORMS
from tautomer.codegen.torch.glue import GRAIN_BYTES, INCLUDES
from tautomer.codegen.torch.operators import NAMESPACE
from tautomer.patterns.expert_gate import MOST_CHOSEN, MOST_EXPERTS

NAME = "expert_gate_v1"

_GLUE = """\
using torch::headeronly::ScalarType;
using torch::stable::Tensor;
namespace stable = torch::stable;
using Run = void (*)(const void* const*, void* const*, const double*, int64_t, int64_t, int64_t);

std::atomic<Run> attached;

void gate(StableIValue* stack, uint64_t, uint64_t) {
  const Tensor given = stable::detail::to<Tensor>(stack[0]);
  const int64_t k = stable::detail::to<int64_t>(stack[1]), form = stable::detail::to<int64_t>(stack[2]);
  const Run run = attached.load(std::memory_order_acquire);
  STD_TORCH_CHECK(run, "tautomer: the kernel of gates is not loaded");
  STD_TORCH_CHECK(given.scalar_type() == ScalarType::Float, "tautomer: gates are of float32");
  STD_TORCH_CHECK(given.dim() > 0, "tautomer: a number has no experts");
  const int64_t columns = given.size(given.dim() - 1);
  STD_TORCH_CHECK(columns <= MOST_EXPERTS && 0 <= k && k <= MOST_CHOSEN && k <= columns,
                  "tautomer: there are too many experts, or chosen ones");
  STD_TORCH_CHECK(0 <= form && form < FORMS, "tautomer: no such gate");
  const Tensor x = given.is_contiguous() ? given : stable::contiguous(given);
  std::vector<int64_t> sizes;
  int64_t rows = 1;
  for (int64_t i = 0; i + 1 < x.dim(); ++i) sizes.push_back(x.size(i)), rows *= x.size(i);
  sizes.push_back(k);
  Tensor weights = stable::new_empty(x, sizes), experts = stable::new_empty(x, sizes, ScalarType::Long);
  if (rows * k) {
    const void* const inputs[] = {x.const_data_ptr()};
    void* const outputs[] = {weights.mutable_data_ptr(), experts.mutable_data_ptr()};
    const double parameters[] = {double(k), double(form)};
    const int64_t grain = std::max<int64_t>(1, GRAIN_BYTES / (columns * int64_t(sizeof(float))));
    stable::parallel_for(0, rows, grain, [&](int64_t first, int64_t last) {
      run(inputs, outputs, parameters, first, last, columns);
    });
  }
  stack[0] = stable::detail::from(weights);
  stack[1] = stable::detail::from(experts);
}
"""

_ATTACH = """\
extern "C" __attribute__((visibility("default")))
void tautomer_torch_attach_gate(void* given) {
  attached.store(reinterpret_cast<Run>(given), std::memory_order_release);
}
"""


def library_text() -> str:
    """The C++ file of the library; it exports `tautomer_torch_attach_gate`, which takes the kernel."""
    limits = (
        f"constexpr int64_t MOST_EXPERTS = {MOST_EXPERTS}, MOST_CHOSEN = {MOST_CHOSEN};\n"
        f"constexpr int64_t FORMS = {len(FORMS)}, GRAIN_BYTES = {GRAIN_BYTES};"
    )
    return "\n".join(
        (
            INCLUDES,
            "namespace {",
            limits,
            _GLUE,
            "}  // namespace",
            _ATTACH,
            f"STABLE_TORCH_LIBRARY_FRAGMENT({NAMESPACE}, m) {{",
            f'  m.def("{NAME}(Tensor x, int k, int form) -> (Tensor, Tensor)");',
            "}",
            f"STABLE_TORCH_LIBRARY_IMPL({NAMESPACE}, CPU, m) {{",
            f'  m.impl("{NAME}", &gate);',
            "}\n",
        )
    )
