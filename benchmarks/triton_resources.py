"""What compilers make of every Triton kernel of ours at every size, without a GPU: registers, spills, loads.

    python -m benchmarks.triton_resources [--device sm_90] [--only softmax]

Registers of a thread; what spills, or does not read 16 bytes at a time, is said. 0 where nothing spills.
"""

from __future__ import annotations

import argparse
import os
import sys
from concurrent.futures import ProcessPoolExecutor

from tautomer.codegen.torch_operators import OPERATORS, backward, forward, operator_of
from tautomer.codegen.triton_configuration import Configuration, configuration, on_amd
from tautomer.codegen.triton_kernel import triton_kernel
from tautomer.errors import TautomerError
from tautomer.runtime.triton.resources import DEVICES, Resources, resources

COLUMNS = (64, 768, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 1 << 17)
Job = tuple[str, str, str, str, int]


def compiled(job: Job) -> tuple[Configuration | None, Resources | str]:
    """The configuration for a size, and what becomes of it."""
    name, part, dtype, device, columns = job
    program = (forward if part == "forward" else backward)(operator_of(name)).program
    chosen = configuration(program, columns, 4 if dtype == "float32" else 2)
    if chosen is None:
        return None, "no kernel"
    chosen = on_amd(chosen) if device.startswith("gfx") else chosen
    kernel = triton_kernel(program, chosen.form)
    try:
        return chosen, resources(kernel, dtype, kernel.tile(chosen), chosen.warps, device)
    except TautomerError as error:
        return chosen, str(error)


def main() -> int:
    """Prints a line for each kernel; 1 where something spills or does not compile."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.triton_resources")
    parser.add_argument("--device", action="append", choices=DEVICES)
    parser.add_argument("--only", action="append", help="an operator (repeatable)")
    options = parser.parse_args()
    jobs: list[Job] = []
    for one in OPERATORS:
        sizes = COLUMNS if forward(one).program.rows else (1,)
        for part in ("forward", "backward") if one.name in (options.only or [one.name]) else ():
            for device in options.device or DEVICES:
                for dtype in ("bfloat16", "float32"):
                    jobs += [(one.name, part, dtype, device, columns) for columns in sizes]
    bad = 0
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for job, (chosen, found) in zip(jobs, pool.map(compiled, jobs), strict=True):
            told = found if isinstance(found, str) else f"{found.registers} registers"
            tile = "" if chosen is None else f"{chosen.rows}x{chosen.block}/{chosen.warps}"
            if isinstance(found, Resources):
                told += f", {found.spilled} bytes spilled" if found.spilled else ""
                told += "" if found.wide_loads else ", narrow loads"
            bad += chosen is not None and (isinstance(found, str) or found.spilled > 0)
            print(*job, tile, chosen.form if chosen else "", told, flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
