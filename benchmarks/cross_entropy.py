"""Linear + cross-entropy without the logits: time and peak memory of a training step, beside torch's.

    python -m benchmarks.cross_entropy [--rows 1024] [--features 256] [--vocabulary 131072] [--rounds 3]

Time is of this process, single-threaded, the ways interleaved; memory is the peak of a child process for each
way, less
what it had before the step. Both compute the loss and the gradients of x and W.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch.nn import functional

from tautomer.runtime.torch.linear_cross_entropy import linear_cross_entropy

Step = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def of_torch(x: torch.Tensor, weight: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """The two operators of torch."""
    return functional.cross_entropy(functional.linear(x, weight), target)


WAYS: dict[str, Step] = {"torch": of_torch, "tautomer": linear_cross_entropy}


def operands(rows: int, features: int, vocabulary: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """x, W and the target; W as a freshly initialised head has it."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(rows, features, generator=generator).requires_grad_()
    weight = torch.randn(vocabulary, features, generator=generator).mul_(features**-0.5).requires_grad_()
    return x, weight, torch.randint(vocabulary, (rows,), generator=generator)


def step(way: str, tensors: Sequence[torch.Tensor]) -> float:
    """One training step; its loss."""
    x, weight, target = tensors
    x.grad = weight.grad = None
    loss = WAYS[way](x, weight, target)
    loss.backward()  # type: ignore[no-untyped-call]
    return float(loss.detach())


def high_water() -> int:
    """The most memory that this program had, in kB; getrusage would count what its parent had."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def peak(way: str, sizes: Sequence[int]) -> float:
    """Megabytes that a step adds to the peak of a process that holds x and W."""
    command = [sys.executable, "-m", "benchmarks.cross_entropy", "--child", way]
    for name, size in zip(("--rows", "--features", "--vocabulary"), sizes, strict=True):
        command += [name, str(size)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1024)
    parser.add_argument("--features", type=int, default=256)
    parser.add_argument("--vocabulary", type=int, default=131072)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--child", choices=WAYS, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    sizes = chosen.rows, chosen.features, chosen.vocabulary
    torch.set_num_threads(1)
    tensors = operands(*sizes)
    if chosen.child:
        step(chosen.child, operands(2, 2, 2))  # imports and libraries are no part of a step
        before = high_water()
        step(chosen.child, tensors)
        print((high_water() - before) / 1024)
        return
    times: dict[str, list[float]] = {way: [] for way in WAYS}
    losses = {}
    for _ in range(chosen.rounds):
        for way in WAYS:
            start = time.process_time()
            losses[way] = step(way, tensors)
            times[way].append(time.process_time() - start)
    print("| way | loss | seconds of a step | ratio | peak memory, MB | ratio |")
    print("| --- | --- | --- | --- | --- | --- |")
    memory = {way: peak(way, sizes) for way in WAYS}
    for way in WAYS:
        seconds, faster = min(times[way]), min(times["torch"]) / min(times[way])
        print(
            f"| {way} | {losses[way]:.6f} | {seconds:.2f} | {faster:.2f} "
            f"| {memory[way]:.0f} | {memory[way] / memory['torch']:.2f} |"
        )


if __name__ == "__main__":
    main()
