"""The C++ that makes kernels known to onnxruntime and ties them to nodes; it follows the glue."""

from __future__ import annotations

REGISTER = """\
// Whether a call gave something; what is absent is no error.
bool found(const Api* api, Status* status) {
  if (status) api->ReleaseStatus(status);
  return !status;
}

bool agrees(const Api* api, const KernelInfo* info, const Attribute& attribute) {
  char value[64];
  size_t size = 0;
  if (!found(api, api->KernelInfoGetAttribute_string(info, attribute.name, nullptr, &size))) return true;
  if (size > sizeof value) return false;
  return found(api, api->KernelInfoGetAttribute_string(info, attribute.name, value, &size)) &&
         std::strcmp(value, attribute.value) == 0;
}

const Kernel* kernel_of(const Op* op, const KernelInfo* info) {
  for (const Kernel& kernel : op->what->kernels) {
    bool suits = true;
    for (const Attribute& attribute : kernel.attributes) suits = suits && agrees(op->api, info, attribute);
    if (suits) return &kernel;
  }
  return nullptr;
}

Status* create(const CustomOp* described, const Api* api, const KernelInfo* info, void** out) {
  const Op* op = ours(described);
  const Kernel* kernel = kernel_of(op, info);
  if (!kernel) return refuse(op, "no kernel is for this node's attributes");
  std::unique_ptr<State> state(new (std::nothrow) State{op, kernel, -1, 1, 1, {}});
  if (!state) return refuse(op, "out of memory");
  found(api, api->KernelInfoGetAttribute_int64(info, "axis", &state->axis));
  if (op->what->grouped) {
    found(api, api->KernelInfoGetAttribute_int64(info, "groups", &state->groups));
    found(api, api->KernelInfoGetAttribute_int64(info, "segments", &state->segments));
  }
  double* parameter = state->parameters;
  for (const Parameter& one : kernel->parameters) {
    float number = one.otherwise;
    int64_t whole = 0;
    size_t size = 0;
    if (one.whole) {
      *parameter++ = double(std::strcmp(one.name, "groups") == 0 ? state->groups : state->segments);
      continue;
    }
    if (!found(api, api->KernelInfoGetAttribute_float(info, one.name, &number)) &&
        (found(api, api->KernelInfoGetAttribute_int64(info, one.name, &whole)) ||
         found(api, api->KernelInfoGetAttribute_string(info, one.name, nullptr, &size))))
      return refuse(op, "the attribute %s is not a float", one.name);
    *parameter++ = number;
  }
  *out = state.release();
  return nullptr;
}

// The outputs have the shape of the first input, as far as that is known: onnxruntime cannot say a rank that
// is unknown, nor a size without a name. Of numbers per row it knows what the file says.
Status* infer(const CustomOp* described, ShapeContext* context) {
  const Op* op = ours(described);
  const Api* api = op->api;
  TensorInfo* info = nullptr;  // the context's own
  RETURN_IF(api->ShapeInferContext_GetInputTypeShape(context, 0, &info));
  Tensor x;
  RETURN_IF(sizes_of(op, info, &x));
  const char* names[MOST_AXES] = {};
  RETURN_IF(api->GetSymbolicDimensions(info, names, x.rank));
  for (size_t i = 0; i < x.rank; ++i)
    if (x.sizes[i] < 0 && (!names[i] || !*names[i])) return nullptr;
  for (size_t i = 0; x.rank && i < op->what->outputs; ++i)
    if (op->what->results[i] == 'f') RETURN_IF(api->ShapeInferContext_SetOutputTypeShape(context, i, info));
  return nullptr;
}

// A result may take the place of x, and a second one that of the first operand, which is then a full tensor.
size_t may_inplace(int** inputs, int** outputs) {
  static int first[] = {0};
  *inputs = *outputs = first;
  return size_t(1);
}

size_t none_may_inplace(int**, int**) { return size_t(0); }

size_t both_may_inplace(int** inputs, int** outputs) {
  static int both[] = {0, 1};
  *inputs = *outputs = both;
  return size_t(2);
}

void destroy(void* state) { delete static_cast<State*>(state); }

const Family ROWS = {create, compute, destroy, infer, may_inplace};
const Family ROWS_FOLDED = {create, compute, destroy, infer, none_may_inplace};
const Family ROWS_WITH_SUM = {create, compute, destroy, infer, both_may_inplace};

Status* add(const Api* api, CustomOpDomain* domain, const Description& what) {
  Op* op = new (std::nothrow) Op{};
  if (!op) return api->CreateStatus(FAIL, "tautomer: out of memory");
  op->api = api;
  op->what = &what;
  op->version = API_VERSION;
  op->GetName = [](const CustomOp* op) { return ours(op)->what->name; };
  op->GetExecutionProviderType = [](const CustomOp*) { return "CPUExecutionProvider"; };
  op->GetInputTypeCount = [](const CustomOp* op) { return ours(op)->what->inputs.size; };
  op->GetInputType = [](const CustomOp* op, size_t index) {
    const Description* what = ours(op)->what;
    return what->input_types ? what->input_types[index] : what->element_type;
  };
  op->GetOutputTypeCount = [](const CustomOp* op) { return ours(op)->what->outputs; };
  op->GetOutputType = [](const CustomOp* op, size_t index) {
    const Description* what = ours(op)->what;
    return what->output_types ? what->output_types[index] : what->element_type;
  };
  op->GetInputCharacteristic = [](const CustomOp*, size_t) { return 0; };  // neither optional nor variadic
  op->GetOutputCharacteristic = [](const CustomOp*, size_t) { return 0; };
  op->GetInputMemoryType = [](const CustomOp*, size_t) { return 0; };  // where the provider has it
  op->CreateKernelV2 = what.family->create;
  op->KernelComputeV2 = what.family->compute;
  op->KernelDestroy = what.family->destroy;
  op->InferOutputShapeFn = what.family->infer;
  op->GetMayInplace = what.family->may_inplace;
  op->ReleaseMayInplace = [](int*, int*) {};
  return api->CustomOpDomain_Add(domain, op);
}

// Operators and their domain live as long as the process: sessions refer to them, and nothing tells when the
// last one has gone.
Status* add_all(SessionOptions* options, const ApiBase* base, List<Description> descriptions) {
  const Api* api = base->GetApi(API_VERSION);
  if (!api) {
    api = base->GetApi(1);  // reporting an error has had the same place since then
    if (!api) std::abort();
    char message[200];
    std::snprintf(message, sizeof message,
                  "tautomer: the kernel library needs onnxruntime 1.%u or newer, and this is %s",
                  unsigned(API_VERSION), base->GetVersionString());
    return api->CreateStatus(FAIL, message);
  }
  CustomOpDomain* domain = nullptr;
  RETURN_IF(api->CreateCustomOpDomain("tautomer", &domain));
  for (const Description& what : descriptions) RETURN_IF(add(api, domain, what));
  return api->AddCustomOpDomain(options, domain);
}
"""
