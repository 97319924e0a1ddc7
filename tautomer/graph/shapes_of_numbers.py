"""Shape rules of operators that compute: pointwise, row by row, reductions, products and windows."""

from __future__ import annotations

from collections.abc import Sequence

from tautomer.graph.call import Call
from tautomer.graph.fact import Shape
from tautomer.graph.semantics.einsum import terms
from tautomer.graph.semantics.reductions import axes_of
from tautomer.graph.semantics.windows import windows_of
from tautomer.graph.shape_rules import Inputs, Unknown, broadcast, given, known, numbers, shape_rule

Shapes = Sequence[Shape | None]


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_BROADCAST = _words(
    "Add Sub Mul Div Mod Pow PRelu Sum Mean Max Min Where And Or Xor BitShift BitwiseAnd BitwiseOr "
    "BitwiseXor Equal Greater GreaterOrEqual Less LessOrEqual"
)
_REDUCTIONS = _words(
    "ReduceSum ReduceMean ReduceMax ReduceMin ReduceProd ReduceSumSquare ReduceL1 ReduceL2 ReduceLogSum "
    "ReduceLogSumExp"
)
# Operators of ONNX whose every output has the shape of the first input.
_SAME = _words(
    "Abs Acos Acosh Asin Asinh Atan Atanh Bernoulli BitwiseNot Cast CastLike Ceil Celu Clip Cos Cosh CumProd "
    "CumSum DequantizeLinear Dropout Elu Erf Exp EyeLike Floor Gelu GroupNormalization HardSigmoid HardSwish "
    "Hardmax Identity InstanceNormalization IsInf IsNaN LRN LeakyRelu Log LogSoftmax LpNormalization "
    "MeanVarianceNormalization Mish Neg Not QuantizeLinear RMSNormalization RandomNormalLike "
    "RandomUniformLike Reciprocal Relu ReverseSequence RotaryEmbedding Round Scatter ScatterElements "
    "ScatterND Selu Shrink Sigmoid Sign Sin Sinh Softmax Softplus Softsign Sqrt Swish Tan Tanh TensorScatter "
    "ThresholdedRelu Trilu"
)


@shape_rule(*_BROADCAST)
def pointwise(call: Call, x: Inputs) -> Shapes:
    """The inputs broadcast; below opset 7 onto the first."""
    if 0 < call.version < 7 and call.op_type != "Where":
        return [known(x, 0)]
    return [broadcast(*(known(x, i) for i in range(len(x))))]


@shape_rule(*_SAME)
@shape_rule("BiasGelu", "FastGelu", "Gelu", "QuickGelu", "RotaryEmbedding", domain="com.microsoft")
@shape_rule("CRMSNormalization", "OrthonormalCRMSNormalization", domain="tautomer")
def same(call: Call, x: Inputs) -> Shapes:
    """The shape of the first input."""
    return [known(x, 0)] * call.outputs


@shape_rule("LayerNormalization", "SimplifiedLayerNormalization")
@shape_rule("LayerNormalization", "SimplifiedLayerNormalization", domain="com.microsoft")
def normalization(call: Call, x: Inputs) -> Shapes:
    """The shape of the input, and statistics with one number per row."""
    shape = known(x, 0)
    axis = int(call.get("axis", -1)) % max(len(shape), 1)
    return [shape] + [shape[:axis] + (1,) * (len(shape) - axis)] * (call.outputs - 1)


@shape_rule("SkipLayerNormalization", "SkipSimplifiedLayerNormalization", domain="com.microsoft")
def skip_normalization(call: Call, x: Inputs) -> Shapes:
    """The shape of the input, statistics per row, and the sum before the norm."""
    shape = known(x, 0)
    statistic = (*shape[:-1], 1)
    return [shape, statistic, statistic, shape][: call.outputs]


@shape_rule("BatchNormalization")
def batch_normalization(call: Call, x: Inputs) -> Shapes:
    """The shape of the input, and statistics per channel."""
    return [known(x, 0)] + [known(x, 3)] * (call.outputs - 1)


@shape_rule(*_REDUCTIONS)
def reduction(call: Call, x: Inputs) -> Shapes:
    """The named axes become 1 or go."""
    shape = known(x, 0)
    axes = axes_of(call, numbers(call, x, "axes", 1), len(shape))
    if call.get("keepdims", 1):
        return [tuple(1 if i in axes else size for i, size in enumerate(shape))]
    return [tuple(size for i, size in enumerate(shape) if i not in axes)]


@shape_rule("ArgMax", "ArgMin")
def extreme(call: Call, x: Inputs) -> Shapes:
    """One axis becomes 1 or goes."""
    shape = known(x, 0)
    axis = int(call.get("axis", 0)) % len(shape)
    return [shape[:axis] + ((1,) if call.get("keepdims", 1) else ()) + shape[axis + 1 :]]


def matrix_product(a: Shape, b: Shape) -> Shape:
    """The shape of a @ b."""
    rows, columns = a[:-1][-1:], b[-1:] if len(b) > 1 else ()
    if not a or not b or a[-1] != (b[-2] if len(b) > 1 else b[0]):
        raise ValueError(f"the product of {a} and {b}")
    return broadcast(a[:-2], b[:-2]) + rows + columns


@shape_rule("MatMul", "MatMulInteger")
def product(call: Call, x: Inputs) -> Shapes:
    """Rows of the left, columns of the right."""
    return [matrix_product(known(x, 0), known(x, 1))]


@shape_rule("FusedMatMul", domain="com.microsoft")
def fused_product(call: Call, x: Inputs) -> Shapes:
    """Rows of the left, columns of the right, either transposed on demand."""
    if call.get("transBatchA", 0) or call.get("transBatchB", 0):
        raise Unknown
    a, b = known(x, 0), known(x, 1)
    a = (*a[:-2], a[-1], a[-2]) if call.get("transA", 0) and len(a) > 1 else a
    b = (*b[:-2], b[-1], b[-2]) if call.get("transB", 0) and len(b) > 1 else b
    return [matrix_product(a, b)]


@shape_rule("Gemm")
def affine(call: Call, x: Inputs) -> Shapes:
    """A matrix of the rows of the left and the columns of the right."""
    (a0, a1), (b0, b1) = known(x, 0), known(x, 1)
    return [(a1 if call.get("transA", 0) else a0, b0 if call.get("transB", 0) else b1)]


@shape_rule("Einsum")
def einsum(call: Call, x: Inputs) -> Shapes:
    """A size for every letter of the result."""
    shapes = [known(x, i) for i in range(len(x))]
    written, result = terms(str(call.attributes["equation"]), [len(shape) for shape in shapes])
    sizes: dict[str, int] = {}
    for term, shape in zip(written, shapes, strict=True):
        for letter, size in zip(term, shape, strict=True):
            if sizes.setdefault(letter, size) == 1:
                sizes[letter] = size
    return [tuple(sizes[letter] for letter in result)]


@shape_rule("Conv", "ConvInteger")
def convolution(call: Call, x: Inputs) -> Shapes:
    """A channel per filter, a pixel per window."""
    shape, filters = known(x, 0), known(x, 1)
    return [(shape[0], filters[0], *windows_of(call, shape[2:], filters[2:]).counts)]


@shape_rule("AveragePool", "MaxPool", "LpPool")
def pool(call: Call, x: Inputs) -> Shapes:
    """A pixel per window."""
    shape = known(x, 0)
    counts = windows_of(call, shape[2:], tuple(call.attributes["kernel_shape"])).counts
    return [(*shape[:2], *counts)] * call.outputs


@shape_rule("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
def global_pool(call: Call, x: Inputs) -> Shapes:
    """A pixel per channel."""
    shape = known(x, 0)
    return [shape[:2] + (1,) * (len(shape) - 2)]


@shape_rule("Attention")
def attention(call: Call, x: Inputs) -> Shapes:
    """The queries' shape with the values' width; keys and values with those of the past before them."""
    q, k, v = (known(x, i) for i in range(3))
    heads, shared = call.get("q_num_heads"), call.get("kv_num_heads")
    if len(q) == 3:
        k = (k[0], shared, k[1], k[2] // shared)
        v = (v[0], shared, v[1], v[2] // shared)
        result: Shape = (q[0], q[1], heads * v[3])
    else:
        heads, result = q[1], (*q[:3], v[3])
    past = known(x, 4)[2] if given(x, 4) else 0
    k, v = (k[0], k[1], k[2] + past, k[3]), (v[0], v[1], v[2] + past, v[3])
    return [result, k, v, (q[0], heads, q[-2], k[2])][: call.outputs]


@shape_rule("MultiHeadAttention", "GroupQueryAttention", "Attention", domain="com.microsoft")
def attention_of_onnxruntime(call: Call, x: Inputs) -> Shapes:
    """Batch and length of the queries, width of the values; the rest is left to declarations."""
    if len(known(x, 0)) != 3:
        raise Unknown
    batch, length, width = known(x, 0)
    if call.op_type == "Attention":
        widths = call.get("qkv_hidden_sizes")
        width = widths[2] if widths else known(x, 1)[1] // 3
    elif not given(x, 1):
        raise Unknown  # queries, keys and values packed in one
    elif call.op_type == "MultiHeadAttention" and given(x, 2):
        value = known(x, 2)
        width = value[2] if len(value) == 3 else value[1] * value[3]
    return [(batch, length, width)] + [None] * (call.outputs - 1)
