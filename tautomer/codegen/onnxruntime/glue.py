"""The C++ that runs a kernel for onnxruntime; the same text in every library.

A kernel works on rows. This finds the rows of a tensor, cuts them into tasks and gives these to the threads
of the session. Nothing here throws; whatever is wrong becomes a status with a sentence in it.
"""

from __future__ import annotations

TASK_BYTES = 32 << 10
"""What one task reads of its first input, at least: enough to outweigh handing it to a thread."""

GLUE = """\
using Run = void (*)(const void* const*, void* const*, const double*, int64_t, int64_t, int64_t);

using Partial = void (*)(const void*, void*, int64_t, int64_t, double*);
using Finish = void (*)(const void*, void*, int64_t, int64_t, const double*, const double*);

struct Attribute { const char* name; const char* value; };
struct Parameter { const char* name; float otherwise; bool whole; };

template <class T>
struct List {
  const T* first;
  size_t size;
  const T* begin() const { return first; }
  const T* end() const { return first + size; }
};

// Another algorithm for tensors of this size or more; bytes are those of x and y together.
struct Variant {
  Run run;
  int64_t least_bytes, least_columns, multiple;  // a row's elements are a multiple of this
  bool in_place;  // also where y takes the place of x
  Partial partial;  // a row in parts: both or none
  Finish finish;
};

// One way to compute an operator: for nodes whose attributes have these values.
struct Kernel {
  Run run;
  List<Variant> variants;
  List<Attribute> attributes;
  List<Parameter> parameters;
};

// What operators of a kind have in common: those that work on rows, or others.
struct Family {
  Status* (*create)(const CustomOp*, const Api*, const KernelInfo*, void** kernel);
  Status* (*compute)(void* kernel, KernelContext*);
  void (*destroy)(void* kernel);
  Status* (*infer)(const CustomOp*, ShapeContext*);
  size_t (*may_inplace)(int** inputs, int** outputs);
};

// An operator for one element type.
struct Description {
  const char* name;
  int element_type;
  int64_t element_size;
  int row_axes;  // how many last axes make a row; 0: none, the operator is pointwise
  bool grouped;  // the axes but the first are cut into rows
  List<const char*> inputs;
  const char* kinds;  // how inputs go with x: the first letters of full, row, block, column, number, segment
  const char* results;  // the same of outputs: full or column
  size_t outputs;
  List<Kernel> kernels;
  const Family* family;
  const void* own;  // what the family wants to know of it
  const int *input_types, *output_types;  // where they are not all that of the element
};

// What onnxruntime is given for it.
struct Op : CustomOp {
  const Api* api;
  const Description* what;
};

// A node.
struct State {
  const Op* op;
  const Kernel* kernel;
  int64_t axis, groups, segments;
  double parameters[MOST_PARAMETERS];
};

struct Tensor {
  void* data;
  int64_t sizes[MOST_AXES];
  size_t rank;
  int64_t count;
};

struct Job {
  Run run;
  const void* const* inputs;
  void* const* outputs;
  const double* parameters;
  int64_t rows, rows_of_a_task, columns;
};

#define RETURN_IF(status) if (Status* refused = (status)) return refused

const Op* ours(const CustomOp* op) { return static_cast<const Op*>(op); }

Status* refuse(const Op* op, const char* format, ...) {
  char sentence[200], message[300];
  va_list values;
  va_start(values, format);
  std::vsnprintf(sentence, sizeof sentence, format, values);
  va_end(values);
  std::snprintf(message, sizeof message, "tautomer.%s: %s", op->what->name, sentence);
  return op->api->CreateStatus(FAIL, message);
}

Status* sizes_of(const Op* op, const TensorInfo* info, Tensor* tensor) {
  const Api* api = op->api;
  RETURN_IF(api->GetDimensionsCount(info, &tensor->rank));
  if (tensor->rank > MOST_AXES) return refuse(op, "a tensor has more than %d axes", int(MOST_AXES));
  RETURN_IF(api->GetDimensions(info, tensor->sizes, tensor->rank));
  tensor->count = 1;
  for (size_t i = 0; i < tensor->rank; ++i) tensor->count *= tensor->sizes[i];
  return nullptr;
}

Status* input(const Op* op, const KernelContext* context, size_t index, Tensor* tensor) {
  const Api* api = op->api;
  const Value* value = nullptr;
  RETURN_IF(api->KernelContext_GetInput(context, index, &value));
  if (!value) return refuse(op, "the input %s is missing", op->what->inputs.first[index]);
  TensorInfo* info = nullptr;
  RETURN_IF(api->GetTensorTypeAndShape(value, &info));
  Status* status = sizes_of(op, info, tensor);
  api->ReleaseTensorTypeAndShapeInfo(info);
  RETURN_IF(status);
  return api->GetTensorMutableData(const_cast<Value*>(value), &tensor->data);
}

bool same_shape(const Tensor& a, const Tensor& b) {
  return a.rank == b.rank && std::memcmp(a.sizes, b.sizes, a.rank * sizeof(int64_t)) == 0;
}

// One number that stands for a whole row.
char* spread(const void* number, int64_t size, int64_t columns) {
  char* row = new (std::nothrow) char[size * columns];
  for (int64_t i = 0; row && i < columns; ++i) std::memcpy(row + i * size, number, size);
  return row;
}

void task(void* data, size_t index) {
  const Job& job = *static_cast<const Job*>(data);
  const int64_t first = int64_t(index) * job.rows_of_a_task;
  const int64_t last = first + job.rows_of_a_task;
  job.run(job.inputs, job.outputs, job.parameters, first, last < job.rows ? last : job.rows, job.columns);
}

Status* in_tasks(const Api* api, const KernelContext* context, Job& job, int64_t row_bytes) {
  int64_t rows = row_bytes ? (TASK_BYTES + row_bytes - 1) / row_bytes : job.rows;
  if (job.columns == 1) rows = (rows + 63) / 64 * 64;  // elements: whole cache lines
  job.rows_of_a_task = rows;
  const int64_t tasks = (job.rows + rows - 1) / rows;
  if (tasks > 1) return api->KernelContext_ParallelFor(context, task, size_t(tasks), 0, &job);
  task(&job, 0);
  return nullptr;
}

// How x is cut into rows.
struct Rows {
  int64_t rows, columns, groups, segments;
  size_t axes;  // the last axes of x that make a row
};

Status* rows_of(const State& state, const Tensor& x, Rows* rows) {
  const Op* op = state.op;
  const Description* what = op->what;
  *rows = Rows{x.count, 1, state.groups, state.segments, size_t(what->row_axes)};
  if (what->grouped) {
    if (x.rank < 2) return refuse(op, "x has %d axes, and groups are cut from the second on", int(x.rank));
    rows->axes = x.rank - 1;
  }
  if (rows->axes == 0) return nullptr;
  if (rows->axes > x.rank) return refuse(op, "x has only %d axes", int(x.rank));
  const int64_t axis = int64_t(x.rank - rows->axes);
  if (!what->grouped && state.axis != axis && state.axis != axis - int64_t(x.rank))
    return refuse(op, "the axis is %lld, and the kernel works on the last %d", (long long)state.axis,
                  what->row_axes);
  for (size_t i = size_t(axis); i < x.rank; ++i) rows->columns *= x.sizes[i];
  if (what->grouped) {
    if (rows->groups < 1 || rows->segments < 1 || rows->columns % rows->groups ||
        rows->columns / rows->groups % rows->segments)
      return refuse(op, "%lld elements are not %lld groups of %lld parts", (long long)rows->columns,
                    (long long)rows->groups, (long long)rows->segments);
    rows->columns /= rows->groups;
  }
  rows->rows = rows->groups;
  for (size_t i = 0; i < size_t(axis); ++i) rows->rows *= x.sizes[i];
  return nullptr;
}

// Whether a tensor has x's sizes on some axes, seen from the last one, and 1 on the others.
bool broadcasts_over(const Tensor& tensor, const Tensor& x, size_t first, size_t last) {
  if (tensor.rank > x.rank) return false;
  const size_t lead = x.rank - tensor.rank;
  for (size_t i = 0; i < x.rank; ++i) {
    const int64_t size = i < lead ? 1 : tensor.sizes[i - lead];
    if (size != (i >= first && i < last ? x.sizes[i] : 1)) return false;
  }
  return true;
}

// Whether a tensor has x's sizes on neighbouring axes before a row, and 1 on the others; and of the axes of a
// row all or none. Row r of x then goes with its number or row r / period % count.
bool placed(const Tensor& tensor, const Tensor& x, size_t axis, bool whole, double place[2]) {
  if (tensor.rank > x.rank) return false;
  const size_t lead = x.rank - tensor.rank;
  double period = 1.0, count = 1.0;
  bool ended = false;
  for (size_t i = x.rank; i-- > 0;) {
    const int64_t size = i < lead ? 1 : tensor.sizes[i - lead];
    if (i >= axis) {
      if (size != (whole ? x.sizes[i] : 1)) return false;
    } else if (size != 1) {
      if (size != x.sizes[i] || ended) return false;
      count *= double(size);
    } else if (x.sizes[i] != 1) {
      ended = count > 1.0;
      if (!ended) period *= double(x.sizes[i]);
    }
  }
  place[0] = period, place[1] = count;
  return true;
}

bool goes_with(char kind, bool grouped, const Tensor& tensor, const Tensor& x, const Rows& rows,
               double place[2]) {
  const size_t axis = x.rank - rows.axes;
  switch (kind) {
    case 'f': return same_shape(x, tensor);
    case 'r': return broadcasts_over(tensor, x, axis, x.rank);
    case 'n': return broadcasts_over(tensor, x, 0, 0);
    case 'b': return placed(tensor, x, axis, true, place);
    case 'c':
      if (!grouped) return placed(tensor, x, axis, false, place);
      place[0] = 1.0, place[1] = double(tensor.count);
      return tensor.count == rows.rows || tensor.count == rows.groups;
    default: return tensor.count == rows.groups * rows.segments;
  }
}

const char* shape_of(char kind) {
  switch (kind) {
    case 'f': return "of the shape of x";
    case 'r': return "of the shape of a row";
    case 'n': return "one number";
    case 'b': return "of the shape of a row, for some of the axes before";
    case 'c': return "one number for each row, or for some of the axes before";
    default: return "one number for each part of a group";
  }
}

// The inputs after the first, and memory for those that were spread.
struct Operands {
  const void* data[MOST_INPUTS];
  std::unique_ptr<char[]> spreads[MOST_INPUTS];
};

Status* operand(const Op* op, const KernelContext* context, size_t i, const Tensor& x, const Rows& rows,
                Operands* operands, double* place) {
  const Description* what = op->what;
  const char kind = what->kinds[i];
  Tensor tensor;
  RETURN_IF(input(op, context, i, &tensor));
  operands->data[i] = tensor.data;
  if (goes_with(kind, what->grouped, tensor, x, rows, place)) return nullptr;
  if (kind != 'r' || tensor.count != 1)
    return refuse(op, "%s is not %s", what->inputs.first[i], shape_of(kind));
  operands->spreads[i].reset(spread(tensor.data, what->element_size, rows.columns));
  operands->data[i] = operands->spreads[i].get();
  return operands->data[i] ? nullptr : refuse(op, "out of memory");
}

// Another algorithm for a size: the first whose threshold is reached.
const Variant* variant_for(const Kernel& kernel, int64_t bytes, int64_t columns, bool in_place) {
  for (const Variant& one : kernel.variants)
    if (bytes >= one.least_bytes && columns >= one.least_columns && columns % one.multiple == 0 &&
        (one.in_place || !in_place))
      return &one;
  return nullptr;
}

// Rows that are fewer than threads may be: each is cut into parts, of which (m, s) and (n, t) make
// (M, s e^(m - M) + t e^(n - M)) with the larger M of m and n.
constexpr int64_t FEW_ROWS = 8, MOST_PARTS = 64;

struct Parts {
  const Variant* how;
  const char* x;
  char* y;
  int64_t columns, length;
  double pairs[MOST_PARTS][2], whole[2];
  int64_t last(size_t index) const {
    const int64_t end = (int64_t(index) + 1) * length;
    return end < columns ? end : columns;
  }
};

void partial_task(void* data, size_t index) {
  Parts& parts = *static_cast<Parts*>(data);
  parts.how->partial(parts.x, parts.y, int64_t(index) * parts.length, parts.last(index), parts.pairs[index]);
}

void finish_task(void* data, size_t index) {
  const Parts& parts = *static_cast<Parts*>(data);
  parts.how->finish(parts.x, parts.y, int64_t(index) * parts.length, parts.last(index), parts.pairs[index],
                    parts.whole);
}

Status* in_parts(const Api* api, const KernelContext* context, const Variant* how, const Job& job,
                 int64_t size) {
  Parts parts{};
  parts.how = how;
  parts.columns = job.columns;
  parts.length = (job.columns + MOST_PARTS - 1) / MOST_PARTS;
  if (parts.length < TASK_BYTES / size) parts.length = TASK_BYTES / size;
  parts.length = (parts.length + 63) / 64 * 64;  // whole cache lines
  const size_t tasks = size_t((job.columns + parts.length - 1) / parts.length);
  for (int64_t row = 0; row < job.rows; ++row) {
    parts.x = static_cast<const char*>(job.inputs[0]) + row * job.columns * size;
    parts.y = static_cast<char*>(job.outputs[0]) + row * job.columns * size;
    RETURN_IF(api->KernelContext_ParallelFor(context, partial_task, tasks, 0, &parts));
    double* whole = parts.whole;
    whole[0] = parts.pairs[0][0];
    for (size_t i = 1; i < tasks; ++i) whole[0] = parts.pairs[i][0] > whole[0] ? parts.pairs[i][0] : whole[0];
    whole[1] = 0.0;
    for (size_t i = 0; i < tasks; ++i) whole[1] += parts.pairs[i][1] * std::exp(parts.pairs[i][0] - whole[0]);
    RETURN_IF(api->KernelContext_ParallelFor(context, finish_task, tasks, 0, &parts));
  }
  return nullptr;
}

Status* compute(void* data, KernelContext* context) {
  const State& state = *static_cast<const State*>(data);
  const Op* op = state.op;
  const Description* what = op->what;
  Tensor x;
  RETURN_IF(input(op, context, 0, &x));
  Rows rows;
  RETURN_IF(rows_of(state, x, &rows));
  void* outputs[MOST_OUTPUTS];
  for (size_t i = 0; i < what->outputs; ++i) {
    Value* value = nullptr;
    int64_t sizes[MOST_AXES];
    for (size_t j = 0; j < x.rank; ++j)
      sizes[j] = what->results[i] == 'c' && j >= x.rank - rows.axes ? 1 : x.sizes[j];
    RETURN_IF(op->api->KernelContext_GetOutput(context, i, sizes, x.rank, &value));
    if (!value) return refuse(op, "the output %d is missing", int(i));
    RETURN_IF(op->api->GetTensorMutableData(value, &outputs[i]));
  }
  if (x.count == 0 && (rows.rows == 0 || !std::strchr(what->results, 'c'))) return nullptr;
  Operands operands;
  operands.data[0] = x.data;
  double parameters[MOST_PARAMETERS];
  std::memcpy(parameters, state.parameters, sizeof state.parameters);
  double* place = parameters + state.kernel->parameters.size;
  for (size_t i = 1; i < what->inputs.size; ++i) {
    RETURN_IF(operand(op, context, i, x, rows, &operands, place));
    if (what->kinds[i] == 'b' || what->kinds[i] == 'c') place += 2;
  }
  const bool in_place = x.data == outputs[0];
  const int64_t bytes = x.count * what->element_size * (in_place ? 1 : 2);
  const int64_t piece = rows.axes ? rows.columns / rows.segments : x.count;  // of x, written as one
  const Variant* variant = variant_for(*state.kernel, bytes, piece, in_place);
  const Run run = variant ? variant->run : state.kernel->run;
  const int64_t row_bytes = rows.columns * what->element_size;
  Job job{run, operands.data, outputs, parameters, rows.rows, 0, rows.columns};
  if (variant && variant->partial && job.rows < FEW_ROWS && row_bytes >= 4 * TASK_BYTES)
    return in_parts(op->api, context, variant, job, what->element_size);
  return in_tasks(op->api, context, job, row_bytes);
}
"""
