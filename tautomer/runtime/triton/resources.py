"""What the compiler makes of a kernel for a device that need not be here: registers, spills, loads.

Triton compiles for every device it knows; for NVIDIA's, `ptxas` says what the code takes, and for AMD's the
code itself does.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tautomer.codegen.triton.kernel import EXCHANGING, TritonKernel
from tautomer.errors import CheckFailedError
from tautomer.patterns.operation import WHOLE_PARAMETERS
from tautomer.runtime.triton.modules import load_function

_TYPES = {"float32": "*fp32", "float16": "*fp16", "bfloat16": "*bf16"}
_TARGETS = {"sm_80": ("cuda", 80, 32), "sm_90": ("cuda", 90, 32), "gfx942": ("hip", "gfx942", 64)}
DEVICES = tuple(_TARGETS)


@dataclass(frozen=True)
class Resources:
    """What the code of a kernel takes.

    Attributes:
        registers: of a thread; of AMD's, vector registers.
        spilled: bytes that a thread keeps in memory for lack of registers.
        shared: bytes of shared memory of a program of the grid.
        wide_loads: whether the tensors are read 16 bytes at a time.
    """

    registers: int
    spilled: int
    shared: int
    wide_loads: bool


def resources(
    kernel: TritonKernel, dtype: str, constants: Mapping[str, int], warps: int, device: str
) -> Resources:
    """Compiles a kernel for aligned tensors whose rows are a multiple of 16 elements long.

    Args:
        kernel: the kernel.
        dtype: of all tensors but those that are added up over the rows.
        constants: the sizes of a tile.
        warps: of a program of the grid.
        device: one of DEVICES.

    Raises:
        MissingToolError: there is no triton.
        CheckFailedError: it does not compile.
    """
    signature = {f"{name}_ptr": _TYPES[dtype] for name in ("x", *kernel.program.operands)}
    for name in kernel.program.names:
        signature[f"{name}_ptr"] = _TYPES["float32" if name in kernel.program.totals else dtype]
    if kernel.form in EXCHANGING:
        signature |= {"partial_ptr": "*fp32", "counter_ptr": "*i32"}
    parameters = set(kernel.program.parameters) - set(WHOLE_PARAMETERS)
    signature |= {name: "fp32" if name in parameters else "i32" for name in kernel.numbers}
    return compiled(load_function(kernel.name, kernel.text), signature, constants, warps, device)


def compiled(
    function: Any,
    signature: Mapping[str, str],
    constants: Mapping[str, int],
    warps: int,
    device: str,
    stages: int = 2,
) -> Resources:
    """As `resources`, of any function.

    Args:
        function: of `triton.jit`.
        signature: argument -> its type, as Triton writes it, without the constants.
        constants: the arguments that are constants.
        warps: of a program of the grid.
        device: one of DEVICES.
        stages: of pipelined loops.
    """
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource
    from triton.compiler import compile as compile_for

    backend, architecture, warp = _TARGETS[device]
    source = ASTSource(
        fn=function,
        signature={**signature, **dict.fromkeys(constants, "constexpr")},
        constexprs=dict(constants),
        attrs={
            (function.arg_names.index(name),): [["tt.divisibility", 16]]
            for name, kind in signature.items()
            if kind != "fp32" and not kind.startswith("tensordesc")
        },
    )
    options = {"num_warps": warps, "num_stages": stages, "enable_fp_fusion": True}
    try:
        found = compile_for(source, target=GPUTarget(backend, architecture, warp), options=options)
    except Exception as error:
        raise CheckFailedError(f"it does not compile: {error}", where=f"{device}: {constants}") from error
    if backend == "hip":
        return _of_amd(found.asm["amdgcn"], found.metadata.shared)
    return _of_ptx(found.asm["ptx"], found.metadata.shared)


def _of_ptx(ptx: str, shared: int) -> Resources:
    """Assembles a text to see what it takes."""
    from triton.backends.nvidia.compiler import get_ptxas

    architecture = re.search(r"\.target (\w+)", ptx)
    assert architecture is not None
    number = int(re.sub(r"\D", "", architecture[1]))
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "kernel.ptx"
        place.write_text(ptx)
        try:
            tool = get_ptxas(number)
        except TypeError:  # before triton 3.7 there was one for all
            tool = get_ptxas()
        command = [getattr(tool, "path", tool), "-v", f"--gpu-name={architecture[1]}", str(place)]
        done = subprocess.run([*command, "-o", "/dev/null"], capture_output=True, text=True)
    said = done.stdout + done.stderr
    registers = re.search(r"Used (\d+) registers", said)
    if done.returncode or registers is None:
        raise CheckFailedError(f"ptxas says: {said[:300]}", where="Triton kernel")
    spilled = sum(int(size) for size in re.findall(r"(\d+) bytes spill", said))
    wide = re.search(r"ld\.global[\w.:]*\.v[48]|cp\.async\.c[ag]\..*\], (0x10|16)", ptx) is not None
    return Resources(int(registers[1]), spilled, shared, wide)


def _of_amd(text: str, shared: int) -> Resources:
    def number(name: str) -> int:
        found = re.search(rf"\.{name}:\s+(\d+)", text)
        return int(found[1]) if found else 0

    wide = re.search(r"(global|buffer)_load_dwordx4|load_b128", text) is not None
    return Resources(number("vgpr_count"), 4 * number("vgpr_spill_count"), shared, wide)
