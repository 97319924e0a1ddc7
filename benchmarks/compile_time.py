"""How long optimizing takes: against other tools on one real model, and per node up to 50,000 nodes.

    python -m benchmarks.compile_time [--cache DIR] [--repeats N] [--only model|curve] [--write]

Every run is a process of its own, tools take turns within a round, and the median of the rounds is shown.
Reading and writing the file are part of the time, importing the tool is shown apart, and no tool checks its
result.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.compile_one import measured
from benchmarks.exports import silence
from benchmarks.machine import describe
from benchmarks.peers import PEERS, operators
from benchmarks.synthetic import write_synthetic

RESULTS = Path(__file__).parent / "results" / "compile_time.md"
SIZES = (1_000, 2_000, 5_000, 10_000, 20_000, 50_000)


def gpt2(folder: Path) -> Path:
    """GPT-2 with 12 layers of 768 channels and 4,096 tokens, exported at opset 18 with its weights inside."""
    path = folder / "gpt2-12x768-dynamo18.onnx"
    if path.exists():
        return path
    print("exporting GPT-2 (12 layers, 768 channels)", file=sys.stderr, flush=True)
    with silence():
        import torch
        from transformers import GPT2Config, GPT2LMHeadModel

        from benchmarks.family import Family, Input

        sizes = {"n_layer": 12, "n_embd": 768, "n_head": 12, "vocab_size": 4096, "use_cache": False}
        config = GPT2Config(**sizes, bos_token_id=1, eos_token_id=2, attn_implementation="eager")
        inputs = tuple(
            Input(name, kind, ("batch", "sequence"))
            for name, kind in (("input_ids", "tokens"), ("attention_mask", "mask"))
        )
        family = Family("gpt2", lambda _: GPT2LMHeadModel(config), inputs, "logits", {})
        example = tuple(map(torch.from_numpy, family.sample({"batch": 2, "sequence": 8}, seed=0).values()))
        scratch = path.with_suffix(".part")
        torch.onnx.export(
            family.module("eager"),
            example,
            scratch,
            dynamo=True,
            opset_version=18,
            external_data=False,
            input_names=[item.name for item in inputs],
            output_names=["logits"],
            dynamic_shapes=tuple(item.axes for item in inputs),
        )
        scratch.replace(path)
    return path


def _median(runs: list[dict[str, Any]], key: str) -> float:
    return statistics.median(run[key] for run in runs)


def _stages(runs: list[dict[str, Any]]) -> dict[str, float]:
    names = runs[0].get("stages", {})
    return {name: statistics.median(run["stages"][name] for run in runs) for name in names}


def against_others(path: Path, repeats: int) -> list[str]:
    """A row for each tool, and the stages of our own time."""
    tools = ["tautomer", *(peer.name for peer in PEERS if peer.version)]
    runs: dict[str, list[dict[str, Any]]] = {tool: [] for tool in tools}
    for turn in range(repeats):
        for tool in tools:
            if runs[tool] and runs[tool][-1]["error"]:
                continue
            print(f"[{turn + 1}/{repeats}] {tool}", file=sys.stderr, flush=True)
            runs[tool].append(measured(tool, path))
    size = f"{operators(path).total()} nodes, {path.stat().st_size / 1e6:.0f} MB in one file"
    lines = [
        f"GPT-2, {size}; median of {repeats}.",
        "",
        "| tool | seconds | range | times ours | import | peak MiB | nodes after |",
        "|---|---|---|---|---|---|---|",
    ]
    mine = runs["tautomer"]
    ours = None if mine[-1]["error"] else _median(mine, "seconds")
    for tool in tools:
        if runs[tool][-1]["error"]:
            lines.append(f"| {tool} | {runs[tool][-1]['error']} | | | | | |")
            continue
        seconds = _median(runs[tool], "seconds")
        spread = [run["seconds"] for run in runs[tool]]
        lines.append(
            f"| {tool} | {seconds:.2f} | {min(spread):.2f}-{max(spread):.2f} "
            f"| {f'{seconds / ours:.1f}' if ours else ''} | {_median(runs[tool], 'import'):.2f} "
            f"| {_median(runs[tool], 'peak MiB'):.0f} | {runs[tool][-1]['nodes']} |"
        )
    if ours is not None:
        shares = ", ".join(f"{name} {seconds:.3f} s" for name, seconds in _stages(mine).items())
        lines += ["", f"Ours by stage: {shares}."]
    return lines


def curve(folder: Path, repeats: int) -> list[str]:
    """Seconds against nodes, on models that differ in depth alone."""
    lines = [
        "A synthetic transformer in elementary operators, deeper and deeper; reading and writing included.",
        "",
        "| nodes | seconds | microseconds a node | stages | operations found | sub-graphs evaluated |",
        "|---|---|---|---|---|---|",
    ]
    for size in SIZES:
        path = folder / f"synthetic-{size}.onnx"
        nodes = write_synthetic(path, size)
        print(f"{nodes} nodes", file=sys.stderr, flush=True)
        runs = [measured("tautomer", path) for _ in range(repeats)]
        if runs[-1]["error"]:
            lines.append(f"| {nodes} | {runs[-1]['error']} | | | | |")
            continue
        seconds = _median(runs, "seconds")
        shares = ", ".join(f"{name} {time:.2f}" for name, time in _stages(runs).items())
        each = 1e6 * seconds / nodes
        facts = measured("recognition", path)
        counts = f"{facts['found']} | {facts['evaluated']}"
        lines.append(f"| {nodes} | {seconds:.2f} | {each:.0f} | {shares} | {counts} |")
    return lines


def main(arguments: list[str] | None = None) -> int:
    """Prints both tables, and keeps them when asked to."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.compile_time", description=__doc__.splitlines()[0]
    )
    folder = Path(tempfile.gettempdir()) / "tautomer-compile-time"
    parser.add_argument("--cache", type=Path, default=folder, help="folder for the models")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", choices=("model", "curve"))
    parser.add_argument("--write", action="store_true", help=f"also write {RESULTS.name} beside this file")
    options = parser.parse_args(arguments)
    options.cache.mkdir(parents=True, exist_ok=True)
    lines = ["# How long optimizing takes", ""]
    if options.only != "curve":
        lines += [*against_others(gpt2(options.cache), options.repeats), ""]
    if options.only != "model":
        lines += [*curve(options.cache, max(1, options.repeats // 2)), ""]
    lines.append(describe(["tautomer", "onnx", "onnx-ir", *(peer.package for peer in PEERS)]))
    print("\n".join(lines))
    if options.write:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
