"""Attention kernels with a slip in them: the first run of a kernel must find each."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tautomer.codegen.attention.kernel import attention_kernel
from tautomer.patterns.attention.form import AttentionForm
from tautomer.runtime import attention_check, compiler
from tautomer.runtime.onnxruntime.kernels import isa_of

CAUSAL, SIGMOID = AttentionForm(causal="end"), AttentionForm("sigmoid")
TWICE = AttentionForm("softplus_reweighted", power=3, causal="end", empty="zero")
MUTANTS = {
    "mask off by one": (CAUSAL, "one.end = last + 1;", "one.end = last + 2;"),
    "missing rescale": (CAUSAL, "*(Aligned*)(result + r * padded + i) *= down;", ";"),
    "stale maximum": (CAUSAL, "top[r] = space.shift[tile * R + r] = highest;", "top[r] = highest;"),
    "dropped tail": (CAUSAL, "for (int64_t j = from; j < to;", "for (int64_t j = from; j + KEYS <= to;"),
    "swapped heads": (
        CAUSAL,
        "place.kv_head * call.group() + (place.first + row) % call.group()",
        "place.kv_head + call.kv_heads * ((place.first + row) % call.group())",
    ),
    "parts without their maximum": (CAUSAL, "sum += part[1] * down[0];", "sum += part[1];"),
    "a sum that is off": (CAUSAL, "DIVIDED ? 1.0f / sum", "DIVIDED ? 1.00003f / sum"),
    "bias sign": (SIGMOID, "call.bias = (float)*", "call.bias = -(float)*"),
    "two sweeps in one": (TWICE, "sweep<R, false>(call, place, space);", ""),
}


@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++")
@pytest.mark.parametrize("name", MUTANTS)
def test_the_first_run_finds(tmp_path: Path, name: str) -> None:
    form, right, wrong = MUTANTS[name]
    kernel = attention_kernel(form, isa_of("native"))
    assert kernel.text.count(right) == 1
    library = tmp_path / "kernel.so"
    compiler.compile(kernel.text.replace(right, wrong), (*kernel.flags, "-O1"), library)
    reason = attention_check.check(library, kernel.symbol, form)
    assert reason is not None and ("off by" in reason or "NaN" in reason)
