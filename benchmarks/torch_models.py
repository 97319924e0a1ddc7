"""torch.compile with our backend beside inductor and eager torch: inference and training steps on this CPU.

    python -m benchmarks.torch_models [--quick] [--only MLP] [--limit 200] [--write]

Norms, MLP blocks, residual chains and whole models of two layers, float32, random weights. The ways to run
a case take turns in one process; ratios are those within a round. On one thread it is CPU time, on two wall
time. Compile time is CPU time of that process and the compilers that it starts, without caches.

Every case has a process of its own and a limit of time. What it gave by then counts, and the table is written
after every case.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn

from benchmarks.machine import describe
from benchmarks.timing import interleaved, with_allocator
from tautomer.runtime.torch.backend import tautomer

RESULTS = Path(__file__).parent / "results" / "torch_models.md"
PEERS, OURS = ("eager", "inductor"), "tautomer"
FAR = 1e-3  # of the largest output; what is farther away computes something else
TEXT = """# Models under torch.compile

    python -m benchmarks.torch_models --write

Float32, random weights. The columns are the times of eager torch and of inductor in times of ours: the median
over up to {rounds} rounds within one process, and the quartiles. Below 1, in bold, ours is slower. One
thread: CPU time; two threads: wall time. A training step is forward, backward and a step of SGD. The products
of an MLP are torch's on every side, and are what it would take if a GELU cost nothing.

{times}

## Compile time

CPU seconds from the first call to its end, caches off, this process and the C++ compilers that it starts.

{compile}
{unfinished}
{facts} Load of the machine: {before:.1f} before, {after:.1f} after."""

Call = Callable[[], Any]


class Mlp(nn.Module):
    """Two linear maps around a tanh-GELU, as in GPT-2."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(nn.functional.gelu(self.up(x), approximate="tanh"))


class Products(Mlp):
    """The matrix products of such a block alone: what it would take if a GELU cost nothing."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(self.up(x))


class Chain(nn.Module):
    """Pre-norm residual additions: x + W norm(x), several times, and a last norm."""

    def __init__(self, width: int, steps: int = 3) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(steps + 1))
        self.maps = nn.ModuleList(nn.Linear(width, width) for _ in range(steps + 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.maps[-1](x)
        for norm, linear in zip(self.norms[:-1], self.maps[:-1], strict=True):
            x = x + linear(norm(x))
        return self.norms[-1](x)


class Sums(nn.Module):
    """Residual additions and their norms alone: what stands between the matrix products of a transformer."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))

    def forward(self, x: torch.Tensor, *added: torch.Tensor) -> tuple[torch.Tensor, ...]:
        results = []
        for norm, each in zip(self.norms, added, strict=True):
            x = x + each
            results.append(norm(x))
        return (x, *results)


class Logits(nn.Module):
    """A transformers model that takes and gives one tensor."""

    def __init__(self, cls: str, config: str, **sizes: Any) -> None:
        super().__init__()
        settings = getattr(transformers, config)(**sizes)
        self.model = getattr(transformers, cls)._from_config(settings, attn_implementation="sdpa")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model(x)[0]


@dataclass(frozen=True)
class Case:
    """What is measured: a module and its inputs; `trains` where a training step is asked for as well."""

    name: str
    build: Callable[[], nn.Module]
    inputs: Callable[[], tuple[torch.Tensor, ...]]
    trains: bool = True


def values(*shapes: tuple[int, ...]) -> Callable[[], tuple[torch.Tensor, ...]]:
    return lambda: tuple(torch.randn(shape) for shape in shapes)


def tokens() -> tuple[torch.Tensor, ...]:
    return (torch.randint(0, 5000, (1, 128)),)


_BODY = {"hidden_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 1024}
_TEXT = {**_BODY, "vocab_size": 5000, "use_cache": False}
_GPT2 = {"n_embd": 256, "n_layer": 2, "n_head": 4, "vocab_size": 5000, "use_cache": False}
CASES = (
    Case("layer norm, 1024 x 768", lambda: nn.LayerNorm(768), values((1024, 768))),
    Case("RMS norm, 1024 x 768", lambda: nn.RMSNorm(768), values((1024, 768))),
    Case("GELU-tanh, 512 x 1024", lambda: nn.GELU("tanh"), values((512, 1024)), trains=False),
    Case("MLP, 512 x 64", lambda: Mlp(64), values((512, 64))),
    Case("MLP, 512 x 256", lambda: Mlp(256), values((512, 256))),
    Case("MLP, 128 x 768", lambda: Mlp(768), values((128, 768))),
    Case("products of the MLP, 512 x 256", lambda: Products(256), values((512, 256)), trains=False),
    Case("products of the MLP, 128 x 768", lambda: Products(768), values((128, 768)), trains=False),
    Case("sums and norms, 1024 x 768", lambda: Sums(768), values(*[(1024, 768)] * 4)),
    Case("residual chain, 512 x 256", lambda: Chain(256), values((512, 256))),
    Case("GPT-2", partial(Logits, "GPT2LMHeadModel", "GPT2Config", **_GPT2), tokens),
    # a training step of these is minutes of compilation
    Case(
        "ViT",
        partial(Logits, "ViTForImageClassification", "ViTConfig", **_BODY),
        values((1, 3, 224, 224)),
        trains=False,
    ),
    Case("BERT", partial(Logits, "BertForMaskedLM", "BertConfig", **_TEXT), tokens, trains=False),
    Case("Llama", partial(Logits, "LlamaForCausalLM", "LlamaConfig", **_TEXT), tokens, trains=False),
)


@dataclass
class Row:
    """Of a case in a setting: by way, CPU seconds to compile, or the seconds of a call in each round."""

    case: str
    setting: str
    kind: str
    seconds: dict[str, list[float]]

    def tell(self) -> None:
        """Prints it for the process that asked."""
        print(json.dumps(vars(self)), flush=True)


def _cpu() -> float:
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _compiled(model: nn.Module, way: str) -> Callable[..., Any]:
    if way == "eager":
        return model
    return torch.compile(model, backend=tautomer if way == OURS else way, dynamic=False)


def _step(run: Callable[..., Any], model: nn.Module, inputs: Sequence[torch.Tensor]) -> Call:
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)

    def step() -> None:
        result = run(*inputs)
        sum(each.square().mean() for each in (result if isinstance(result, tuple) else (result,))).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def _without_gradients(run: Callable[..., Any], inputs: Sequence[torch.Tensor]) -> Call:
    def call() -> Any:
        with torch.no_grad():
            return run(*inputs)

    return call


def measure(case: Case, rounds: int, most: float) -> None:
    """Compiles and times all ways of a case, in inference and in training; tells what it finds."""
    torch.manual_seed(0)
    model, inputs = case.build().eval(), case.inputs()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    for training in (False, True) if case.trains else (False,):
        torch._dynamo.reset()
        calls: dict[str, Call] = {}
        compiling: dict[str, list[float]] = {}
        setting = "training step" if training else "inference"
        expected = _without_gradients(model, inputs)()
        for way in (*PEERS, OURS):
            own = copy.deepcopy(model)
            run = _compiled(own, way)
            calls[way] = _step(run, own, inputs) if training else _without_gradients(run, inputs)
            start = _cpu()
            calls[way]()
            compiling[way] = [_cpu() - start]
            if not training:
                _check(calls[way](), expected, f"{case.name}, {way}")
        Row(case.name, setting, "compile", compiling).tell()
        for threads in (1,) if training else (1, 2):
            torch.set_num_threads(threads)
            clock = time.process_time if threads == 1 else time.perf_counter
            seconds = interleaved(calls, rounds, most=most, clock=clock)
            named = setting if training else f"inference, {threads} thread{'s' * (threads > 1)}"
            Row(case.name, named, "run", seconds).tell()
        torch.set_num_threads(1)


def _check(result: Any, expected: Any, label: str) -> None:
    pairs = zip(*(x if isinstance(x, tuple) else (x,) for x in (result, expected)), strict=True)
    for a, b in pairs:
        away = float((a - b).abs().max() / b.abs().max())
        if not away <= FAR:
            raise SystemExit(f"{label}: {away:.2g} away from eager torch")


def _ratio(row: Row, way: str) -> str:
    pairs = zip(row.seconds[way], row.seconds[OURS], strict=True)
    low, middle, high = statistics.quantiles([a / b for a, b in pairs], n=4)
    mark = "**" * (middle < 1)
    return f"{mark}{middle:.2f}{mark} ({low:.2f}-{high:.2f})"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows))


def report(rows: Sequence[Row], unfinished: Sequence[str], rounds: int, before: float) -> str:
    """The tables."""
    times = [
        [
            row.case,
            row.setting,
            f"{1e3 * statistics.median(row.seconds[OURS]):.2f}",
            *(_ratio(row, way) for way in PEERS),
        ]
        for row in rows
        if row.kind == "run"
    ]
    compile_times = [
        [row.case, row.setting, f"{theirs:.1f}", f"{ours:.1f}", f"{ours / theirs - 1:+.0%}"]
        for row in rows
        if row.kind == "compile"
        for (theirs,), (ours,) in [(row.seconds["inductor"], row.seconds[OURS])]
    ]
    return TEXT.format(
        rounds=rounds,
        times=_table(["case", "setting", "ours, ms", "eager", "inductor"], times),
        compile=_table(["case", "setting", "inductor", "ours", "more"], compile_times),
        unfinished="".join(f"\n{line}" for line in unfinished),
        facts=describe(["torch", "tautomer", "transformers"]),
        before=before,
        after=os.getloadavg()[0],
    )


def in_a_process(case: Case, arguments: Sequence[str], limit: float) -> tuple[list[Row], str]:
    """What a case gives within the limit, and why that is not all, or ""."""
    command = [sys.executable, "-m", "benchmarks.torch_models", "--case", case.name, *arguments]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    failed = ""
    try:
        out, err = process.communicate(timeout=limit)
        if process.returncode:
            failed = f"{case.name}: {(err.strip().splitlines() or ['it ended'])[-1]}"
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # with the compilers that it started
        out, err = process.communicate()
        failed = f"{case.name}: not finished within {limit:.0f} s."
    return [Row(**json.loads(line)) for line in out.splitlines() if line.startswith("{")], failed


def child(case: Case, rounds: int, most: float) -> None:
    """Measures one case in this process."""
    torch.set_num_threads(1)
    with torch._inductor.config.patch(force_disable_caches=True, compile_threads=1):
        for way in ("inductor", OURS):  # what only the first graph of a process pays
            _compiled(nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2)), way)(torch.ones(2, 2)).sum().backward()
        measure(case, rounds, most)


def main(arguments: list[str] | None = None) -> int:
    """Prints the tables, and writes them when asked to."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.torch_models", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument(
        "--only", action="append", default=[], help="cases whose name has this in it (repeatable)"
    )
    parser.add_argument("--limit", type=float, default=200, help="seconds for one case")
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.name}")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    given = sys.argv[1:] if arguments is None else arguments
    options = parser.parse_args(arguments)
    with_allocator("benchmarks.torch_models", given)
    before, rounds, most = os.getloadavg()[0], 5 if options.quick else 15, 3 if options.quick else 8
    if options.case:
        child(next(case for case in CASES if case.name == options.case), rounds, most)
        return 0
    rows, unfinished, text = [], [], ""
    for case in CASES:
        if options.only and not any(part in case.name for part in options.only):
            continue
        start = time.perf_counter()
        found, failed = in_a_process(case, ["--quick"] * options.quick, options.limit)
        print(f"{case.name}: {time.perf_counter() - start:.0f} s {failed}", file=sys.stderr, flush=True)
        rows += found
        unfinished += [failed] * bool(failed)
        text = report(rows, unfinished, rounds, before)
        if options.write:
            RESULTS.write_text(text + "\n")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
