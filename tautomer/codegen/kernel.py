"""A kernel: the C++ text of one operation for one instruction set and storage type, and how to call it.

    extern "C" void SYMBOL(const void* const* inputs, void* const* outputs, const double* parameters,
                           int64_t first, int64_t last, int64_t columns);

computes the rows [first, last) of `columns` contiguous elements each, or for a pointwise operation the
elements [first, last). inputs[0] is x, the operands follow. It allocates nothing, keeps nothing between calls
and starts no threads: the caller gives different rows to different threads. x may be the result.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from tautomer.codegen.algorithms import algorithm_of
from tautomer.codegen.frame import function, unit
from tautomer.codegen.isa import AVX2, AVX512, PORTABLE, Isa
from tautomer.codegen.loops import by_definition
from tautomer.codegen.storage import DTYPES, storage
from tautomer.codegen.trace import trace, unsupported
from tautomer.codegen.vector_type import vector_type
from tautomer.errors import InputError
from tautomer.patterns.operation import Definition

__all__ = ["AVX2", "AVX512", "PORTABLE", "Isa", "Kernel", "kernel_for", "unsupported"]

# Contraction to fused multiplications and additions is wanted; nothing that drops NaN or reorders sums is.
# Scheduling interleaves the four vectors of a step, whose chains of dependent operations are long.
_FLAGS = (
    "-std=c++17",
    "-O2",
    "-fschedule-insns",
    "-ffp-contract=fast",
    "-fno-math-errno",
    "-fno-trapping-math",
)


@dataclass(frozen=True)
class Kernel:
    """A kernel as text.

    Attributes:
        symbol: the name of the function: a hash of the text, so no name of a model gets into it.
        text: one complete C++17 translation unit; several of them can also be one after the other in one.
        flags: what the compiler needs to be told.
        parameters: the names of the scalar parameters, in the order of the C array.
        operands: the names of the tensors after x, in the order of `inputs`.
        rows: whether it works on rows; otherwise it is pointwise.
    """

    symbol: str
    text: str
    flags: tuple[str, ...]
    parameters: tuple[str, ...]
    operands: tuple[str, ...]
    rows: bool


def kernel_for(
    definition: Definition,
    *,
    dtype: str = "float32",
    isa: Isa,
    algorithm: str = "",
    operands: tuple[str, ...] | None = None,
) -> Kernel:
    """Writes the kernel of an operation.

    Args:
        definition: the operation.
        dtype: what all tensors are stored as; the arithmetic is in float32, sums over rows and numbers per
            row are in double precision.
        isa: the instruction set.
        algorithm: "" follows the definition; "stream" does too and stores past the caches; others are in
            `algorithms`.
        operands: which of the operands are there, in order; None for all.

    Raises:
        InputError: there is no such kernel.
    """
    if dtype not in DTYPES:
        raise InputError(f"no kernels for tensors of {dtype}", where=definition.key)
    program = trace(definition, operands)
    if algorithm in ("", "stream"):
        loops = by_definition(program, isa, dtype, stream=algorithm == "stream")
    else:
        written = algorithm_of(definition.key, algorithm, dtype)
        if written is None:
            raise InputError(f"no algorithm {algorithm} for tensors of {dtype}", where=definition.key)
        loops = written(program, isa)
    body = "\n".join((vector_type(isa), storage(dtype, isa), *loops.helpers, function(program, loops)))
    flags = (*_FLAGS, *isa.flags)
    digest = hashlib.sha256("\0".join((isa.name, *flags, body)).encode()).hexdigest()[:32]
    return Kernel(
        f"tautomer_{digest}",
        unit(isa, digest, body),
        flags,
        program.parameters,
        program.operands,
        program.rows,
    )
