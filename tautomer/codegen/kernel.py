"""A kernel: the C++ text of one operation for one instruction set and storage type, and how to call it.

    extern "C" void SYMBOL(const void* const* inputs, void* const* outputs, const double* parameters,
                           int64_t first, int64_t last, int64_t columns);

computes the rows [first, last) of `columns` contiguous elements each, or for a pointwise operation the
elements [first, last). inputs[0] is x, the operands follow. The parameters are followed by the period and
count of each operand that has a place among the rows, see `patterns.rowwise_places`. It allocates nothing,
keeps nothing between calls and starts no threads: the caller gives different rows to different threads. x may
be the result.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from tautomer.codegen.algorithms import Loops, algorithm_of
from tautomer.codegen.frame import function, interleaved, unit
from tautomer.codegen.isa import AVX2, AVX512, PORTABLE, Isa
from tautomer.codegen.loops import by_definition
from tautomer.codegen.storage import DTYPES, singles, storage
from tautomer.codegen.trace import Program, trace, unsupported
from tautomer.codegen.vector_type import vector_type
from tautomer.errors import InputError
from tautomer.patterns.operation import Definition

__all__ = ["AVX2", "AVX512", "PORTABLE", "Isa", "Kernel", "kernel_for", "kernel_of", "unsupported"]

# Contraction to fused multiplications and additions is wanted; nothing that drops NaN or reorders sums is.
FLAGS = (
    "-std=c++17",
    "-O2",
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
        kinds: how each operand goes with x, see `patterns.operation.kind_of`.
        rows: whether it works on rows; otherwise it is pointwise.
    """

    symbol: str
    text: str
    flags: tuple[str, ...]
    parameters: tuple[str, ...]
    operands: tuple[str, ...]
    kinds: tuple[str, ...]
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
        return kernel_of(program, dtype=dtype, isa=isa, stream=algorithm == "stream")
    written = algorithm_of(definition.key, algorithm, dtype)
    if written is None:
        raise InputError(f"no algorithm {algorithm} for tensors of {dtype}", where=definition.key)
    return _assembled(program, written(program, isa), dtype, isa)


def kernel_of(
    program: Program, *, dtype: str = "float32", isa: Isa, stream: bool = False, float_rows: bool = False
) -> Kernel:
    """Writes the kernel of a program.

    Its outputs are the results in order. Totals are of the rows of one call, and float32.

    Args:
        program: what to compute.
        dtype: what x, the operands and the results that are no totals are stored as.
        isa: the instruction set.
        stream: whether the result is stored past the caches.
        float_rows: whether operands of the shape of a row are stored as float32, whatever the dtype.
    """
    return _assembled(program, by_definition(program, isa, dtype, stream), dtype, isa, float_rows)


def _assembled(program: Program, loops: Loops, dtype: str, isa: Isa, float_rows: bool = False) -> Kernel:
    """The translation unit around the loops."""
    parts = [vector_type(isa), storage(dtype, isa)]
    if (float_rows or program.totals) and dtype != "float32":
        parts.append(singles(dtype))
    row_type = "float" if float_rows else "S"
    body = "\n".join((*parts, *loops.helpers, function(program, loops, row_type)))
    body = interleaved(body) if loops.long_chains else body
    flags = (*FLAGS, *isa.flags)
    digest = hashlib.sha256("\0".join((isa.name, *flags, body)).encode()).hexdigest()[:32]
    return Kernel(
        f"tautomer_{digest}",
        unit(isa, digest, body),
        flags,
        program.parameters,
        program.operands,
        program.kinds,
        program.rows,
    )
