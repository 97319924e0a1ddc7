"""Kernels for torch across processes, and where they cannot be had."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

# each job is a process: what is loaded and what was said is state of one
_USE = """
import json, logging, sys, time, torch
logging.basicConfig(stream=sys.stderr, format="%(message)s")
from tautomer.runtime.torch import ops
x, scale = torch.randn(4, 8), torch.randn(8)
for _ in range(2):
    y = ops.call("rms_norm", x, scale, epsilon=1e-6)
right = torch.nn.functional.rms_norm(x, (8,), scale, 1e-6)
from tautomer.codegen.torch.operators import operator_of
ours = ops.kernel(operator_of("rms_norm"), x) is not None
print(json.dumps({"off": float((y - right).abs().max()), "ours": ours}))
"""

_RUN = """
import sys, torch
from tautomer.runtime import compiler
from tautomer.runtime.torch import ops
compiler.compile = None  # what is in the cache is not built again
path = ops.load_kernels(["rms_norm"])
run = torch.export.load(sys.argv[1]).module()
x = torch.randn(4, 8)
torch.testing.assert_close(run(x), torch.nn.functional.rms_norm(x, (8,), None, 1e-6) + 1.0)
"""


def job(text: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", text, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )


def test_without_a_compiler_torch_does_it_and_says_so_once(tmp_path: Path) -> None:
    done = job(_USE, TAUTOMER_CACHE=str(tmp_path), CXX="", PATH=str(tmp_path))
    answer = json.loads(done.stdout)
    assert not answer["ours"] and answer["off"] < 1e-5
    said = [line for line in done.stderr.splitlines() if "torch runs without kernels" in line]
    assert len(said) == 1 and "no C++ compiler was found" in said[0]


def test_a_compiler_that_makes_wrong_kernels_is_found_out(kernels: None, tmp_path: Path) -> None:
    # every square root is of twice the number: norms are off, the operators' library is not
    script = tmp_path / "wrong-c++"
    script.write_text(
        "#!/bin/sh\nfor last; do :; done\n"
        'case "$1" in --version) exec g++ --version;; esac\n'
        'sed -i "s/std::sqrt(/std::sqrt(2.0 * /" "$last"\nexec g++ "$@"\n'
    )
    script.chmod(0o700)
    done = job(_USE, TAUTOMER_CACHE=str(tmp_path / "cache"), CXX=str(script))
    answer = json.loads(done.stdout)
    assert not answer["ours"] and answer["off"] < 1e-5
    said = [line for line in done.stderr.splitlines() if "by its own operators" in line]
    assert len(said) == 1 and "off by" in said[0]


def test_an_exported_program_runs_where_the_kernels_are_loaded(kernels: None, tmp_path: Path) -> None:
    import torch

    from tautomer.runtime.torch import ops

    class Model(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            normed: torch.Tensor = torch.ops.tautomer.rms_norm_v1(x, None, 1e-6)
            return normed + 1.0

    ops.load_kernels(["rms_norm"])
    package = str(tmp_path / "model.pt2")
    torch.export.save(torch.export.export(Model(), (torch.ones(4, 8),)), package)
    job(_RUN, package)


@pytest.mark.parametrize("wrong", ["rms", "rms_norm_v1"])
def test_load_kernels_refuses_what_it_does_not_know(wrong: str) -> None:
    from tautomer.errors import InputError
    from tautomer.runtime.torch import ops

    with pytest.raises(InputError, match="no operator"):
        ops.load_kernels([wrong])
