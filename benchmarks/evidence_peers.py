"""What other optimizers write, verified against what they were given.

Every output is verified by `tautomer verify`. Where it is DIFFERENT the outputs are also compared as numbers:
in float64, and in onnxruntime without optimizations, on random inputs and on rows of many scales and offsets;
the figure is the largest difference in units of the largest element of its row. Above 1e-4 in float64 it is
called a *miscompile*, from 1e-6 to 1e-4 *another constant*, below that *rounding* (a constant folded in
float32), and *to be looked at* where float64 shows nothing. A model that gives NaN on all inputs made for it
is NOT VERIFIED, whatever the tool did. *Epsilon lost*: the model held numbers below 1e-6 and its output holds
none, so that a row of equal elements divides 0 by 0.
"""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from benchmarks.evidence_worker import Answer, Worker
from benchmarks.peers import PEERS

_TOOLS = tuple(p.name for p in PEERS if p.name != "ort-transformers" and p.version)
_LIMIT = 60.0
_GRADES = {"miscompile": 1e-4, "another constant": 1e-6, "rounding": 1e-12}
_FAMILIES = ("gpt2", "bert", "vit", "llama", "t5_encoder", "t5_decoder")


def near_misses(folder: Path) -> Iterator[tuple[str, Path]]:
    """The near misses of the tests' zoo, as files."""
    tests = str(Path(__file__).parent.parent / "tests")
    if tests not in sys.path:
        sys.path.insert(0, tests)
    from zoo import NEAR_MISSES

    for index, case in enumerate(NEAR_MISSES):
        path = folder / f"miss{index}.onnx"
        onnx.save(case.model(), path)
        yield f"{case.looks_like}: {case.name}", path


def small_epsilons(folder: Path) -> Iterator[tuple[str, Path]]:
    """(x - mean x) / sqrt(var x + eps), spelled out, with the epsilons of BERT, ViT and smaller models."""
    steps = (
        *(("ReduceMean", "x", "m"), ("Sub", "x m", "c"), ("Mul", "c c", "s"), ("ReduceMean", "s", "v")),
        *(("Add", "v eps", "a"), ("Sqrt", "a", "r"), ("Div", "c r", "y")),
    )
    for epsilon in (1e-12, 1e-9, 1e-8, 1e-7, 1e-6):
        nodes = [
            helper.make_node(op, reads.split(), [made], **({"axes": [-1]} if op == "ReduceMean" else {}))
            for op, reads, made in steps
        ]
        ends = [[helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [7, 8])] for name in "xy"]
        held = [numpy_helper.from_array(np.float32(epsilon), "eps")]
        graph = helper.make_graph(nodes, "norm", *ends, held)
        path = folder / f"epsilon{epsilon}.onnx"
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
        yield f"epsilon {epsilon}", path


def exports(folder: Path) -> Iterator[tuple[str, Path]]:
    """Exports of transformers, dynamo at opset 18 and TorchScript at 14, eager and sdpa."""
    for family in _FAMILIES:
        for kind in ("dynamo18", "torchscript14"):
            for attention in ("eager", "sdpa"):
                path = folder / f"{family}-{kind}-{attention}.onnx"
                if path.exists():
                    yield path.stem, path


def judged(answer: Answer) -> str:
    """EQUAL, NOT VERIFIED, tool failed, or what kind of difference it is."""
    if answer["verdict"] != "DIFFERENT":
        does_not_run = "the second model cannot be run" in answer["reason"]
        return "does not run" if does_not_run else str(answer["verdict"])
    found = answer.get("differences", {})
    if answer.get("lost"):
        return "epsilon lost"
    worst = found.get("float64", found.get("onnxruntime", 0.0))
    return next((name for name, least in _GRADES.items() if worst > least), "to be looked at")


KINDS = ("EQUAL", "epsilon lost", *_GRADES, "to be looked at", "NOT VERIFIED", "does not run", "tool failed")


def section(folder: Path, exported: Path) -> Iterator[str]:
    """The table and the differences."""
    yield from ("## Other optimizers", "", *__doc__.splitlines()[2:], "")
    sets = {"norms with a small epsilon": list(small_epsilons(folder))}
    sets |= {"near misses": list(near_misses(folder)), "exports": list(exports(exported))}
    for title, cases in sets.items():
        yield from _table(title, cases, folder)


def _table(title: str, cases: list[tuple[str, Path]], folder: Path) -> Iterator[str]:
    counts: dict[str, Counter[str]] = {tool: Counter() for tool in _TOOLS}
    different, reasons = list[str](), defaultdict[str, list[str]](list)
    worker = Worker()
    for name, source in cases:
        for tool in _TOOLS:
            target = folder / f"{source.stem}.{tool}.onnx"
            answer = worker.ask(tool, source, target, _LIMIT)
            kind = judged(answer)
            counts[tool][kind] += 1
            if answer["verdict"] == "DIFFERENT":
                different.append(_row(name, tool, kind, answer))
                print(different[-1], flush=True)
            elif kind != "EQUAL":
                reasons[f"{tool}: {kind}: {answer['reason'][:110]}"].append(name)
                print(name, tool, kind, answer["reason"][:200], flush=True)
    worker.close()
    yield from (f"### {title}: {len(cases)} models", "")
    if not cases:
        yield from ("None were there.", "")
        return
    yield from (f"| tool | {' | '.join(KINDS)} |", "|---" * (len(KINDS) + 1) + "|")
    yield from (
        f"| {tool} | {' | '.join(str(count[kind]) for kind in KINDS)} |" for tool, count in counts.items()
    )
    yield from (
        "",
        "| model | tool | kind | float64 | onnxruntime | first divergence | reason |",
        "|---" * 7 + "|",
    )
    yield from different
    yield from ("", "Not verified, and failures of tools:", "")
    yield from (f"- {reason} ({len(names)}: {', '.join(names[:3])})" for reason, names in reasons.items())
    yield ""


def _row(name: str, tool: str, kind: str, answer: dict[str, Any]) -> str:
    found = {key: f"{value:.1e}" for key, value in answer.get("differences", {}).items()}
    tensor = answer["divergence"].get("tensor", "")
    cells = [
        name,
        tool,
        kind,
        found.get("float64", ""),
        found.get("onnxruntime", ""),
        tensor,
        answer["reason"],
    ]
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"
