"""Running a program on tensors of a GPU by its Triton kernel.

    y, total = run(program, [x, residual, scale, bias], [1e-5])

Under a compiler of torch the launch is recorded in the graph, so that it compiles it in place.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from tautomer.codegen.trace import Program
from tautomer.codegen.triton.configuration import (
    Configuration,
    configuration,
    for_few_rows,
    on_amd,
    programs_at_once,
)
from tautomer.codegen.triton.exchange import steps
from tautomer.codegen.triton.kernel import EXCHANGING, TritonKernel, triton_kernel
from tautomer.errors import InputError
from tautomer.patterns.operation import WHOLE_PARAMETERS
from tautomer.patterns.rowwise.places import places
from tautomer.runtime.triton.device import device_here
from tautomer.runtime.triton.grid import Launch, launch
from tautomer.runtime.triton.tuned import key_of, recalled

if TYPE_CHECKING:
    import torch

# programs of the grid that share the rows where results are added up over them, if the device is not here
_PROGRAMS = 512


def run(
    program: Program,
    tensors: Sequence[torch.Tensor],
    numbers: Sequence[float],
    *,
    chosen: Configuration | None = None,
    traced: bool = False,
) -> tuple[torch.Tensor, ...]:
    """Computes the results of a program.

    Args:
        program: what to compute.
        tensors: x and the operands, which broadcast to it, on one device, of float32, float16 or bfloat16;
            those that are not contiguous are copied.
        numbers: the parameters.
        chosen: how to launch it; by default as was measured on the device, or as `configuration` says.
        traced: whether the launch is to be recorded in a graph.

    Returns:
        The results in x's shape and type, without the last axis where they are one number per row; those that
        are added up over the rows in the shape of a row and in float32.

    Raises:
        InputError: rows that are too long for a kernel.
    """
    import torch

    x = tensors[0]
    columns = x.shape[-1] if program.rows else 1
    whole = [
        torch.empty(x.shape[:-1] if name in program.per_row else x.shape, dtype=x.dtype, device=x.device)
        for name in program.names
        if name not in program.totals
    ]
    count = x.numel()
    if isinstance(count, int) and count == 0:
        totals = [torch.zeros(columns, dtype=torch.float32, device=x.device) for _ in program.totals]
        return (*whole, *totals)
    rows = count // columns
    found = chosen or chosen_for(program, x)
    if found is None:
        raise InputError(f"no kernel for rows of {columns} elements", where="Triton kernel")
    found = on_amd(found) if torch.version.hip else found
    kernel = triton_kernel(program, found.form)
    programs, scratch = _shared(program, found, rows, columns, x)
    given = [tensor.contiguous() for tensor in tensors]
    shapes = [tuple(one.shape) for one in tensors[1:]]
    where = places(program.kinds, shapes, tuple(x.shape), 1) if program.places else ()
    arguments = (*given, *whole, *scratch, *_numbers(kernel, (*numbers, *where), rows, columns))
    how = Launch(kernel.name, kernel.text, programs, kernel.tile(found), found.warps)
    launch(how, arguments, x.device, traced=traced)
    return (*whole, *(one.sum(0) for one in scratch[: len(program.totals)]))


def chosen_for(program: Program, x: torch.Tensor) -> Configuration | None:
    """How a kernel is launched on tensors like x that hold something; None where there is none for them."""
    import torch

    columns = int(x.shape[-1]) if program.rows else 1
    index, rows = _index(x), x.numel() // columns
    found = _configuration(program, columns, x.element_size(), index)
    if found is None or index is None or not isinstance(rows, int) or torch.version.hip:
        return found
    return for_few_rows(found, columns, rows, device_here(index).multiprocessors)


def _shared(
    program: Program, found: Configuration, rows: Any, columns: Any, x: torch.Tensor
) -> tuple[Any, list[torch.Tensor]]:
    """How many programs the grid has, and the tensors by which they share their work.

    Those that take turns at the rows to add something up write a row of sums each, and zeros where there are
    no rows left for them; those that share a row exchange what they reduced.
    """
    import torch

    device = x.device
    tiles = -(-rows // (found.rows or found.block))  # of a pointwise kernel, of elements
    if program.totals:
        most = _PROGRAMS
        if device.type == "cuda" and torch.cuda.is_available():
            processors = device_here(device.index or 0).multiprocessors
            most = processors * programs_at_once(program, found, x.element_size())
        programs = min(most, tiles) if isinstance(tiles, int) else most
        sums = [torch.empty((programs, columns), dtype=torch.float32, device=device) for _ in program.totals]
        return programs, sums
    if found.form in EXCHANGING:
        exchanged = steps(program)
        slots = sum(map(len, exchanged))
        partial = torch.empty(slots * rows * found.parts, dtype=torch.float32, device=device)
        return rows * found.parts, [
            partial,
            torch.zeros(len(exchanged) * rows, dtype=torch.int32, device=device),
        ]
    return tiles, []


@cache
def _configuration(program: Program, columns: int, itemsize: int, index: int | None) -> Configuration | None:
    """What was measured on the device, or what is usual."""
    usual = configuration(program, columns, itemsize)
    if index is None or usual is None:
        return usual
    return recalled(device_here(index)).get(key_of(program, columns, itemsize), usual)


def _index(x: torch.Tensor) -> int | None:
    """The number of the device that a tensor lies on; None where it is not here."""
    import torch

    return (x.device.index or 0) if x.device.type == "cuda" and torch.cuda.is_available() else None


def forget() -> None:
    """Looks for what was measured again; configurations are kept from the first launch on."""
    _configuration.cache_clear()


def _numbers(kernel: TritonKernel, numbers: Sequence[float], rows: Any, columns: Any) -> list[Any]:
    sizes = {"elements": rows, "rows": rows, "columns": columns}
    program = kernel.program
    by_name = dict(zip((*program.parameters, *program.places), numbers, strict=True))
    whole = {name: int(by_name[name]) for name in (*WHOLE_PARAMETERS, *program.places) if name in by_name}
    known: dict[str, Any] = {**by_name, **sizes, **whole}
    return [known[name] for name in kernel.numbers]
