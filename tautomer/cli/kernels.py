"""Builds native kernels into a library for programs that load it themselves.

The library holds kernels for the CPU of the operators of the domain `tautomer`. onnxruntime loads it by
RegisterCustomOpsLibrary, from Python by SessionOptions.register_custom_ops_library. Sessions that
`tautomer.session` makes have what they need without it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from tautomer.cli.options import add_json, add_machine
from tautomer.cli.output import Console, one_line, size

HELP = "build a library of native kernels for onnxruntime"
EXAMPLES = ("kernels build", "kernels build --model fast.onnx --output libfast.so")
_ISAS = ("native", "avx512", "avx2", "portable")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the verb's arguments."""
    parser.add_argument("deed", choices=("build",), metavar="build", help="compile them into one library")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        default=Path("libtautomer_ort.so"),
        help="the library (default: %(default)s)",
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--ops",
        nargs="+",
        metavar="OP",
        default=[],
        help="these operators only; forms of attention, which are many, are built by name alone",
    )
    which.add_argument("--model", type=Path, metavar="FILE", help="the operators of this model only")
    parser.add_argument(
        "--isa",
        choices=_ISAS,
        default="native",
        help="the instruction set; native is the widest of this processor (default: native)",
    )
    add_machine(parser)
    parser.add_argument("--force", action="store_true", help="overwrite FILE")
    add_json(parser)


def run(options: argparse.Namespace, console: Console) -> int:
    """Builds the library and says what is in it."""
    from tautomer.errors import InputError
    from tautomer.graph.reader import as_model
    from tautomer.runtime.machine import machine_of
    from tautomer.runtime.onnxruntime.kernels import all_kernels, kernels_of
    from tautomer.runtime.onnxruntime.publish import publish

    machine = None if options.machine == "native" else machine_of(options.machine)
    # a processor that is described decides by itself which instruction set its kernels have
    isa = machine.isas[0] if machine and options.isa == "native" else options.isa
    declined: dict[str, str] = {}
    if options.model is None:
        kernels = all_kernels(options.ops)
    else:
        kernels, declined = kernels_of(as_model(options.model))
    for reason in declined.values():
        console.progress(reason)
    if not kernels:
        raise InputError(
            "no node has an operator of ours that a kernel runs",
            where=str(options.model),
            remedy="optimize the model with --target kernels first",
        )
    console.progress(f"compiling {len(kernels)} kernels")
    source = publish(options.output, kernels, isa, force=options.force, machine=machine)
    count = options.output.stat().st_size
    if options.json:
        document = {"library": str(options.output), "bytes": count, "isa": isa, "machine": options.machine}
        console.json({**document, "operators": list(source.operators), "kernels": len(kernels)})
    else:
        console.result(one_line(f"{options.output}: {len(kernels)} kernels, {size(count)}"))
        if console.verbose:
            console.result(", ".join(source.operators))
    return 0
