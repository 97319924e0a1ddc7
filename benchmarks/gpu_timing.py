"""Timing of calls on a GPU: CUDA events, turns, medians, sets of inputs that no cache holds.

In a rehearsal on the CPU everything runs once, and the times mean nothing.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

import torch

from benchmarks.gpu_case import Call, Case, Place

_TURN = 4e-3  # seconds of a turn at least
_ROUNDS = 9
_MOST_CALLS = 200


def seconds(case: Case, place: Place, most: float) -> dict[str, float | str]:
    """Of a call of each peer: the median over the rounds, or what went wrong.

    Args:
        case: what is timed.
        place: where.
        most: seconds that the rounds may take; what is compiled before them is not counted.
    """
    results: dict[str, float | str] = {}
    turns: dict[str, tuple[Callable[[], float], list[float]]] = {}
    try:
        makers = case.prepare()
    except Exception as error:
        return {"all": told(error)}
    made = makers
    if case.together and not place.rehearsal:
        with ThreadPoolExecutor(8) as pool:
            waiting = {name: pool.submit(_first, make) for name, make in makers.items()}
        made = {name: one.result for name, one in waiting.items()}
    for name, make in made.items():
        try:
            turns[name] = (_turn(make(), case, place), [])
        except Exception as error:
            results[name] = told(error)
    begun, shuffled = time.perf_counter(), random.Random(0)
    for turn in range(1 if place.rehearsal else _ROUNDS):
        if turn >= 3 and time.perf_counter() - begun > most:
            break
        for name in shuffled.sample(list(turns), len(turns)):
            if name in results:
                continue
            run, times = turns[name]
            try:
                times.append(run())
            except Exception as error:
                results[name] = told(error)
    results |= {name: statistics.median(times) for name, (_, times) in turns.items() if name not in results}
    return {name: results[name] for name in makers}


def _first(make: Callable[[], Call]) -> Call:
    """A peer after its first call, which compiles."""
    call = make()
    call(0)
    return call


def told(error: Exception) -> str:
    """An error in few words: its first line and its last ones."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    kept = lines if len(lines) < 8 else [lines[0], "...", *lines[-12:]]
    return f"{type(error).__name__}: {' | '.join(line[:200] for line in kept)}"


def _turn(call: Call, case: Case, place: Place) -> Callable[[], float]:
    """What runs a peer for one turn, and gives the seconds of a call."""
    for index in range(case.sets):
        call(index)
    if place.rehearsal:
        return lambda: _elapsed(lambda: call(0))
    torch.cuda.synchronize()
    one = statistics.median(_between(lambda: call(0)) for _ in range(3))
    count = max(case.sets, min(_MOST_CALLS, int(_TURN / max(one, 1e-7))))
    count -= count % case.sets

    def calls() -> None:
        for index in range(count):
            call(index % case.sets)

    repeated = _captured(calls) if case.graph else calls
    repeated()
    torch.cuda.synchronize()
    return lambda: _between(repeated) / count


def _captured(calls: Callable[[], None]) -> Callable[[], None]:
    graph = torch.cuda.CUDAGraph()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        calls()
    torch.cuda.current_stream().wait_stream(stream)
    with torch.cuda.graph(graph):
        calls()
    return graph.replay


def _between(run: Callable[[], object]) -> float:
    """Seconds on the device."""
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    first.record()
    run()
    last.record()
    last.synchronize()
    return float(first.elapsed_time(last)) / 1e3


def _elapsed(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def ceilings(place: Place) -> Mapping[str, float]:
    """What the device reaches: bytes per second of a large copy, read and written, and bf16 operations."""
    size = place.size(1 << 30, 1 << 10)
    a = torch.randint(0, 100, (size,), dtype=torch.int8, device=place.device)
    b = torch.empty_like(a)
    n = place.size(8192, 16)
    left, right = (torch.randn(n, n, dtype=torch.bfloat16, device=place.device) for _ in range(2))

    def functions() -> Mapping[str, Callable[[], Call]]:
        return {"copy": lambda: lambda _: b.copy_(a), "matrix": lambda: lambda _: left @ right}

    found = seconds(Case("ceilings", "", functions, sets=1, graph=False), place, 5.0)
    amounts = {"copy": 2.0 * size, "matrix": 2.0 * n**3}
    return {name: amounts[name] / time for name, time in found.items() if isinstance(time, float)}
