"""A kernel in Triton: the text of a module that defines one, and how to call it.

    NAME[grid](x, *operands, *results, *parameters, rows, columns, ROWS=..., BLOCK=...)

Pointwise kernels take `elements` instead of rows and columns, and no ROWS. Tensors are stored in any of
float32, float16 and bfloat16, each as it is; the arithmetic is in float32. Results that are added up over the
rows are written as one row of partial sums in float32 for each program of the grid.

The text is the same for all types, sizes and devices: Triton compiles it for those that it is called with.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

from tautomer.codegen.trace import Program
from tautomer.codegen.triton.configuration import Configuration, Form
from tautomer.codegen.triton.loops import looped_rows
from tautomer.codegen.triton.math import helper_text
from tautomer.codegen.triton.parts import parts_of_rows
from tautomer.codegen.triton.pointwise import pointwise
from tautomer.codegen.triton.rows import whole_rows
from tautomer.errors import InputError
from tautomer.patterns.operation import WHOLE_PARAMETERS

_WRITERS: dict[Form, Callable[[Program], tuple[list[str], set[str]]]] = {
    "pointwise": pointwise,
    "rows": whole_rows,
    "loops": looped_rows,
    "parts": parts_of_rows,
    "shared": partial(looped_rows, shared=True),
}
EXCHANGING = ("parts", "shared")
"""The forms in which several programs of the grid share a row."""

_HEAD = """\
import triton
import triton.language as tl
"""


@dataclass(frozen=True)
class TritonKernel:
    """A kernel as text.

    Attributes:
        name: of the function: a hash of the text, so no name of a model gets into it.
        text: the module.
        form: "pointwise"; "rows", a whole row at a time; "loops", block by block; "parts", by several
            programs of the grid; or "shared", block by block by several. The last two need partial results
            and counters behind the results.
        program: what it computes.
        numbers: the names of the scalar arguments between the tensors and the constants, in order.
        constants: the names of the sizes of a tile.
    """

    name: str
    text: str
    form: Form
    program: Program
    numbers: tuple[str, ...]
    constants: tuple[str, ...]

    def tile(self, chosen: Configuration) -> dict[str, int]:
        """The constants of a configuration."""
        values = {"ROWS": chosen.rows, "BLOCK": chosen.block, "PARTS": chosen.parts}
        values |= {"STAGES": chosen.stages, "TOGETHER": chosen.together, "TURNS": chosen.turns}
        return {name: values[name] for name in self.constants}


def triton_kernel(program: Program, form: Form = "rows") -> TritonKernel:
    """Writes the kernel of a program.

    Args:
        program: what to compute; where it has no rows, it is "pointwise", whatever the form.
        form: how rows are done.

    Raises:
        InputError: what is added up over the rows needs whole rows.
    """
    form = form if program.rows else "pointwise"
    if form in ("loops", *EXCHANGING) and program.totals:
        raise InputError("sums over rows of any length are not written", where="Triton kernel")
    return _written(program, form)


@cache
def _written(program: Program, form: Form) -> TritonKernel:
    lines, helpers = _WRITERS[form](program)
    tensors = ("x", *program.operands, *program.names, *(("partial", "counter") * (form in EXCHANGING)))
    sizes = ("elements",) if form == "pointwise" else ("rows", "columns")
    numbers = (*(name for name in program.parameters if name not in WHOLE_PARAMETERS), *sizes)
    numbers += (*(name for name in WHOLE_PARAMETERS if name in program.parameters), *program.places)
    constants: tuple[str, ...] = ("BLOCK",) if form == "pointwise" else ("ROWS", "BLOCK")
    constants += ("PARTS",) if form in EXCHANGING else ()
    constants += tuple(name for name in ("TOGETHER", "TURNS") if name in "".join(lines))
    constants += ("STAGES",) if form in ("loops", "shared") or program.totals else ()
    arguments = [
        *(f"{name}_ptr" for name in tensors),
        *numbers,
        *(f"{one}: tl.constexpr" for one in constants),
    ]
    body = "".join(f"    {line}\n" for line in lines)
    definition = f"@triton.jit\ndef NAME({', '.join(arguments)}):\n{body}"
    text = "\n\n".join(filter(None, (_HEAD, helper_text(helpers), definition)))
    name = f"tautomer_{hashlib.sha256(text.encode()).hexdigest()[:32]}"
    return TritonKernel(name, text.replace("NAME", name), form, program, numbers, constants)
