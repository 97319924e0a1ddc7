"""Attention kernels on a GPU: checks of all forms and of every way to cut them up, and their times.

Each is timed beside torch's flash attention and cuDNN's; of ways to cut a kernel up the first of a line is
the fastest. Before anything runs all kernels are compiled, in as many processes as there are processors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch.nn import functional

from benchmarks.gpu_attention_ahead import WAYS, compile_all, tilings, trials
from benchmarks.gpu_attention_forms import form_checks
from benchmarks.gpu_attention_inputs import tensors
from benchmarks.gpu_attention_sizes import Size, makers
from benchmarks.gpu_case import Call, Case, Check, Place
from tautomer.runtime.torch.attention import score_attention

_LENGTHS = (16384, 4096)
_STORED = 2048  # beside scores that are stored: of longer ones they take too much memory, and time
_SHIPPED = {"sigmoid": (16384, 4096, 2048, 8192), "softmax": (1024, 4096, 2048, 16384)}


def checks(place: Place) -> list[Check]:
    """Forms with masks, as they are shipped."""
    return form_checks(place)


def tiling_checks(place: Place) -> list[Check]:
    """Every way to cut a kernel up."""
    ways = {way: {head: tilings(way, head, place) for head in (128, 64)} for way in WAYS}
    return [Check(trial.name(), partial(trial.error, place), trial.limit) for trial in trials(ways)]


def cases(place: Place) -> list[Case]:
    """What is shipped, forward and backward, beside torch's attention, by head dimension and length."""
    found, stored = [], []
    for score, lengths in _SHIPPED.items():
        for length in lengths:
            for head in (128, 64):
                for causal in ("", "end"):
                    size = Size(place, head, length, causal, score)
                    barred = score == "sigmoid" and not causal
                    found.append(size.case(score, size.shipped, 4, _BAR[head] if barred else ""))
                    bar = "1.1x flash" if barred else ""
                    found.append(size.case(f"{score} backward", size.shipped_backward, 10, bar))
                    if length == _STORED and (score == "sigmoid" or bool(causal) == (head == 128)):
                        stored.append(size.stored_case())
    for head, causal in ((64, ""), (128, "end")):
        stored.append(Size(place, head, _STORED, causal, "relu").stored_case())
    for score in _SHIPPED:
        size = Size(place, 64, 4096, "", score, "float32")
        stored.append(size.case(f"{score} of float32", size.shipped, 4))
        stored.append(size.case(f"{score} of float32 backward", size.shipped_backward, 10))
    if not place.rehearsal:
        compile_all("shipped")
    return [*found[:16], _one_query(place), *stored, *found[16:]]


def tiling_cases(place: Place) -> list[Case]:
    """Every way to cut a kernel up."""
    found = []
    for head in (128, 64):
        sizes = [Size(place, head, length, causal) for length in _LENGTHS for causal in ("", "end")]
        for size in sizes:
            found.append(size.case("sigmoid", size.forward, 4))
            found.append(size.case("backward", size.backward, 10))
        for size in sizes[:2]:
            found.append(size.case("dq alone", size.of_queries, 6))
            found.append(size.case("dk, dv alone", size.of_keys, 8))
            found.append(size.case("softmax", size.softmax, 4))
    return found


def _one_query(place: Place) -> Case:
    """A query for each of a batch of sequences, against a long cache of grouped heads."""
    batch, heads, groups = place.size(8, 1), place.size(32, 2), place.size(8, 1)
    columns, head = place.size(16384, 65), 128

    def prepare() -> Mapping[str, Callable[[], Call]]:
        queries = tensors(place, batch, heads, 1, 1, head)["q"]
        sets = [tensors(place, batch, groups, 1, columns, head) for _ in range(2)]

        def ours(score: str) -> Call:
            return lambda i: score_attention(queries, sets[i]["k"], sets[i]["v"], score, bias=-9.0)

        def peer(i: int) -> Any:
            k, v = sets[i]["k"], sets[i]["v"]
            return functional.scaled_dot_product_attention(queries, k, v, enable_gqa=True)

        calls = {"ours": ours("softmax"), "sigmoid": ours("sigmoid"), "torch": peer}
        return makers(lambda: calls)

    size = 2 * batch * groups * columns * head * place.size(2, 4)
    return Case("one query", f"M{columns} d{head} in groups", prepare, sets=2, bytes=size)


_BAR = {128: "1.17x flash, 515 TFLOP/s", 64: "400 TFLOP/s"}
