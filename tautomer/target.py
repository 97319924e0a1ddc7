"""Where a model is to run, as plain data that every floor may read.

A target says which operators exist there and in which form an operation is fastest. It holds no code: what
to do about it is decided by the passes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from tautomer.errors import InputError

# How an operation may be written:
#   named    the ONNX operator of that name
#   spelled  a fixed sequence of primitive operators that the runtime fuses by itself
#   function an operator of the domain `tautomer` with its function body in the file
#   keep     as it is
Form = Literal["named", "spelled", "function", "keep"]


OF_THE_RUNTIME = "Attention"
"""Stands beside score functions for softmax attention that the runtime has as one operator."""


@dataclass(frozen=True)
class Target:
    """A runtime.

    Attributes:
        name: how the user asks for it.
        forms: operation -> its forms, best first; the first that the model's opset and types allow is taken.
        kernel_types: operation -> element types with a kernel, by ONNX name; absent means all float types.
        costs: nanoseconds per element of what rewrites weigh against each other, one thread, in cache; where
            they are not known, norms keep their form unless the user asks.
        fuses_joins: whether the runtime fuses a residual sum and the norm behind it into a slower kernel.
        gains: operation -> how many times faster a kernel of ours is than what the runtime does instead, as
            pairs of elements and ratio, by elements. Operations that are here may be written as ours.
        slow_tanh: whether a sigmoid is faster than a tanh.
        fuses_rowwise: whether kernels of ours run what pointwise operations and row reductions make together.
        sparse_from: elements of a matrix from which on it gains to skip the rows whose factor is zero; None
            where no kernel does.
        chunked_from: elements of a product from which on it gains to make it in chunks of rows, where little
            is kept of it; None where it does not.
        attention: score function, or `OF_THE_RUNTIME` -> how many times faster a kernel of ours is, as pairs
            of keys and ratio.
    """

    name: str
    forms: Mapping[str, tuple[Form, ...]] = field(default_factory=dict)
    kernel_types: Mapping[str, frozenset[str]] = field(default_factory=dict)
    default: tuple[Form, ...] = ("keep",)
    costs: Mapping[str, float] = field(default_factory=dict)
    fuses_joins: bool = False
    gains: Mapping[str, tuple[tuple[int, float], ...]] = field(default_factory=dict)
    slow_tanh: bool = False
    fuses_rowwise: bool = False
    sparse_from: int | None = None
    chunked_from: int | None = None
    attention: Mapping[str, tuple[tuple[int, float], ...]] = field(default_factory=dict)

    def forms_of(self, op: str) -> tuple[Form, ...]:
        """The forms an operation may take here, best first."""
        forms = self.forms.get(op, self.default)
        return ("function", *forms) if op in self.gains and "function" not in forms else forms

    def gain(self, op: str, elements: int) -> float | None:
        """How many times faster a kernel of ours is, measured at the nearest size; None where it was not."""
        return _nearest(self.gains.get(op), elements)

    def attention_gain(self, score: str, keys: int) -> float | None:
        """The same of attention with a score function over so many keys."""
        return _nearest(self.attention.get(score), keys)

    def has_kernel(self, op: str, element_type: str) -> bool:
        """Whether the operator of that name runs as one kernel for this element type."""
        return element_type in self.kernel_types.get(op, _FLOATS)


def _nearest(measured: tuple[tuple[int, float], ...] | None, size: int) -> float | None:
    if not measured:
        return None
    return min(measured, key=lambda pair: abs(math.log(pair[0] / max(size, 1))))[1]


_FLOATS = frozenset({"FLOAT", "DOUBLE", "FLOAT16", "BFLOAT16"})
_SINGLE = frozenset({"FLOAT"})
_WIDE = frozenset({"FLOAT", "DOUBLE"})
_NAMED: tuple[Form, ...] = ("named", "keep")

# Polynomials without powers, which is what their definitions say.
_BY_HORNER: dict[str, tuple[Form, ...]] = dict.fromkeys(("Rational", "PolyRelu"), ("spelled", "keep"))

# Kernels read from the registry of onnxruntime 1.31.1's CPU provider; times from benchmarks/results. Mish,
# HardSwish and Swish have none: the runtime expands them, so their spelled form is what it runs anyway.
ONNXRUNTIME = Target(
    name="onnxruntime",
    forms={
        "LayerNormalization": ("named", "spelled", "keep"),
        "RMSNormalization": ("named", "spelled", "keep"),
        "Gelu": ("named", "spelled", "keep"),
        "Softmax": _NAMED,
        "LogSoftmax": _NAMED,
        "ReduceLogSumExp": _NAMED,
        "Sigmoid": _NAMED,
        "Tanh": _NAMED,
        "Relu": _NAMED,
        "LeakyRelu": _NAMED,
        "Elu": _NAMED,
        "Selu": _NAMED,
        "Celu": _NAMED,
        "Softplus": _NAMED,
        "Softsign": _NAMED,
        "HardSigmoid": _NAMED,
        "ThresholdedRelu": _NAMED,
        "Swish": ("spelled", "keep"),
        "Mish": ("spelled", "keep"),
        "HardSwish": ("spelled", "keep"),
        "SquaredRelu": ("spelled", "keep"),
        **_BY_HORNER,
    },
    kernel_types={
        "LayerNormalization": frozenset({"FLOAT", "DOUBLE", "FLOAT16"}),
        "RMSNormalization": frozenset({"FLOAT", "DOUBLE", "FLOAT16"}),
        "Gelu": _SINGLE,
        "Softmax": _WIDE,
        "LogSoftmax": _WIDE,
        "ReduceLogSumExp": _WIDE,
        "Sigmoid": _WIDE,
        "Tanh": _WIDE,
        "Relu": _WIDE,
        **dict.fromkeys(
            ("LeakyRelu", "Elu", "Selu", "Celu", "Softplus", "Softsign", "HardSigmoid", "ThresholdedRelu"),
            _SINGLE,
        ),
    },
    costs={
        "LayerNormalization": 0.61,
        "RMSNormalization": 0.29,
        "Add": 0.19,
        "centring": 0.3,
        "row means": 0.2,
    },
    fuses_joins=True,
    chunked_from=1 << 24,
)

# Generated kernels against what onnxruntime runs instead, on one thread in float32: the ratios that
# `python -m benchmarks.gains` found at these numbers of elements.
_ELEMENTS = (768, 4096, 1 << 16, 786432, 1 << 24)
_RATIOS = {
    "LayerNormalization": (1.03, 1.18, 1.77, 1.93, 1.98),
    "RMSNormalization": (1.05, 1.1, 1.32, 1.49, 1.97),
    "AddLayerNormalization": (1.15, 1.58, 1.91, 2.13, 2.31),
    "AddRMSNormalization": (1.21, 1.29, 1.9, 2.26, 2.29),
    "AddLayerNormalizationWithSum": (1.07, 1.32, 1.71, 1.42, 1.94),
    "AddRMSNormalizationWithSum": (1.05, 1.14, 1.61, 1.54, 1.83),
    "Softmax": (0.92, 1.12, 1.31, 1.27, 1.55),
    "SafeSoftmax": (1.67, 2.15, 3.31, 4.22, 5.15),
    "Gelu": (0.98, 1.05, 1.28, 1.47, 1.57),
    "Swish": (0.9, 0.92, 0.89, 1.04, 1.0),
    "Mish": (3.54, 9.41, 18.63, 20.37, 19.82),
    "HardSwish": (1.25, 1.49, 2.25, 2.72, 2.44),
    "SquaredRelu": (1.21, 1.37, 1.99, 2.38, 2.16),
    "SwiGLU": (1.12, 1.15, 1.22, 1.47, 1.81),
    "GeGLU": (1.22, 1.35, 1.47, 1.69, 2.14),
    "ReGLU": (1.14, 1.26, 1.48, 2.01, 2.01),
}
_GAINS = {op: tuple(zip(_ELEMENTS, ratios, strict=True)) for op, ratios in _RATIOS.items()}
# The same of attention with 12 heads of 64, by the number of keys: `python -m benchmarks.attention_models`.
_KEYS = (16, 64, 128, 512, 2048)
_ATTENTION = {
    "softmax": (0.82, 0.88, 0.93, 1.05, 1.18),
    "softmax1": (1.18, 1.1, 1.14, 1.41, 1.48),
    "sigmoid": (0.8, 0.92, 1.1, 1.25, 1.39),
    "relu": (0.75, 0.87, 1.02, 1.11, 1.43),
    "relu2": (0.81, 0.93, 0.98, 1.25, 1.37),
    "softplus": (1.77, 2.75, 2.92, 3.09, 3.15),
    "softplus_reweighted": (1.32, 1.79, 1.83, 2.08, 1.98),
}
# The same of gates of mixtures of experts, the least of what `python -m benchmarks.expert_gates` found.
_GAINS["ExpertGate"] = ((8, 1.11), (512, 1.67), (1 << 14, 1.34), (1 << 18, 3.16), (1 << 20, 2.32))
# onnxruntime with the kernels that `tautomer.session` registers. Without them the function bodies run.
KERNELS = replace(
    ONNXRUNTIME,
    name="kernels",
    costs={**ONNXRUNTIME.costs, "LayerNormalization": 0.26, "RMSNormalization": 0.2},
    gains=_GAINS,
    fuses_rowwise=True,
    attention={score: tuple(zip(_KEYS, ratios, strict=True)) for score, ratios in _ATTENTION.items()},
    sparse_from=1 << 16,
)

# The same against what inductor makes of it: `python -m benchmarks.attention_compiled`. Torch's own attention
# is one operator, which inductor calls.
_TORCH_KEYS = (64, 128, 256, 1024)
_TORCH_RATIOS = {
    "softmax": (0.99, 1.07, 1.16, 1.18),
    "softmax1": (1.04, 1.13, 1.32, 2.35),
    "sigmoid": (0.96, 1.14, 1.34, 1.44),
    "relu": (0.9, 0.94, 1.4, 2.34),
    "relu2": (0.87, 1.01, 1.26, 2.34),
    "softplus": (1.02, 1.13, 1.37, 1.76),
    "softplus_reweighted": (0.82, 1.07, 1.35, 2.0),
    OF_THE_RUNTIME: (0.82, 1.0, 0.99, 1.14),
}
_TORCH_ATTENTION = {
    score: tuple(zip(_TORCH_KEYS, ratios, strict=True)) for score, ratios in _TORCH_RATIOS.items()
}
# What torch has no one operator for.
_TORCH_FORMS: dict[str, tuple[Form, ...]] = {
    **dict.fromkeys(("ThresholdedRelu", "InstanceNormalization"), ("keep",)),
    **_BY_HORNER,
}
# Torch as it runs by itself, operator by operator: its rms_norm is made of several, its layer_norm is one.
# Norms: 4096 rows of 768 in float32, torch 2.13, one thread of an AVX-512 EPYC; the rest are estimates from
# passes over memory there.
EAGER = Target(
    name="torch",
    forms=_TORCH_FORMS,
    default=("named", "keep"),
    costs={
        "LayerNormalization": 0.33,
        "RMSNormalization": 1.0,
        "Add": 0.2,
        "centring": 0.4,
        "row means": 0.3,
    },
    attention=_TORCH_ATTENTION,
)
# Torch's compiler. It joins pointwise neighbours, so that a bias behind a norm costs nothing; it calls a slow
# tanh, and is fast at exp.
INDUCTOR = Target(
    name="inductor",
    forms=_TORCH_FORMS,
    default=("named", "keep"),
    costs={
        "LayerNormalization": 0.52,
        "RMSNormalization": 0.35,
        "Add": 0.0,
        "centring": 0.2,
        "row means": 0.2,
    },
    slow_tanh=True,
    attention=_TORCH_ATTENTION,
)
# What gates of mixtures of experts gain under torch.compile, by target: `python -m benchmarks.expert_gates`.
# A module that is kept as a program does without them: whoever runs it may not have the operator.
TORCH_GATES: dict[str, dict[str, tuple[tuple[int, float], ...]]] = {
    EAGER.name: {"ExpertGate": ((8, 1.11), (512, 1.3), (4096, 1.37), (1 << 15, 4.39), (1 << 20, 5.2))},
    INDUCTOR.name: {"ExpertGate": ((8, 1.05), (512, 1.11), (4096, 1.49), (1 << 15, 3.7), (1 << 20, 4.35))},
}
# A Hopper GPU with torch's compiler, by the rows of `benchmarks.gpu` that were measured, the least of a size:
# bfloat16, heads of 64 and 128. Other score functions that are written out were not measured, and stay. With
# few keys, whoever knows the number of queries, too, refuses.
HOPPER = Target(
    name="a GPU",
    attention={"sigmoid": ((2048, 2.95),), OF_THE_RUNTIME: ((4096, 1.37), (16384, 1.25))},
)

# Any runtime that reads ONNX: the standard's operator where the opset has it, else ours with its body.
PORTABLE = Target(name="onnx", forms={"Rational": ("spelled", "keep")}, default=("named", "function", "keep"))

_TARGETS = {"native": ONNXRUNTIME, "onnxruntime": ONNXRUNTIME, "kernels": KERNELS, "onnx": PORTABLE}
_TORCH_TARGETS = {"native": EAGER, "torch": EAGER, "inductor": INDUCTOR}


def target_of(name: str | Target) -> Target:
    """The target of that name.

    Raises:
        InputError: there is none.
    """
    if isinstance(name, Target):
        return name
    if name not in _TARGETS:
        raise InputError(f"unknown target '{name}'", remedy=f"choose one of {', '.join(_TARGETS)}")
    return _TARGETS[name]


def torch_target_of(name: str | Target) -> Target:
    """The target of a torch module of that name; "native" is torch itself.

    Raises:
        InputError: there is none.
    """
    if isinstance(name, Target):
        return name
    if name not in _TORCH_TARGETS:
        known = ", ".join(_TORCH_TARGETS)
        raise InputError(f"unknown target '{name}' of a torch module", remedy=f"choose one of {known}")
    return _TORCH_TARGETS[name]
