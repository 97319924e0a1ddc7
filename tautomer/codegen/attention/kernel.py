"""The kernel of attention: C++ text for one form and instruction set, and how to call it.

    extern "C" void SYMBOL(const void* const* inputs, void* const* outputs, const double* parameters,
                           int64_t first, int64_t last, int64_t unused);

does the units [first, last) of batch * kv_heads * blocks * splits, where blocks is rows * (heads / kv_heads)
/ block, rounded up. Different units may run on different threads, each with scratch memory of its own.

    inputs      q, k, v, and as the form has them mask, lengths (int64), slopes and sink (float32)
    outputs     y; what the gradient of an exponential needs, float32 [batch, heads, rows, 2], or null;
                scratch, as many bytes as SYMBOL_scratch, called the same way, puts into outputs[0] as int64;
                where splits > 1, float32 [units, block, width + 2], the width rounded up to whole vectors
    parameters  see attention_numbers: numbers, sizes, and the steps of each tensor in elements, for batch,
                head, query or key, and channel

Where there is a gradient, SYMBOL_backward does the batch * kv_heads units of it, with a block of all rows:

    inputs      the same, then y, its gradient, and what the forward kernel put into outputs[1]
    outputs     the gradients of q, k and v; scratch of the size that SYMBOL_backward_scratch says

y and all gradients are contiguous, with axes in order. Where the keys are split, SYMBOL_joined, called the
same way, does the units / splits blocks afterwards. Splits are for what sweeps once.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

from tautomer.codegen.attention.backward import backward_text, has_backward
from tautomer.codegen.attention.call import CALL, constants
from tautomer.codegen.attention.direct import DIRECT
from tautomer.codegen.attention.pack import pack_text
from tautomer.codegen.attention.pairs import pairs_text
from tautomer.codegen.attention.rows import rows_text
from tautomer.codegen.attention.scores import mask_types, scores_text
from tautomer.codegen.attention.sweep import sweep_text
from tautomer.codegen.attention.tile import tile_text
from tautomer.codegen.attention.units import UNITS
from tautomer.codegen.attention.weights import weights_text
from tautomer.codegen.frame import unit
from tautomer.codegen.isa import Isa
from tautomer.codegen.kernel import FLAGS
from tautomer.codegen.storage import storage
from tautomer.codegen.vector_type import reductions, vector_type
from tautomer.patterns.attention.form import AttentionForm


@dataclass(frozen=True)
class AttentionKernel:
    """A kernel as text.

    Attributes:
        form: what it computes; its head dimensions are any.
        symbol: the name of its function: a hash of the text.
        text: one complete C++17 translation unit; several can be one after the other in one.
        flags: what the compiler needs to be told.
    """

    form: AttentionForm
    symbol: str
    text: str
    flags: tuple[str, ...]


def attention_kernel(form: AttentionForm, isa: Isa, *, gradient: bool = False) -> AttentionKernel:
    """Writes the kernel of a form; head dimensions are numbers of a call, and make no other kernel.

    Args:
        form: what it computes.
        isa: the instruction set.
        gradient: with the functions of the gradient, where the form has one.
    """
    form = replace(form, head=0, value_head=0)
    pairs = isa.pairs and form.dtype == "bfloat16"
    parts = (
        vector_type(isa),
        reductions({"Sum", "Max"}, isa),
        storage(form.dtype, isa),
        constants(form),
        weights_text(form, isa),
        CALL,
        tile_text(isa),
        pack_text(isa),
        *((pairs_text(isa),) if pairs else ()),
        DIRECT,
        mask_types(form),
        scores_text(form, isa),
        rows_text(pairs),
        sweep_text(form, pairs),
        UNITS,
        *((backward_text(form),) if gradient and has_backward(form) else ()),
    )
    body = "\n".join(parts)
    flags = (*FLAGS, *isa.flags)
    digest = hashlib.sha256("\0".join((isa.name, *flags, body)).encode()).hexdigest()[:32]
    text = unit(isa, digest, body) + "#undef NOINLINE\n#undef ENTRY\n#undef SHUFFLES\n"
    return AttentionKernel(form, f"tautomer_{digest}", text, flags)
