"""Measures which kernels are the fastest on this machine, by size; libraries built afterwards use them.

It takes a minute on an idle machine, --quick half of that. Compiled kernels and the result are kept in the
cache folder; the result holds for processors like this one and this version of Tautomer.
"""

from __future__ import annotations

import argparse
import time

from tautomer.cli.options import add_json
from tautomer.cli.output import Console

HELP = "measure which kernels are the fastest here, and use them from now on"
EXAMPLES = ("tune --quick",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the verb's arguments."""
    parser.add_argument(
        "--quick", action="store_true", help="float32 only, smaller tensors, fewer rounds: less certain"
    )
    parser.add_argument(
        "--gpu", action="store_true", help="measure the Triton kernels on the first GPU instead; some minutes"
    )
    add_json(parser)


def run(options: argparse.Namespace, console: Console) -> int:
    """Measures, keeps the result and shows it."""
    if options.gpu:
        return _gpu(options, console)
    from tautomer.errors import ResourceError
    from tautomer.runtime.cache_folder import UnusableFolderError
    from tautomer.runtime.machine import this_machine
    from tautomer.runtime.tuned import keep
    from tautomer.runtime.tuning import tune

    start, machine = time.monotonic(), this_machine()
    tuning, rungs = tune(machine, quick=options.quick, report=console.progress)
    try:
        place = keep(machine, tuning)
    except (OSError, UnusableFolderError) as error:
        raise ResourceError(
            f"what was measured cannot be kept: {error}",
            remedy="name a folder that is writable and has space in TAUTOMER_CACHE",
        ) from error
    if options.json:
        measured = [
            {
                "operation": rung.name.rpartition(" ")[0],
                "type": rung.name.rpartition(" ")[2],
                "algorithm": rung.algorithm,
                "rows": rung.rows,
                "columns": rung.columns,
                "ratio": round(rung.ratio, 3),
            }
            for rung in rungs
        ]
        console.json(
            {
                "machine": machine.name,
                "fingerprint": machine.fingerprint,
                "file": str(place),
                **tuning.as_json(),
                "measured": measured,
                "seconds": round(time.monotonic() - start, 1),
            }
        )
        return 0
    names = [(name, one) for name, variants in tuning.choices for one in variants]
    rows = [(name, one.algorithm, one.least_columns, one.least_bytes) for name, one in names]
    console.table(("operation", "algorithm", "from columns", "from bytes"), rows)
    console.result()
    sizes = [
        (op, elements, f"{ratio:.2f}") for op, pairs in tuning.gains.items() for elements, ratio in pairs
    ]
    console.table(("operator", "elements", "onnxruntime / ours"), sizes)
    console.result()
    console.result(f"kept in {place}; {time.monotonic() - start:.0f} s")
    return 0


def _gpu(options: argparse.Namespace, console: Console) -> int:
    """Measures the Triton kernels, keeps what is faster than the usual configurations and shows it."""
    from dataclasses import asdict

    from tautomer.errors import ResourceError
    from tautomer.runtime.cache_folder import UnusableFolderError
    from tautomer.runtime.triton import launch, tuned
    from tautomer.runtime.triton.device import first_device
    from tautomer.runtime.triton.tuning import COLUMNS, tune

    device = first_device()
    columns = COLUMNS[::2] if options.quick else COLUMNS
    measured = tune(columns=columns, report=console.progress)
    try:
        place = tuned.keep(device, {one.key: one.chosen for one in measured if one.ratio < 1})
    except (OSError, UnusableFolderError) as error:
        raise ResourceError(
            f"what was measured cannot be kept: {error}",
            remedy="name a folder that is writable and has space in TAUTOMER_CACHE",
        ) from error
    launch.forget()
    if options.json:
        console.json(
            {"device": asdict(device), "file": str(place), "measured": [asdict(one) for one in measured]}
        )
        return 0
    rows = [
        (one.name, one.columns, one.chosen.form, f"{one.chosen.rows}x{one.chosen.block}/{one.chosen.warps}")
        for one in measured
    ]
    times = [f"{one.ratio:.2f}" for one in measured]
    table = [(*row, ratio) for row, ratio in zip(rows, times, strict=True)]
    console.table(("operator", "columns", "form", "tile/warps", "of the usual time"), table)
    console.result(f"kept in {place}")
    return 0
