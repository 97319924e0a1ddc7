"""Exports a torch module, optimizes and verifies it, and times it in onnxruntime: for the models here."""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path
from statistics import median
from typing import Any

import onnxruntime
import torch

import tautomer


def arguments(text: str | None) -> argparse.Namespace:
    """What every one of these scripts takes."""
    parser = argparse.ArgumentParser(description=text)
    parser.add_argument("--quick", action="store_true", help="a small model, verified, timed twice")
    parser.add_argument("--verify", action="store_true", help="verify the large model, too: it takes minutes")
    return parser.parse_args()


def show(
    name: str, model: torch.nn.Module, inputs: tuple[torch.Tensor, ...], chosen: argparse.Namespace
) -> None:
    """Prints what became of a model and what it gained."""
    quick = chosen.quick
    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder) / "model.onnx", Path(folder) / "fast.onnx"
        names = [f"input_{i}" for i in range(len(inputs))]
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it misses packages that are not needed
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the exporter's own future
            torch.onnx.export(model.eval(), inputs, before, input_names=names, dynamo=True, verbose=False)
        # for one token and 19 million weights exact arithmetic took 15 s; here are up to 220 million
        result = tautomer.optimize(before, target="kernels", verify=quick or chosen.verify)
        result.save(after)
        ours = Counter(node.op_type for node in result.model.graph if node.domain == "tautomer")
        print(f"{name}: {', '.join(f'{n} x {op}' for op, n in sorted(ours.items())) or 'nothing of ours'}")
        print(f"  verified: {result.verification['verdict']}")
        given = {key: tensor.numpy() for key, tensor in zip(names, inputs, strict=True)}
        old, new = _session(before), tautomer.session(after, intra_op_num_threads=1)
        expected, found = (torch.from_numpy(one.run(None, given)[0]) for one in (old, new))
        apart = (expected - found).abs().max() / expected.abs().max()
        print(f"  largest difference: {apart:.1e} of the largest result")
        ratio = _ratio(old, new, given, rounds=2 if quick else 15)
        print(f"  onnxruntime takes {ratio:.2f} times as long without it, on one thread")


def _session(path: Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _ratio(old: Any, new: Any, given: dict[str, Any], rounds: int) -> float:
    """The median of the ratios of runs that follow each other."""
    ratios = []
    for _ in range(rounds):
        seconds = []
        for session in (old, new):
            start = time.thread_time()
            session.run(None, given)
            seconds.append(time.thread_time() - start)
        ratios.append(seconds[0] / seconds[1])
    return median(ratios)
