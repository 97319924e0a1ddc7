"""The library that makes attention operators of torch, against its stable ABI.

    score_attention_v1(Tensor q, Tensor k, Tensor v, Tensor? mask, Tensor? lengths, Tensor? slopes,
                       Tensor? sink, str form, float scale, float bias, float softcap, int window,
                       int free) -> Tensor
    score_attention_kernel_v1(the same) -> (Tensor, Tensor)
    score_attention_backward_v1(Tensor gradient, Tensor y, Tensor statistics, the same)
        -> (Tensor, Tensor, Tensor)

The first is differentiable; the second also gives what the gradient of an exponential needs of each row. The
form is what `patterns.attention_operator.form_text` makes of one: the tensors are there as it says. Strides
are any. The library holds no kernel: those of a form and type are attached when they are first wanted.
"""

from __future__ import annotations

from tautomer.codegen.attention.calls import CALLS
from tautomer.codegen.torch.glue import INCLUDES
from tautomer.codegen.torch.operators import NAMESPACE

_INPUTS = (
    "Tensor q, Tensor k, Tensor v, Tensor? mask, Tensor? lengths, Tensor? slopes, Tensor? sink, "
    "str form, float scale, float bias, float softcap, int window, int free"
)
FORWARD, KERNEL, BACKWARD = (f"score_attention{part}_v1" for part in ("", "_kernel", "_backward"))
SCHEMAS = {
    FORWARD: f"{FORWARD}({_INPUTS}) -> Tensor",
    KERNEL: f"{KERNEL}({_INPUTS}) -> (Tensor, Tensor)",
    BACKWARD: f"{BACKWARD}(Tensor gradient, Tensor y, Tensor statistics, {_INPUTS}) "
    "-> (Tensor, Tensor, Tensor)",
}

_GLUE = """\
using torch::headeronly::ScalarType;
using torch::stable::Tensor;
namespace stable = torch::stable;
using Run = void (*)(const void* const*, void* const*, const double*, int64_t, int64_t, int64_t);

constexpr ScalarType DTYPES[] = {ScalarType::Float, ScalarType::Half, ScalarType::BFloat16};
"""

_CALL = """\
struct Attached {
  AttentionFunctions forward, backward;  // backward.run is null where there is no gradient
  bool masked, boolean, lengths, slopes, sink, exponential, may_split;
};

std::mutex attaching;
std::map<std::pair<std::string, int>, Attached> all_attached;

// What an operator is called with, and what has to live as long as the call.
struct Given {
  Tensor q, k, v;
  std::optional<Tensor> more[4];  // mask, lengths, slopes, sink
  std::string form;
  AttentionNumbers numbers;
  Attached how;
  const void* inputs[10];
  int count = 0;
  std::vector<Tensor> held;

  explicit Given(StableIValue* stack)
      : q(stable::detail::to<Tensor>(stack[0])),
        k(stable::detail::to<Tensor>(stack[1])),
        v(stable::detail::to<Tensor>(stack[2])) {
    for (int i = 0; i < 4; ++i) more[i] = stable::detail::to<std::optional<Tensor>>(stack[3 + i]);
    form = stable::detail::to<std::string>(stack[7]);
    numbers.scale = stable::detail::to<double>(stack[8]);
    numbers.bias = stable::detail::to<double>(stack[9]);
    numbers.softcap = stable::detail::to<double>(stack[10]);
    numbers.window = double(stable::detail::to<int64_t>(stack[11]));
    numbers.free = double(stable::detail::to<int64_t>(stack[12]));
    find();
    sizes();
    operands();
  }

  void find() {
    int dtype = 3;
    for (int i = 0; i < 3; ++i)
      if (q.scalar_type() == DTYPES[i]) dtype = i;
    const std::lock_guard<std::mutex> lock(attaching);
    const auto found = all_attached.find({form, dtype});
    STD_TORCH_CHECK(found != all_attached.end(), "tautomer::score_attention: the kernel of '", form,
                    "' for this type is not loaded; tautomer.torch.load_attention() does it");
    how = found->second;
  }

  void read(const Tensor& x, double* steps) {
    STD_TORCH_CHECK(x.dim() == 4, "tautomer::score_attention: q, k and v have four axes");
    STD_TORCH_CHECK(x.scalar_type() == q.scalar_type(), "tautomer::score_attention: the types differ");
    for (int i = 0; i < 4; ++i) steps[i] = x.size(i) == 1 ? 0.0 : double(x.stride(i));
    inputs[count++] = x.const_data_ptr();
  }

  void sizes() {
    read(q, numbers.q), read(k, numbers.k), read(v, numbers.v);
    const bool alike = q.size(0) == k.size(0) && q.size(0) == v.size(0) && k.size(1) == v.size(1) &&
                       k.size(2) == v.size(2) && q.size(3) == k.size(3);
    STD_TORCH_CHECK(alike && k.size(1) > 0 && q.size(1) % k.size(1) == 0 && k.size(2) <= INT32_MAX,
                    "tautomer::score_attention: q, k and v do not fit");
    numbers.batch = double(q.size(0)), numbers.heads = double(q.size(1)), numbers.rows = double(q.size(2));
    numbers.kv_heads = double(k.size(1)), numbers.columns = double(k.size(2));
    numbers.depth = double(q.size(3)), numbers.width = double(v.size(3));
    in_order(numbers.y, q.size(1), q.size(2), v.size(3));
  }

  static void in_order(double* steps, int64_t heads, int64_t rows, int64_t width) {
    const int64_t own[] = {heads * rows * width, rows * width, width, 1};
    for (int i = 0; i < 4; ++i) steps[i] = double(own[i]);
  }

  void operands() {
    const bool wanted[] = {how.masked, how.lengths, how.slopes, how.sink};
    const ScalarType types[] = {how.boolean ? ScalarType::Bool : q.scalar_type(), ScalarType::Long,
                                ScalarType::Float, ScalarType::Float};
    for (int i = 0; i < 4; ++i) {
      STD_TORCH_CHECK(wanted[i] == more[i].has_value(), "tautomer::score_attention: '", form,
                      "' wants other tensors than are given");
      if (!wanted[i]) continue;
      const Tensor& x = *more[i];
      STD_TORCH_CHECK(x.scalar_type() == types[i], "tautomer::score_attention: operand ", i,
                      " has a wrong type");
      if (i == 0) {
        mask(x);
        continue;
      }
      STD_TORCH_CHECK(x.dim() == 1 && x.size(0) == q.size(i == 1 ? 0 : 1),
                      "tautomer::score_attention: operand ", i, " has a wrong size");
      held.push_back(x.is_contiguous() ? x : stable::contiguous(x));
      inputs[count++] = held.back().const_data_ptr();
    }
  }

  void mask(const Tensor& x) {
    const int64_t whole[] = {q.size(0), q.size(1), q.size(2), k.size(2)};
    bool fits = x.dim() <= 4;
    for (int axis = 3; fits && axis >= 0; --axis) {
      const int64_t place = axis - 4 + x.dim(), size = place < 0 ? 1 : x.size(place);
      fits = size == 1 || size == whole[axis];
      numbers.mask[axis] = size == 1 ? 0.0 : double(x.stride(place));
    }
    STD_TORCH_CHECK(fits, "tautomer::score_attention: the mask does not broadcast to the scores");
    inputs[count++] = x.const_data_ptr();
  }
};

void in_threads(const AttentionWork& work) {
  stable::parallel_for(0, work.units, 1, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) work.piece(i);
  });
}

void forward(StableIValue* stack, bool with_statistics) {
  Given given(stack);
  const Tensor& q = given.q;
  const bool kept = with_statistics && given.how.exponential;
  Tensor y = stable::new_empty(q, {q.size(0), q.size(1), q.size(2), given.v.size(3)});
  Tensor statistics =
      stable::new_empty(q, {q.size(0), q.size(1), q.size(2), kept ? 2 : 0}, ScalarType::Float);
  void* const more = kept ? statistics.mutable_data_ptr() : nullptr;
  const bool done = attention(given.how.forward, given.numbers, given.inputs, y.mutable_data_ptr(), more,
                              given.how.may_split, in_threads);
  STD_TORCH_CHECK(done, "tautomer::score_attention: out of memory");
  stack[0] = stable::detail::from(y);
  if (with_statistics) stack[1] = stable::detail::from(statistics);
}

void backward(StableIValue* stack) {
  Tensor tensors[3] = {stable::detail::to<Tensor>(stack[0]), stable::detail::to<Tensor>(stack[1]),
                       stable::detail::to<Tensor>(stack[2])};
  Given given(stack + 3);
  STD_TORCH_CHECK(given.how.backward.run, "tautomer::score_attention: '", given.form, "' has no gradient");
  const Tensor& q = given.q;
  const int64_t count = q.size(0) * q.size(1) * q.size(2), width = given.v.size(3);
  const int64_t wanted[] = {count * width, count * width, given.how.exponential ? 2 * count : 0};
  const ScalarType types[] = {q.scalar_type(), q.scalar_type(), ScalarType::Float};
  for (int i = 0; i < 3; ++i)
    STD_TORCH_CHECK(tensors[i].numel() == wanted[i] && tensors[i].scalar_type() == types[i],
                    "tautomer::score_attention: the gradient does not fit");
  for (int i : {1, 0, 2}) {
    given.held.push_back(tensors[i].is_contiguous() ? tensors[i] : stable::contiguous(tensors[i]));
    given.inputs[given.count++] = given.held.back().const_data_ptr();
  }
  Tensor results[3] = {stable::new_empty(q, q.sizes()), stable::new_empty(given.k, given.k.sizes()),
                       stable::new_empty(given.v, given.v.sizes())};
  void* const outputs[] = {results[0].mutable_data_ptr(), results[1].mutable_data_ptr(),
                           results[2].mutable_data_ptr()};
  STD_TORCH_CHECK(attention_backward(given.how.backward, given.numbers, given.inputs, outputs, in_threads),
                  "tautomer::score_attention: out of memory");
  for (int i = 0; i < 3; ++i) stack[i] = stable::detail::from(results[i]);
}

void boxed_forward(StableIValue* stack, uint64_t, uint64_t) { forward(stack, false); }
void boxed_kernel(StableIValue* stack, uint64_t, uint64_t) { forward(stack, true); }
void boxed_backward(StableIValue* stack, uint64_t, uint64_t) { backward(stack); }
"""

_ATTACH = """\
extern "C" __attribute__((visibility("default")))
void tautomer_torch_attach_attention(const char* form, int dtype, void* const* functions, const bool* is) {
  const auto run = [&](int i) { return reinterpret_cast<Run>(functions[i]); };
  const AttentionFunctions forward{run(0), run(1), run(2)}, backward{run(3), nullptr, run(4)};
  const std::lock_guard<std::mutex> lock(attaching);
  all_attached[{form, dtype}] = Attached{forward, backward, is[0], is[1], is[2], is[3], is[4], is[5], is[6]};
}
"""


def library_text() -> str:
    """The C++ file of the library; it exports `tautomer_torch_attach_attention`."""
    lines = [
        INCLUDES,
        *(f"#include <{name}>" for name in ("map", "memory", "mutex", "new", "string", "utility")),
        "namespace {",
        _GLUE,
        CALLS,
        _CALL,
        "}  // namespace",
        _ATTACH,
        f"STABLE_TORCH_LIBRARY_FRAGMENT({NAMESPACE}, m) {{",
        *(f'  m.def("{schema}");' for schema in SCHEMAS.values()),
        "}",
        f"STABLE_TORCH_LIBRARY_IMPL({NAMESPACE}, CPU, m) {{",
        f'  m.impl("{FORWARD}", &boxed_forward);',
        f'  m.impl("{KERNEL}", &boxed_kernel);',
        f'  m.impl("{BACKWARD}", &boxed_backward);',
        "}",
    ]
    return "\n".join(lines) + "\n"
