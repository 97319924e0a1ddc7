"""The operators that torch gets: a definition each, forward and backward, and the schema that follows.

    rms_norm_v1(Tensor x, Tensor? scale, float epsilon) -> Tensor
    rms_norm_kernel_v1(Tensor x, Tensor? scale, float epsilon) -> Tensor
    rms_norm_backward_v1(Tensor x, Tensor gradient, Tensor? scale, float epsilon) -> (Tensor, Tensor)

The first is differentiable; it calls the others, and a graph whose gradients are worked out holds only them.

torch keeps compiled graphs under a key that holds the name of an operator and not what it computes, so a
version is part of the name. It goes up when a formula, a signature or the meaning of an output changes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

from tautomer.codegen.gradient import Gradient, gradient
from tautomer.codegen.trace import Program, trace
from tautomer.errors import InternalError
from tautomer.patterns.operation import Definition, definitions

NAMESPACE = "tautomer"


@dataclass(frozen=True)
class TorchOperator:
    """An operator.

    Attributes:
        name: its name without the version.
        key: the key of its definition.
        version: see above.
    """

    name: str
    key: str
    version: int = 1

    def named(self, part: str = "") -> str:
        """The name that torch knows: of the operator itself, or of its "kernel" or "backward"."""
        return "_".join(filter(None, (self.name, part, f"v{self.version}")))

    @property
    def definition(self) -> Definition:
        """What it computes."""
        return next(one for one in definitions() if one.key == self.key)


OPERATORS = (
    TorchOperator("layer_norm", "LayerNormalization"),
    TorchOperator("rms_norm", "RMSNormalization"),
    TorchOperator("crms_norm", "CRMSNormalization"),
    TorchOperator("add_layer_norm", "AddLayerNormalizationWithSum"),
    TorchOperator("add_rms_norm", "AddRMSNormalizationWithSum"),
    TorchOperator("softmax", "Softmax"),
    TorchOperator("log_softmax", "LogSoftmax"),
    TorchOperator("gelu", "Gelu[approximate=none]"),
    TorchOperator("gelu_tanh", "Gelu[approximate=tanh]"),
    TorchOperator("silu", "Swish"),
    TorchOperator("squared_relu", "SquaredRelu"),
    TorchOperator("swiglu", "SwiGLU"),
    TorchOperator("geglu", "GeGLU[approximate=none]"),
    TorchOperator("geglu_tanh", "GeGLU[approximate=tanh]"),
    TorchOperator("reglu", "ReGLU"),
)


@dataclass(frozen=True)
class Signature:
    """One of the two operators: what it is called with, and what it computes.

    Attributes:
        name: with the version, without the namespace.
        program: the inputs are x and its operands, in this order, and the parameters.
        outputs: what the outputs are: "y" and "sum", or of which inputs they are the gradients; those of the
            shape of a row are totals.
    """

    name: str
    program: Program
    outputs: tuple[str, ...]

    @property
    def schema(self) -> str:
        """In torch's language. Operands of the shape of a row may be None: then a scale is 1, a bias 0."""
        inputs = ["Tensor x"]
        inputs += [
            f"Tensor{'?' if kind == 'row' else ''} {name}"
            for name, kind in zip(self.program.operands, self.program.kinds, strict=True)
        ]
        inputs += [f"float {name}" for name in self.program.parameters]
        outputs = ", ".join(["Tensor"] * len(self.outputs))
        many = f"({outputs})" if len(self.outputs) > 1 else outputs
        return f"{self.name}({', '.join(inputs)}) -> {many}"


@cache
def operator_of(name: str) -> TorchOperator:
    """The operator of that name, without a version.

    Raises:
        InternalError: there is none.
    """
    for one in OPERATORS:
        if one.name == name:
            return one
    raise InternalError(f"no operator {name}", where="torch operators")


@cache
def forward(operator: TorchOperator) -> Signature:
    """The operator itself. What adds a residual also gives the sum, as its second output."""
    program = trace(operator.definition)
    return Signature(operator.named(), program, program.names)


@cache
def kernel(operator: TorchOperator) -> Signature:
    """The same, without a gradient."""
    return replace(forward(operator), name=operator.named("kernel"))


@cache
def gradient_of(operator: TorchOperator) -> Gradient:
    """Its gradient."""
    return gradient(forward(operator).program)


@cache
def backward(operator: TorchOperator) -> Signature:
    """The operator that computes its gradient."""
    found = gradient_of(operator)
    return Signature(operator.named("backward"), found.program, found.of)


def signatures() -> tuple[Signature, ...]:
    """All that have kernels, in the order in which a library has them."""
    return tuple(one(operator) for operator in OPERATORS for one in (kernel, backward))
