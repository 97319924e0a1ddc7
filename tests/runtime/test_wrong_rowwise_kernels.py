"""Kernels of operations on elements and rows with a slip in them: the first run must find each."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tautomer.patterns.operation import definition_of
from tautomer.runtime import compiler
from tautomer.runtime.machine import this_machine
from tautomer.runtime.onnxruntime.candidates import Wanted
from tautomer.runtime.onnxruntime.check import check_of
from tautomer.runtime.onnxruntime.kernels import isa_of, ort_kernel


def variance(m: Any, x: Any, less: float = 0.0) -> Any:
    centred = x - m.mean(x)
    return m.sum(centred * centred) / (m.count(x) - less)


def cube(m: Any, x: Any, epsilon: Any) -> Any:
    return x / (m.sqrt(m.mean(x * x)) + epsilon)


# the operation, and its formula with the slip
MUTANTS: dict[str, tuple[str, Callable[..., Any]]] = {
    "the threshold itself falls": (
        "FatRelu",
        lambda m, x, *, threshold: m.where(m.compare(">", x, threshold), x, 0.0),
    ),
    "the threshold itself stays": (
        "ThresholdedRelu",
        lambda m, x, *, alpha: m.where(m.compare(">=", x, alpha), x, 0.0),
    ),
    "the bound itself falls": (
        "BoundedRelu",
        lambda m, x, bound: m.where(m.compare(">=", x, bound), 0.0, m.maximum(x, 0.0)),
    ),
    "what is clipped falls": (
        "ClippedRelu",
        lambda m, x, bound: m.where(m.compare(">", x, bound), 0.0, m.maximum(x, 0.0)),
    ),
    "the shift is added": ("ShiftedRelu", lambda m, x, shift: m.maximum(x + shift, 0.0)),
    "the slope is lost": (
        "HybridRelu",
        lambda m, x, bound, *, slope: m.maximum(x - x * m.sigmoid(x - bound), 0.0),
    ),
    "alpha goes with the other side": (
        "Dice",
        lambda m, x, alpha, mean, variance, scale, bias, *, epsilon: (
            x * (1.0 + (alpha - 1.0) * m.sigmoid((x - mean) * m.rsqrt(variance + epsilon) * scale + bias))
        ),
    ),
    "epsilon outside of the root of a variance": (
        "Dice",
        lambda m, x, alpha, mean, variance, scale, bias, *, epsilon: (
            x * (alpha + (1.0 - alpha) * m.sigmoid((x - mean) / (m.sqrt(variance) + epsilon) * scale + bias))
        ),
    ),
    "divided by one less": (
        "EvoNormS0",
        lambda m, x, v, scale, bias, *, epsilon: (
            x * m.sigmoid(v * x) * m.rsqrt(variance(m, x, 1.0) + epsilon) * scale + bias
        ),
    ),
    "the smaller one": (
        "EvoNormB0",
        lambda m, x, deviation, v, scale, bias, *, epsilon: (
            x / m.minimum(deviation, v * x + m.sqrt(variance(m, x) + epsilon)) * scale + bias
        ),
    ),
    "epsilon beside a length": (
        "L2Normalization",
        lambda m, x, scale, *, epsilon: x / (m.sqrt(m.sum(x * x)) + epsilon) * scale,
    ),
    "epsilon outside of the root": (
        "PolyNorm",
        lambda m, x, *, epsilon, cubic, square, linear, constant: (
            cubic * cube(m, x * x * x, epsilon)
            + square * cube(m, x * x, epsilon)
            + linear * cube(m, x, epsilon)
            + constant
        ),
    ),
}


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All of them, compiled as one text."""
    if shutil.which("g++") is None:
        pytest.skip("there is no g++")
    made = [kernel(name) for name in MUTANTS]
    path = tmp_path_factory.mktemp("wrong") / "kernels.so"
    texts = dict(each for one, _ in made for each in one.functions)
    compiler.compile("".join(texts.values()), (*made[0][1], "-O1"), path)
    return path


def kernel(name: str) -> Any:
    op, function = MUTANTS[name]
    right = definition_of(op)
    assert right is not None
    return ort_kernel(Wanted(replace(right, function=function), "FLOAT"), isa_of("native"), this_machine())


@pytest.mark.parametrize("name", MUTANTS)
def test_the_first_run_finds(library: Path, name: str) -> None:
    right = definition_of(MUTANTS[name][0])
    assert right is not None
    reason = check_of([(Wanted(right, "FLOAT"), kernel(name)[0])])(library)
    assert reason is not None and "it is off by" in reason
