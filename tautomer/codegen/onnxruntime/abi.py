"""The part of onnxruntime's C interface that a kernel library uses, declared without its headers.

onnxruntime hands a library a table of functions to which later versions only append, so a function is
known by its place. A custom operator is described by a struct that says in its first member which version of
the table its author knew; members that came after that version are not read.
"""

from __future__ import annotations

# The table of this version, onnxruntime 1.18's, is asked for; members of the struct up to it are read.
API_VERSION = 18

# onnxruntime's numbers of element types, and the bytes of one.
ELEMENT_TYPES: dict[str, tuple[int, int]] = {
    "FLOAT": (1, 4),
    "FLOAT16": (10, 2),
    "DOUBLE": (11, 8),
    "BFLOAT16": (16, 2),
}

# The same of types that an input may have beside those.
OTHER_TYPES: dict[str, tuple[int, int]] = {"INT64": (7, 8), "BOOL": (9, 1)}

# place in the table -> function
SLOTS: dict[int, str] = {
    0: "Status* (*CreateStatus)(int code, const char* message)",
    26: "Status* (*CreateCustomOpDomain)(const char* domain, CustomOpDomain** out)",
    27: "Status* (*CustomOpDomain_Add)(CustomOpDomain* domain, const CustomOp* op)",
    28: "Status* (*AddCustomOpDomain)(SessionOptions* options, CustomOpDomain* domain)",
    51: "Status* (*GetTensorMutableData)(Value* value, void** out)",
    61: "Status* (*GetDimensionsCount)(const TensorInfo* info, size_t* out)",
    62: "Status* (*GetDimensions)(const TensorInfo* info, int64_t* sizes, size_t count)",
    63: "Status* (*GetSymbolicDimensions)(const TensorInfo* info, const char** names, size_t count)",
    65: "Status* (*GetTensorTypeAndShape)(const Value* value, TensorInfo** out)",
    85: "Status* (*KernelInfoGetAttribute_float)(const KernelInfo* info, const char* name, float* out)",
    86: "Status* (*KernelInfoGetAttribute_int64)(const KernelInfo* info, const char* name, int64_t* out)",
    87: "Status* (*KernelInfoGetAttribute_string)(const KernelInfo* info, const char* name, char* out, "
    "size_t* size)",
    90: "Status* (*KernelContext_GetInput)(const KernelContext* context, size_t index, const Value** out)",
    91: "Status* (*KernelContext_GetOutput)(KernelContext* context, size_t index, const int64_t* sizes, "
    "size_t count, Value** out)",
    93: "void (*ReleaseStatus)(Status* status)",
    99: "void (*ReleaseTensorTypeAndShapeInfo)(TensorInfo* info)",
    268: "Status* (*ShapeInferContext_GetInputTypeShape)(const ShapeContext* context, size_t index, "
    "TensorInfo** out)",
    270: "Status* (*ShapeInferContext_SetOutputTypeShape)(const ShapeContext* context, size_t index, "
    "const TensorInfo* info)",
    274: "Status* (*KernelContext_ParallelFor)(const KernelContext* context, void (*task)(void*, size_t), "
    "size_t tasks, size_t batches, void* data)",
}

_TYPES = """\
struct Status;
struct SessionOptions;
struct CustomOpDomain;
struct Value;
struct TensorInfo;
struct KernelInfo;
struct KernelContext;
struct ShapeContext;
struct CustomOp;
using Unused = void (*)();
"""

_CUSTOM_OP = """\
struct ApiBase {
  const Api* (*GetApi)(uint32_t version);
  const char* (*GetVersionString)();
};

struct CustomOp {
  uint32_t version;
  void* (*CreateKernel)(const CustomOp*, const Api*, const KernelInfo*);
  const char* (*GetName)(const CustomOp*);
  const char* (*GetExecutionProviderType)(const CustomOp*);
  int (*GetInputType)(const CustomOp*, size_t);
  size_t (*GetInputTypeCount)(const CustomOp*);
  int (*GetOutputType)(const CustomOp*, size_t);
  size_t (*GetOutputTypeCount)(const CustomOp*);
  void (*KernelCompute)(void*, KernelContext*);
  void (*KernelDestroy)(void*);
  int (*GetInputCharacteristic)(const CustomOp*, size_t);
  int (*GetOutputCharacteristic)(const CustomOp*, size_t);
  int (*GetInputMemoryType)(const CustomOp*, size_t);                           // from version 13 on
  int (*GetVariadicInputMinArity)(const CustomOp*);                             // 14
  int (*GetVariadicInputHomogeneity)(const CustomOp*);
  int (*GetVariadicOutputMinArity)(const CustomOp*);
  int (*GetVariadicOutputHomogeneity)(const CustomOp*);
  Status* (*CreateKernelV2)(const CustomOp*, const Api*, const KernelInfo*, void** kernel);  // 16
  Status* (*KernelComputeV2)(void* kernel, KernelContext*);
  Status* (*InferOutputShapeFn)(const CustomOp*, ShapeContext*);                // 17
  int (*GetStartVersion)(const CustomOp*);
  int (*GetEndVersion)(const CustomOp*);
  size_t (*GetMayInplace)(int** inputs, int** outputs);                         // 18
  void (*ReleaseMayInplace)(int* inputs, int* outputs);
  size_t (*GetAliasMap)(int** inputs, int** outputs);
  void (*ReleaseAliasMap)(int* inputs, int* outputs);
};
"""


def declarations() -> str:
    """The C++ declarations, for a namespace of their own."""
    lines, at = [], 0
    for place, function in sorted(SLOTS.items()):
        if place > at:
            lines.append(f"  Unused unused_{at}[{place - at}];")
        lines.append(f"  {function};  // {place}")
        at = place + 1
    return "\n".join(
        (_TYPES, f"constexpr uint32_t API_VERSION = {API_VERSION};", "struct Api {", *lines, "};", _CUSTOM_OP)
    )
