"""The portable kernels on AArch64: cross-compiled to NEON, and run by an emulator where there is one."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tautomer.codegen.isa import PORTABLE
from tautomer.codegen.kernel import Kernel, kernel_for
from tautomer.graph.semantics.mathematics import Float64
from tautomer.patterns.operation import Definition, definitions
from tautomer.patterns.rows import apply

COMPILER, LISTING, EMULATOR = "aarch64-linux-gnu-g++", "aarch64-linux-gnu-objdump", "qemu-aarch64"
# but for those whose number of coefficients a model decides
DEFINITIONS = {definition.key: definition for definition in definitions() if definition.fit is None}
ROWS, COLUMNS = 3, 37  # nine vectors of four, and a tail

# Reads x from standard input and writes y: no file of the host is shared with the emulated program.
_MAIN = """
#include <cstdio>
extern "C" void %(symbol)s(const void* const*, void* const*, const double*, int64_t, int64_t, int64_t);
int main() {
  static float x[%(size)d], y[%(size)d];
  if (std::fread(x, 4, %(size)d, stdin) != %(size)d) return 1;
  const void* inputs[] = {x};
  void* outputs[] = {y};
  const double parameters[] = {0.0009765625, 0.0};
  %(symbol)s(inputs, outputs, parameters, 0, %(last)d, %(columns)d);
  return std::fwrite(y, 4, %(size)d, stdout) != %(size)d;
}
"""

needs_compiler = pytest.mark.skipif(shutil.which(COMPILER) is None, reason=f"there is no {COMPILER}")
needs_emulator = pytest.mark.skipif(
    shutil.which(COMPILER) is None or shutil.which(EMULATOR) is None,
    reason=f"there is no {COMPILER} or no {EMULATOR}",
)


def compiled(kernels: list[Kernel], more: str, folder: Path, *options: str) -> Path:
    source, result = folder / "kernels.cpp", folder / "kernels"
    source.write_text("".join(dict.fromkeys(one.text for one in kernels)) + more)
    command = [COMPILER, *kernels[0].flags, "-Wall", "-Wextra", "-Werror", "-Wno-maybe-uninitialized"]
    subprocess.run([*command, *options, str(source), "-o", str(result)], check=True)
    return result


@needs_compiler
def test_every_definition_compiles_to_vectors_of_neon(tmp_path: Path) -> None:
    made = [kernel_for(one, isa=PORTABLE) for one in DEFINITIONS.values()]
    made += [
        kernel_for(DEFINITIONS["Softmax"], dtype=dtype, isa=PORTABLE) for dtype in ("float16", "bfloat16")
    ]
    listing = subprocess.run(
        [LISTING, "-d", compiled(made, "", tmp_path, "-c")], capture_output=True, text=True, check=True
    ).stdout
    assert ".4s" in listing and "fmla" in listing, "multiply-adds on four numbers at once"


@needs_emulator
@pytest.mark.parametrize(
    "key", ["Softmax", "LogSoftmax", "RMSNormalization", "Gelu[approximate=none]", "Mish"]
)
def test_what_they_compute_is_their_definition(tmp_path: Path, key: str) -> None:
    definition = DEFINITIONS[key]
    made = kernel_for(definition, isa=PORTABLE, operands=())
    x = np.random.default_rng(3).normal(size=(ROWS, COLUMNS)).astype(np.float32) * 4
    numbers = {
        "size": x.size,
        "symbol": made.symbol,
        "last": ROWS if made.rows else x.size,
        "columns": COLUMNS,
    }
    program = compiled([made], _MAIN % numbers, tmp_path, "-static")
    done = subprocess.run(
        [EMULATOR, str(program)], input=x.tobytes(), capture_output=True, check=True, timeout=60
    )
    found = np.frombuffer(done.stdout, np.float32).reshape(x.shape)
    right = _defined(definition, x)
    # a few roundings of float32, relative to the largest number of the row
    assert np.abs(found - right).max() <= 8 * 2.0**-23 * np.abs(right).max()


def _defined(definition: Definition, x: NDArray[np.float32]) -> NDArray[np.float64]:
    result = apply(
        definition,
        Float64(),
        x.astype(np.float64),
        axes=(1,) if definition.rows else (),
        operands={},
        parameters=dict.fromkeys(definition.parameters, 0.0009765625),
    )
    return np.asarray(result, np.float64)
