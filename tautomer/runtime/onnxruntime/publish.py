"""A kernel library as a file of the user's."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from tautomer.errors import CheckFailedError
from tautomer.graph.publish import staging
from tautomer.graph.targets import check_target
from tautomer.machine import Machine
from tautomer.runtime import compiler
from tautomer.runtime.onnxruntime.candidates import Wanted
from tautomer.runtime.onnxruntime.check import check_of
from tautomer.runtime.onnxruntime.kernels import Other, Source, runs_here, source_of

TIMEOUT = 900.0
"""Seconds for all kernels at once, which take a slow machine minutes."""


def publish(
    out: Path,
    kernels: Sequence[Wanted | Other],
    isa: str = "native",
    *,
    force: bool = False,
    machine: Machine | None = None,
) -> Source:
    """Builds a library of kernels and puts it there: whole, or not at all.

    Args:
        out: the file.
        kernels: what it is to hold.
        isa: native, avx512, avx2 or portable.
        force: whether an existing file is overwritten.
        machine: whose caches choose the algorithms, as for `source_of`.

    Raises:
        InputError: the file exists, a kernel cannot be written, or there is no such instruction set.
        MissingToolError: there is no compiler.
        CheckFailedError: the compiler does not compile the text, or a kernel does not do what it should.
        ResourceError: the folder cannot be written to.
    """
    check_target(out, force=force)
    source = source_of(kernels, isa, machine)
    with tempfile.TemporaryDirectory(prefix="tautomer-") as folder:
        built = Path(folder) / "library.so"
        compiler.compile(source.text, source.flags, built, timeout=TIMEOUT)
        # kernels for another processor are for others to try
        reason = check_of(source.kernels, source.others)(built) if runs_here(isa) else None
        if reason:
            raise CheckFailedError(reason, where="native kernels", remedy="leave it out with --ops")
        with staging(out) as stage:
            stage.open(out).write(built.read_bytes())
    return source
