"""Timing of onnxruntime sessions on one thread: CPU time, turns, outputs that are allocated once."""

from __future__ import annotations

import math
import os
import random
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime

# A large buffer is otherwise mapped and unmapped at every call, and its page faults are most of the time.
_ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "8589934592", "MALLOC_TRIM_THRESHOLD_": "17179869184"}
_ALLOCATOR["MALLOC_TOP_PAD_"] = "1073741824"


def with_allocator(module: str, arguments: Sequence[str]) -> None:
    """Starts this module again in a process whose allocator keeps the memory that it got."""
    if any(os.environ.get(name) != value for name, value in _ALLOCATOR.items()):
        command = [sys.executable, "-m", module, *arguments]
        os.execve(sys.executable, command, {**os.environ, **_ALLOCATOR})


def load(
    model: Path | bytes,
    *,
    optimized: bool = True,
    disabled: Iterable[str] = (),
    written: Path | None = None,
    profile: Path | None = None,
) -> onnxruntime.InferenceSession:
    """A session with one thread; `written` gets the graph that it runs, `profile` is where a profile goes."""
    options = onnxruntime.SessionOptions()
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimized else levels.ORT_DISABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    if written is not None:
        options.optimized_model_filepath = str(written)
    if profile is not None:
        options.enable_profiling, options.profile_file_prefix = True, str(profile)
    return onnxruntime.InferenceSession(
        model, options, providers=["CPUExecutionProvider"], disabled_optimizers=list(disabled)
    )


def bound(session: onnxruntime.InferenceSession, inputs: Mapping[str, np.ndarray]) -> Callable[[], None]:
    """A call of the session that writes to outputs made once."""
    taken = {item.name: inputs[item.name] for item in session.get_inputs()}
    binding = session.io_binding()
    for name, value in taken.items():
        binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(value))
    for item, value in zip(session.get_outputs(), session.run(None, taken), strict=True):
        binding.bind_ortvalue_output(item.name, onnxruntime.OrtValue.ortvalue_from_numpy(value))
    return partial(session.run_with_iobinding, binding)


def interleaved(
    calls: Mapping[str, Callable[[], None]],
    rounds: int,
    least: float = 0.02,
    most: float = 30,
    *,
    clock: Callable[[], float] = time.process_time,
) -> dict[str, list[float]]:
    """Seconds a call for each round, by default of CPU; calls take turns, in another order every round.

    A call is repeated within its turn until about `least` seconds have passed; one that is short runs once
    before it is timed, since the call before it may have been another model's. After `most` seconds there are
    no more rounds, but at least three are made. A call of seconds is warm after one.
    """
    counts = {}
    for name, call in calls.items():
        taken = math.inf
        for _ in range(2):
            start = clock()
            call()
            taken = clock() - start
            if taken > 2.0:
                break
        counts[name] = math.ceil(least / max(taken, 1e-6))
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    shuffled = random.Random(0)
    begun = clock()
    for turn in range(rounds):
        if turn >= 3 and clock() - begun > most:
            break
        for name in shuffled.sample(list(calls), len(calls)):
            call, count = calls[name], counts[name]
            if count > 1:
                call()
            start = clock()
            for _ in range(count):
                call()
            seconds[name].append((clock() - start) / count)
    return seconds
