"""Measures which algorithm of a kernel is the fastest by size, and what our kernels gain over onnxruntime's.

Each algorithm beside the usual one has a ladder of sizes. It is chosen from the first rung on from which it
wins on all; where it never does, it is not used. Everything is timed on one thread, in turns, by the time
that the thread has run: other programs slow both sides down alike.
"""

from __future__ import annotations

import ctypes
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tautomer.codegen.algorithms import algorithms
from tautomer.codegen.cost_model import streamed
from tautomer.codegen.kernel import kernel_for
from tautomer.machine import Machine, Variant
from tautomer.patterns.operation import Definition, definitions
from tautomer.runtime.tuned import Gains, Tuning

_WINS = 0.97  # of the usual algorithm's time, at most: less is noise
_SIZES = {"float32": 4, "float16": 2, "bfloat16": 2}
_MOST_ELEMENTS, _QUICK_ELEMENTS = 1 << 24, 1 << 22
_ROUNDS, _QUICK_ROUNDS = 9, 5
_TURN = 2e6  # nanoseconds that a turn takes at least
NORMS = ("LayerNormalization", "RMSNormalization")
Report = Callable[[str], None]


@dataclass(frozen=True)
class Rung:
    """A size, and the time of an algorithm in times of the usual one's.

    Attributes:
        name: operation and type.
        algorithm: what is compared with the usual algorithm.
        rows, columns: the size.
        ratio: below 1 it is faster.
    """

    name: str
    algorithm: str
    rows: int
    columns: int
    ratio: float


def tune(machine: Machine, *, quick: bool = False, report: Report = print) -> tuple[Tuning, list[Rung]]:
    """Measures this machine.

    Args:
        machine: this one, without earlier choices.
        quick: float32 only, smaller tensors, fewer rounds.
        report: is told what is measured.

    Raises:
        MissingToolError: there is no compiler.
        CheckFailedError: it does not compile a kernel.
    """
    choices: list[tuple[str, tuple[Variant, ...]]] = []
    rungs: list[Rung] = []
    known = {one.key: one for one in definitions()}
    for key, dtype in _measured(quick):
        variants: list[Variant] = []
        for algorithm, sizes in _ladders(key, dtype, machine, quick):
            report(f"{key} of {dtype}: {algorithm}")
            found = list(_climbed(known[key], dtype, algorithm, sizes, machine, quick))
            rungs += found
            variants += _variants(found, algorithm, dtype)
        choices.append((f"{key} {dtype}", tuple(variants)))
    settled = replace(machine, tuned=tuple(choices))
    return Tuning(tuple(choices), _gains(settled, quick, report)), rungs


def _measured(quick: bool) -> Iterator[tuple[str, str]]:
    yield "Softmax", "float32"
    yield "LogSoftmax", "float32"
    for key in NORMS:
        yield key, "float32"
        if not quick:
            yield from ((key, dtype) for dtype in ("float16", "bfloat16"))


def _ladders(
    key: str, dtype: str, machine: Machine, quick: bool
) -> Iterator[tuple[str, list[tuple[int, int]]]]:
    """The algorithms worth measuring, first choice first, each with its sizes as rows and columns."""
    most = _QUICK_ELEMENTS if quick else _MOST_ELEMENTS
    there = algorithms(key, dtype)
    if "lane" in there:
        yield "lane", [(1, 1 << power) for power in range(18, most.bit_length(), 2)]
    if "block" in there and key == "Softmax":
        yield "block", [(_QUICK_ELEMENTS >> power, 1 << power) for power in range(11, 21)]
    if "stream" in there and key != "Softmax" and machine.isas[0] != "portable":
        row = 1024
        elements = [machine.l3 * share // 4 // (2 * _SIZES[dtype]) for share in (2, 3, 4, 6, 8)]
        yield "stream", [(max(1, count // row), row) for count in elements if count <= most]


def _climbed(
    definition: Definition,
    dtype: str,
    algorithm: str,
    sizes: list[tuple[int, int]],
    machine: Machine,
    quick: bool,
) -> Iterator[Rung]:
    for rows, columns in sizes:
        calls = [Call(definition, dtype, name, rows, columns, machine) for name in ("", algorithm)]
        usual, other = in_turns(calls, _QUICK_ROUNDS if quick else _ROUNDS)
        ratio = statistics.median(b / a for a, b in zip(usual, other, strict=True))
        yield Rung(f"{definition.key} {dtype}", algorithm, rows, columns, ratio)


def _variants(rungs: list[Rung], algorithm: str, dtype: str) -> list[Variant]:
    """From which size on an algorithm is used, or nothing."""
    size, winning = _SIZES[dtype], list[Rung]()
    for rung in reversed(rungs):
        if rung.ratio > _WINS:
            break
        winning.append(rung)
    if not winning:
        return []
    first = winning[-1]
    total = 2 * size * first.rows * first.columns
    if algorithm == "stream":
        return list(streamed(dtype, total))
    if algorithm == "lane":
        return [Variant("lane", total, first.columns, in_place=False)]
    return [Variant(algorithm, 0, first.columns)]


class Call:
    """A kernel with tensors of its own; the result lies elsewhere."""

    def __init__(
        self, definition: Definition, dtype: str, algorithm: str, rows: int, columns: int, machine: Machine
    ) -> None:
        import numpy as np

        from tautomer.runtime.kernel_cache import library
        from tautomer.runtime.loaded import load
        from tautomer.runtime.onnxruntime.kernels import isa_of

        kernel = kernel_for(definition, dtype=dtype, isa=isa_of(machine.isas[0]), algorithm=algorithm)
        self._function: Any = load(library(kernel.text, kernel.flags), kernel.symbol)
        random = np.random.default_rng(0)
        x = random.standard_normal((rows, columns), np.float32)
        row = np.ones(columns, np.float32)
        inputs = [_stored(array, dtype) for array in (x, *(row for _ in definition.operands))]
        outputs = [np.empty_like(inputs[0]) for _ in definition.results]
        self._kept = inputs + outputs
        self._tensors = [(ctypes.c_void_p * len(a))(*(v.ctypes.data for v in a)) for a in (inputs, outputs)]
        numbers = [definition.parameters[name] for name in kernel.parameters]
        self._numbers = (ctypes.c_double * max(1, len(numbers)))(*numbers)
        self._size = (0, rows if kernel.rows else rows * columns, columns)

    def __call__(self) -> None:
        """Runs it on all rows."""
        self._function(*self._tensors, self._numbers, *self._size)


def _stored(array: Any, dtype: str) -> Any:
    """Numbers as the kernel's type stores them; of bfloat16 the upper half of float32."""
    import numpy as np

    if dtype == "bfloat16":
        return np.ascontiguousarray((array.view(np.uint32) >> 16).astype(np.uint16))
    return np.ascontiguousarray(array.astype(dtype))


def in_turns(
    calls: list[Any], rounds: int, clock: Callable[[], int] = time.thread_time_ns
) -> list[list[float]]:
    """Nanoseconds of each call in each round; the order changes, and short calls are repeated."""
    counts = []
    for call in calls:
        call()
        start = clock()
        call()
        counts.append(max(1, round(_TURN / max(clock() - start, 1000))))
    times: list[list[float]] = [[] for _ in calls]
    for turn in range(rounds):
        order = range(len(calls)) if turn % 2 else reversed(range(len(calls)))
        for index in order:
            start = clock()
            for _ in range(counts[index]):
                calls[index]()
            times[index].append(max(1.0, (clock() - start) / counts[index]))
    return times


def _gains(machine: Machine, quick: bool, report: Report) -> Gains:
    """Our kernels against onnxruntime's, both in its sessions, float32; nothing where it is not installed."""
    from tautomer.runtime.kernel_cache import library
    from tautomer.runtime.onnxruntime.candidates import Wanted
    from tautomer.runtime.onnxruntime.kernels import source_of
    from tautomer.runtime.session import installed

    if not installed():
        return {}
    found: Gains = {}
    known = {one.key: one for one in definitions()}
    for key, inputs, body in _STOCK:
        report(f"{key} beside onnxruntime")
        op, pairs = known[key].op, list[tuple[int, float]]()
        source = source_of([Wanted(known[key], "FLOAT")], machine.isas[0], machine)
        kernels = library(source.text, source.flags)
        for rows, columns in _GAINS_AT:
            ours = _session(f"y = tautomer.{op} ({inputs})", rows, columns, kernels)
            stock = _session(body, rows, columns, None)
            mine, theirs = in_turns([ours, stock], _QUICK_ROUNDS if quick else _ROUNDS)
            ratio = statistics.median(b / a for a, b in zip(mine, theirs, strict=True))
            pairs.append((rows * columns, round(ratio, 2)))
        found[op] = tuple(pairs)
    return found


_GAINS_AT = ((64, 1024), (1024, 768), (4096, 1024))
# definition, what it is of, and how onnxruntime computes it
_STOCK = (
    ("Softmax", "x", "y = Softmax <axis = -1> (x)"),
    ("LogSoftmax", "x", "y = LogSoftmax <axis = -1> (x)"),
    ("LayerNormalization", "x, w, w", "y = LayerNormalization <axis = -1> (x, w, w)"),
    ("RMSNormalization", "x, w", "y = SimplifiedLayerNormalization <axis = -1> (x, w)"),
    ("Gelu[approximate=none]", "x", "y = Gelu (x)"),
)


def _session(body: str, rows: int, columns: int, kernels: Path | None) -> Callable[[], None]:
    """A call of onnxruntime on one thread, with tensors that are made once."""
    import numpy as np
    import onnx.parser
    import onnxruntime

    tensor = f"float[{rows},{columns}]"
    model = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 20, "tautomer": 1]>'
        f"g ({tensor} x, float[{columns}] w) => ({tensor} y) {{ {body} }}"
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    if kernels is not None:
        options.register_custom_ops_library(str(kernels))
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    binding = session.io_binding()
    x = np.random.default_rng(0).standard_normal((rows, columns), np.float32)
    given = {"x": x, "w": np.ones(columns, np.float32)}
    for item in session.get_inputs():
        binding.bind_ortvalue_input(item.name, onnxruntime.OrtValue.ortvalue_from_numpy(given[item.name]))
    binding.bind_ortvalue_output("y", onnxruntime.OrtValue.ortvalue_from_numpy(np.empty_like(x)))
    return lambda: session.run_with_iobinding(binding)
