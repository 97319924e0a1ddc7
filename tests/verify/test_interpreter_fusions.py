"""The fused operators of onnxruntime, alone and where its own optimizer puts them."""

from __future__ import annotations

import numpy as np
import onnx.helper as oh
import pytest
from onnx import TensorProto as T

from tautomer.graph.reader import as_model
from tautomer.graph.semantics.mathematics import Float64
from tautomer.verify.interpreter import Unsupported, run

_KINDS = {"float32": T.FLOAT, "int64": T.INT64, "int32": T.INT32, "bool": T.BOOL}
_RNG = np.random.default_rng(11)


def _f(*shape):
    return _RNG.standard_normal(shape).astype(np.float32)


def _model(op, inputs, outputs, attributes, domain="com.microsoft"):
    names = ["" if x is None else f"x{i}" for i, x in enumerate(inputs)]
    graph = oh.make_graph(
        [oh.make_node(op, names, outputs, domain=domain, **attributes)],
        "g",
        [
            oh.make_tensor_value_info(n, _KINDS[x.dtype.name], x.shape)
            for n, x in zip(names, inputs, strict=True)
            if n
        ],
        [oh.make_tensor_value_info(n, T.INT32 if n == "i" else T.FLOAT, None) for n in outputs if n],
    )
    imports = [oh.make_opsetid("", 17), oh.make_opsetid("com.microsoft", 1)]
    return oh.make_model(graph, opset_imports=imports, ir_version=10), dict(zip(names, inputs, strict=True))


def _onnxruntime(model, inputs):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(model.SerializeToString(), options).run(None, inputs)


_X, _GAMMA, _BETA = _f(2, 5, 16), 1.0 + 0.1 * _f(16), _f(16)
_IDS = _RNG.integers(0, 11, (2, 5)).astype(np.int32)
_MASK = np.asarray([[1, 1, 1, 0, 0], [1, 1, 1, 1, 0]], np.int32)
_HALF = _RNG.uniform(0, 3, (9, 4))
_COS, _SIN = np.cos(_HALF).astype(np.float32), np.sin(_HALF).astype(np.float32)
_ENDS = np.asarray([3, 4], np.int32)
_GQA = [
    _f(2, 5, 32),
    _f(2, 5, 16),
    _f(2, 5, 16),
    None,
    None,
    np.asarray([4, 4], np.int32),
    np.asarray(5, np.int32),
]
_COS2, _SIN2 = (
    np.tile(_COS, (1, 2)),
    np.tile(_SIN, (1, 2)),
)  # heads of 16: onnxruntime rotates no smaller ones
_WIDE = [_f(2, 5, 64), _f(2, 5, 32), _f(2, 5, 32), *_GQA[3:]]
_WIDE_ONE = [
    *(_f(2, 1, 64), _f(2, 1, 32), _f(2, 1, 32), _f(2, 2, 3, 16), _f(2, 2, 3, 16)),
    *(np.asarray([3, 3], np.int32), np.asarray(4, np.int32)),
]
_FEW = {"num_heads": 4, "kv_num_heads": 2}
_KV = ["y", "k", "v"]
_H2 = {"num_heads": 2}

CASES = {
    "skip layer norm": (
        "SkipLayerNormalization",
        [_X, _f(2, 5, 16), _GAMMA, _BETA, _f(16)],
        ["y", "", "", "s"],
        {"epsilon": 1e-5},
    ),
    "skip layer norm, no bias": ("SkipLayerNormalization", [_X, _f(2, 5, 16), _GAMMA, _BETA], ["y"], {}),
    "skip rms norm": (
        "SkipSimplifiedLayerNormalization",
        [_X, _f(2, 5, 16), _GAMMA],
        ["y", "", "", "s"],
        {"epsilon": 1e-5},
    ),
    "embeddings": (
        "EmbedLayerNormalization",
        [_IDS, _IDS % 2, _f(11, 16), _f(9, 16), _f(2, 16), _GAMMA, _BETA, _MASK],
        ["y", "i"],
        {"epsilon": 1e-5},
    ),
    "embeddings without segments": (
        "EmbedLayerNormalization",
        [_IDS, None, _f(11, 16), _f(9, 16), None, _GAMMA, _BETA],
        ["y", "i", "s"],
        {},
    ),
    "bias gelu": ("BiasGelu", [_X, _BETA], ["y"], {}),
    "fast gelu": ("FastGelu", [_X, _BETA], ["y"], {}),
    "fast gelu, no bias": ("FastGelu", [_X], ["y"], {}),
    "quick gelu": ("QuickGelu", [_X], ["y"], {"alpha": 1.5}),
    "gelu": ("Gelu", [_X], ["y"], {}),
    "gemm and relu": (
        "FusedGemm",
        [_f(4, 6), _f(5, 6), _f(5)],
        ["y"],
        {"activation": "Relu", "transB": 1, "alpha": 0.5},
    ),
    "gemm and leaky relu": (
        "FusedGemm",
        [_f(4, 6), _f(6, 5)],
        ["y"],
        {"activation": "LeakyRelu", "activation_alpha": 0.2},
    ),
    "conv and relu": (
        "FusedConv",
        [_f(2, 3, 6, 6), _f(4, 3, 3, 3), _f(4)],
        ["y"],
        {"activation": "Relu", "pads": [1, 1, 1, 1]},
    ),
    "conv, sum and clip": (
        "FusedConv",
        [_f(2, 3, 6, 6), _f(4, 3, 3, 3), _f(4), _f(2, 4, 4, 4)],
        ["y"],
        {"activation": "Clip", "activation_params": [-0.5, 1.0]},
    ),
    "matmul": ("FusedMatMul", [_f(2, 3, 4, 5), _f(2, 3, 6, 5)], ["y"], {"transB": 1, "alpha": 0.25}),
    "matmul, batch moved": ("FusedMatMul", [_f(4, 2, 3, 5), _f(2, 3, 5, 6)], ["y"], {"transBatchA": 1}),
    "matmul, batch moved and swapped": (
        "FusedMatMul",
        [_f(5, 2, 3, 4), _f(2, 3, 5, 6)],
        ["y"],
        {"transBatchA": 1, "transA": 1},
    ),
    "rotation from one position": (
        "RotaryEmbedding",
        [_f(2, 5, 16), np.asarray([2], np.int64), _COS, _SIN],
        ["y"],
        {},
    ),
    "rotation at positions": (
        "RotaryEmbedding",
        [_f(2, 3, 5, 8), (_IDS % 9).astype(np.int64), _COS, _SIN],
        ["y"],
        {"interleaved": 1},
    ),
    "partial rotation": (
        "RotaryEmbedding",
        [_f(2, 5, 32), (_IDS % 9).astype(np.int64), _COS, _SIN],
        ["y"],
        {"num_heads": 2, "rotary_embedding_dim": 8},
    ),
    "attention": ("Attention", [_X, _f(16, 48), _f(48)], ["y"], _H2),
    "attention, causal": ("Attention", [_X, _f(16, 48), _f(48)], ["y"], {**_H2, "unidirectional": 1}),
    "attention, raw mask": ("Attention", [_X, _f(16, 48), _f(48), _MASK], ["y"], _H2),
    "attention, lengths": ("Attention", [_X, _f(16, 48), _f(48), _ENDS], ["y"], _H2),
    "attention, ends and starts": (
        "Attention",
        [_X, _f(16, 48), _f(48), np.asarray([3, 5, 1, 2], np.int32)],
        ["y"],
        _H2,
    ),
    "attention, sizes": (
        "Attention",
        [_X, _f(16, 36), _f(36)],
        ["y"],
        {**_H2, "qkv_hidden_sizes": [12, 12, 12], "scale": 0.3},
    ),
    "attention, past": (
        "Attention",
        [_X, _f(16, 48), _f(48), None, _f(2, 2, 2, 3, 8)],
        ["y", "p"],
        {**_H2, "unidirectional": 1},
    ),
    "attention, added": ("Attention", [_X, _f(16, 48), _f(48), None, None, _f(2, 2, 5, 5)], ["y"], _H2),
    "heads": ("MultiHeadAttention", [_X, _f(2, 7, 16), _f(2, 7, 16)], ["y"], _H2),
    "heads, bias, mask": ("MultiHeadAttention", [_X, _X, _X, _f(48), _MASK], ["y"], _H2),
    "heads, causal": ("MultiHeadAttention", [_X, _X, _X], ["y"], {**_H2, "unidirectional": 1}),
    "heads, added": (
        "MultiHeadAttention",
        [_X, _X, _X, None, None, _f(1, 2, 5, 5)],
        ["y"],
        {**_H2, "scale": 0.2},
    ),
    "heads, past": (
        "MultiHeadAttention",
        [_X, _X, _X, None, None, None, _f(2, 2, 3, 8), _f(2, 2, 3, 8)],
        _KV,
        _H2,
    ),
    "heads, cross": ("MultiHeadAttention", [_X, _f(2, 2, 7, 8), _f(2, 2, 7, 8)], ["y"], _H2),
    "groups": ("GroupQueryAttention", _GQA, _KV, _FEW),
    "groups, rotated": ("GroupQueryAttention", [*_WIDE, _COS2, _SIN2], _KV, {**_FEW, "do_rotary": 1}),
    "groups, window": ("GroupQueryAttention", _GQA, _KV, {**_FEW, "local_window_size": 2}),
    "groups, one token": (
        "GroupQueryAttention",
        [*_WIDE_ONE, _COS2, _SIN2],
        _KV,
        {**_FEW, "do_rotary": 1, "softcap": 3.0},
    ),
    "groups, packed": ("GroupQueryAttention", [_f(2, 5, 64), None, None, None, None, *_GQA[5:]], _KV, _FEW),
    "mean and deviation": ("LayerNormalization", [_X, _GAMMA, _BETA], ["y", "m", "d"], {"epsilon": 1e-5}, ""),
    "rms with factor": ("SimplifiedLayerNormalization", [_X, _GAMMA], ["y", "d"], {"epsilon": 1e-5}, ""),
}


@pytest.mark.parametrize("name", CASES)
def test_against_onnxruntime(name):
    op, inputs, outputs, attributes, *domain = CASES[name]
    model, given = _model(op, inputs, outputs, attributes, *domain)
    given = {n: x for n, x in given.items() if n}
    expected = _onnxruntime(model, given)
    found = run(as_model(model), Float64(), given)
    for n, output in zip(found, expected, strict=True):
        assert found[n].shape == output.shape
        # logits up to about 50 in float32 are off by 3e-6, and so is what their exponentials are worth
        gap = np.max(np.abs(found[n] - output)) / max(np.max(np.abs(found[n])), 1e-30)
        assert gap < 6e-6, (n, gap)


@pytest.mark.parametrize("bias", [(2, 1, 1, 5), (1, 1, 5, 5)])
def test_softmax_of_a_sum(bias):  # onnxruntime has it for GPUs only
    x, b = _f(2, 3, 5, 5), _f(*bias)
    model, given = _model("BiasSoftmax", [x, b], ["y"], {"axis": 3, "is_inner_broadcast": 1})
    e = np.exp(x.astype(np.float64) + b)
    assert np.allclose(run(as_model(model), Float64(), given)["y"], e / e.sum(-1, keepdims=True), rtol=1e-13)


@pytest.mark.parametrize(
    "case",
    [
        ("GroupQueryAttention", _GQA, _KV, {**_FEW, "smooth_softmax": 1}),
        ("RotaryEmbedding", [_f(2, 5, 16), np.asarray([2], np.int64), _COS, _SIN], ["y"], {"scale": 2.0}),
        ("QAttention", [_X], ["y"], _H2),
    ],
)
def test_refused_with_its_name(case):
    model, given = _model(*case)
    with pytest.raises(Unsupported, match=case[0]):
        run(as_model(model), Float64(), {n: x for n, x in given.items() if n})
