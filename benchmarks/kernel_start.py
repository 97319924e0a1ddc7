"""What a kernel costs before it runs: compiling it, and finding it again in another process.

    python -m benchmarks.kernel_start [--only Softmax ...] [--isa native] [--write]

Every kernel is built alone, as the library of a model with one operator would be, in a cache of its own: the
compiler's CPU time, and the time of the first runs against the definition. Then processes that know nothing
of it ask for the library of a model again; what they measure begins behind the imports.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks import markdown
from benchmarks.machine import describe
from tautomer.patterns.operation import definitions
from tautomer.runtime import compiler
from tautomer.runtime.kernel_cache import library
from tautomer.runtime.onnxruntime.check import check_of
from tautomer.runtime.onnxruntime.kernels import ISAS, all_kernels, source_of

RESULTS = Path(__file__).parent / "results" / "kernel_start.md"
TEXT = """# What a kernel costs before it runs

{count} libraries of one kernel each, built one after the other. Compiling took {compiled}; above {build:g} s:
{over}. The slowest:

{slowest}

The library of a model with three operators is in the cache. {processes} new processes, one after the other,
found and loaded it in {found},
{within} the {load:g} ms that it may take: the compiler is asked for its version, every file of the entry is
read and summed. With reading the graph and writing the texts it took {whole} ms, much of them imports.

{facts} Compiler: {compiler}. Load of the machine: {busy:.1f}.
Made by `python -m benchmarks.kernel_start --write`.
"""
PROCESSES = 9
_BUILD, _LOAD = 2.0, 0.020  # seconds: the most that building and finding a kernel may take
_LATER = """
import ctypes, json, resource, sys, time
from tautomer.graph.reader import read_model
from tautomer.runtime import ort_kernels
from tautomer.runtime.kernel_cache import library
def now():
    of_children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter(), time.process_time() + of_children.ru_utime + of_children.ru_stime
def since(begun):
    return [end - start for start, end in zip(begun, now())]
found = []
def timed(*given, **named):
    begun = now()
    path = library(*given, **named)
    ctypes.CDLL(str(path))
    found.extend(since(begun))
    return path
ort_kernels.library = timed
model = read_model(sys.argv[1])
begun = now()
path = ort_kernels.library_for(model)
print(json.dumps([str(path), *found, since(begun)[1]]))
"""
_MODEL = """<ir_version: 9, opset_import: ["" : 17, "tautomer" : 1]>
m (float[N, 64] x, float[64] w, float[64] b) => (float[N, 64] y) {
  n = tautomer.LayerNormalization <axis = -1, epsilon = 0.00001> (x, w, b)
  s = tautomer.Softmax <axis = -1> (n)
  y = tautomer.Gelu <approximate = "tanh"> (s)
}"""


@dataclass
class Built:
    """Seconds of CPU time that one kernel took: writing its text, compiling, first runs."""

    name: str
    text: float
    compiled: float
    checked: float


def _spent() -> float:
    """CPU seconds of the processes that were waited for."""
    about = resource.getrusage(resource.RUSAGE_CHILDREN)
    return about.ru_utime + about.ru_stime


def build(key: str, element_type: str, isa: str) -> Built:
    """Builds the library of one kernel in the cache."""
    wanted = [one for one in all_kernels() if (one.definition.key, one.element_type) == (key, element_type)]
    begun = time.process_time()
    source = source_of(wanted, isa)
    written, before = time.process_time() - begun, _spent()
    compiled = 0.0

    def check(path: Path) -> str | None:
        nonlocal compiled
        compiled = _spent() - before
        return check_of(source.kernels)(path)

    library(source.text, source.flags, check=check)
    return Built(f"{key}, {element_type.lower()}", written, compiled, _spent() - before - compiled)


@dataclass
class Found:
    """Seconds of a process that asked for a library that was there: for the cache, and in all."""

    wall: float
    cpu: float
    whole: float


def later(folder: Path) -> list[Found]:
    """What new processes take for the library of a model; the first, which builds it, is left out."""
    import onnx.parser

    path = folder / "model.onnx"
    path.write_bytes(onnx.parser.parse_model(_MODEL).SerializeToString())
    found = []
    for _ in range(PROCESSES + 1):
        command = [sys.executable, "-c", _LATER, str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        where, *seconds = json.loads(done.stdout)
        assert where.endswith(".so"), where
        found.append(Found(*seconds))
    return found[1:]


def table(built: list[Built], found: list[Found]) -> str:
    """The results as Markdown."""
    built = sorted(built, key=lambda one: -one.compiled)
    usual, worst = statistics.median(one.compiled for one in built), built[0].compiled
    over = ", ".join(one.name for one in built if one.compiled > _BUILD) or "none"
    pairs = [(one.cpu, one.whole) for one in found]
    middle, whole = (statistics.median(each) * 1e3 for each in zip(*pairs, strict=True))
    walls = sorted(one.wall * 1e3 for one in found)
    slowest = [[b.name, f"{b.compiled:.2f}", f"{b.checked:.2f}", f"{b.text * 1e3:.0f}"] for b in built[:12]]
    return TEXT.format(
        count=len(built),
        compiled=f"{usual:.2f} s of CPU time in the median and {worst:.2f} s at most",
        build=_BUILD,
        over=over,
        slowest=markdown.table(["kernel", "compiling, s", "first runs, s", "writing its text, ms"], slowest),
        processes=len(found),
        found=f"{middle:.1f} ms of CPU time in the median, {walls[0]:.1f} to {walls[-1]:.1f} ms by the clock",
        whole=f"{whole:.0f}",
        within="within" if middle <= _LOAD * 1e3 else "above",
        load=_LOAD * 1e3,
        facts=describe(("numpy", "onnx-ir")),
        compiler=compiler.find().version.splitlines()[0],
        busy=os.getloadavg()[0],
    )


def main(arguments: list[str] | None = None) -> int:
    """Builds, asks again, prints the table; exit code 1 when something takes longer than it may."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.kernel_start", description=__doc__.split("\n")[0]
    )
    keys = [one.key for one in definitions() if one.rows != "folded"]
    parser.add_argument("--only", nargs="+", choices=keys, default=keys, metavar="KERNEL")
    parser.add_argument("--types", nargs="+", choices=("FLOAT", "FLOAT16", "BFLOAT16"), default=["FLOAT"])
    parser.add_argument("--isa", choices=ISAS, default="native")
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.name}")
    options = parser.parse_args(arguments)
    built = []
    with tempfile.TemporaryDirectory(prefix="kernel-start-") as folder:
        os.environ["TAUTOMER_CACHE"] = str(Path(folder) / "cache")
        for element_type in options.types:
            for key in options.only:
                built.append(build(key, element_type, options.isa))
                print(built[-1], file=sys.stderr, flush=True)
        found = later(Path(folder))
    text = table(built, found)
    markdown.publish(text, RESULTS if options.write else None)
    usual = statistics.median(one.cpu for one in found)
    return int(usual > _LOAD or any(one.compiled > _BUILD for one in built))


if __name__ == "__main__":
    sys.exit(main())
