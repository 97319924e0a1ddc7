"""What compilers make of every Triton kernel of ours at every size, without a GPU: registers, spills, loads.

    python -m benchmarks.triton_resources [--device sm_90] [--family attention] [--only softmax]

Registers of a thread; what spills, or does not read 16 bytes at a time, is said. 0 where nothing spills.
"""

from __future__ import annotations

import argparse
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import fields, is_dataclass
from typing import Any

from benchmarks.triton_shipped import DEVICES, FAMILIES, Kernel, Rows
from tautomer.errors import TautomerError
from tautomer.runtime.triton.resources import Resources

Job = tuple[Kernel, str]


def compiled(job: Job) -> Resources | str:
    """What becomes of a kernel on a device."""
    kernel, device = job
    try:
        return kernel.made(device)
    except TautomerError as error:
        return str(error)


def label(job: Job) -> str:
    """The kernel, the device, and how it is cut up."""
    kernel, device = job
    chosen = kernel.chosen() if isinstance(kernel, Rows) else kernel.chosen(device)
    return f"{_told(kernel)} on {device}, {_told(chosen)}"


def _told(one: Any) -> str:
    """The fields that say something, without names."""
    values = [(each.name, getattr(one, each.name)) for each in fields(one)]
    return " ".join(
        name if value is True else _told(value) if is_dataclass(value) else str(value)
        for name, value in values
        if value
    )


def main(arguments: list[str] | None = None) -> int:
    """Prints a line for each kernel; 1 where something spills or does not compile."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.triton_resources")
    parser.add_argument("--device", action="append", choices=DEVICES)
    parser.add_argument("--family", action="append", choices=FAMILIES)
    parser.add_argument("--only", action="append", help="part of a kernel's description (repeatable)")
    options = parser.parse_args(arguments)
    jobs: list[Job] = [
        (kernel, device)
        for family in options.family or FAMILIES
        for kernel in FAMILIES[family]()
        for device in options.device or DEVICES
        if kernel.runs_on(device)
    ]
    jobs = [job for job in jobs if all(one in label(job) for one in options.only or ())]
    bad = 0
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for job, found in zip(jobs, pool.map(compiled, jobs), strict=True):
            told = found if isinstance(found, str) else f"{found.registers} registers"
            if isinstance(found, Resources):
                told += f", {found.shared >> 10} KiB shared"
                told += f", {found.spilled} bytes spilled" if found.spilled else ""
                told += "" if found.wide_loads else ", narrow loads"
            bad += isinstance(found, str) or found.spilled > 0
            print(f"{label(job)}: {told}", flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
