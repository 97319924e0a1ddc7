"""Rows that two threads share: our Softmax in onnxruntime beside onnxruntime's own and torch's."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
import onnxruntime
import torch
from onnx import parser

from benchmarks import markdown
from tautomer.patterns.operation import definition_of
from tautomer.runtime.kernel_cache import library
from tautomer.runtime.onnxruntime.candidates import Wanted
from tautomer.runtime.onnxruntime.kernels import source_of

SIZES = ((1, 131072), (1, 1 << 22), (1, 1 << 24))
THREADS, _SECONDS = 2, 6.0
HEAD = """\
Softmax, wall-clock: the least of interleaved tries, because a thread that has to wait for a processor makes
the other wait. Ours runs in an onnxruntime session, as does onnxruntime's; torch writes to `out=`. `alone` is
ours on one thread."""


def _session(domain: str, rows: int, columns: int, threads: int, x: np.ndarray) -> Callable[[], None]:
    tensor = f"float[{rows},{columns}]"
    model = parser.parse_model(
        '<ir_version: 10, opset_import: ["": 18, "tautomer": 1]>'
        f"g ({tensor} x) => ({tensor} y) {{ y = {domain}Softmax <axis = -1> (x) }}"
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 4
    if domain:
        softmax = definition_of("Softmax", {})
        assert softmax is not None
        source = source_of([Wanted(softmax, "FLOAT")])
        options.register_custom_ops_library(str(library(source.text, source.flags)))
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    binding = session.io_binding()
    binding.bind_ortvalue_input("x", onnxruntime.OrtValue.ortvalue_from_numpy(x))
    binding.bind_ortvalue_output("y", onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros_like(x)))
    return lambda: session.run_with_iobinding(binding)


def table(sizes: Sequence[tuple[int, int]] = SIZES) -> str:
    """The table, under what it says."""
    before, cells = torch.get_num_threads(), []
    torch.set_num_threads(THREADS)
    for rows, columns in sizes:
        x = torch.randn(rows, columns, generator=torch.Generator().manual_seed(1))
        out = torch.empty_like(x)
        calls: dict[str, Callable[[], object]] = {
            "ours": _session("tautomer.", rows, columns, THREADS, x.numpy()),
            "alone": _session("tautomer.", rows, columns, 1, x.numpy()),
            "torch": lambda x=x, out=out: torch.ops.aten._softmax.out(x, -1, False, out=out),
            "onnxruntime": _session("", rows, columns, THREADS, x.numpy()),
        }
        least = dict.fromkeys(calls, float("inf"))
        end, tries = time.monotonic() + _SECONDS, 0
        while tries < 5 or time.monotonic() < end:
            tries += 1
            for name, call in calls.items():
                start = time.perf_counter()
                call()
                least[name] = min(least[name], time.perf_counter() - start)
        ratios = [f"{least[name] / least['ours']:.2f}" for name in ("torch", "onnxruntime", "alone")]
        cells.append([f"{rows} x {columns}", f"{1e6 * least['ours']:.1f}", *ratios])
    torch.set_num_threads(before)
    return HEAD + "\n\n" + markdown.table(["size", "ours, us", "torch", "onnxruntime", "alone"], cells)
