"""Every example runs and prints what it promises."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tautomer.patterns import operation

EXAMPLES = Path(__file__).parents[2] / "examples"


def _run(name: str, *arguments: str, folder: Path) -> str:
    command = [sys.executable, str(EXAMPLES / name), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_optimize_a_file(tmp_path: Path) -> None:
    out = _run("optimize_a_file.py", folder=tmp_path)
    assert "Reciprocal" in out
    assert "EQUAL" in out
    assert (tmp_path / "optimized.onnx").is_file()


def test_explain_a_file(tmp_path: Path) -> None:
    assert "RMSNormalization" in _run("explain_a_file.py", folder=tmp_path)


def test_define_an_operation(tmp_path: Path) -> None:
    out = _run("define_an_operation.py", folder=tmp_path)
    assert "y = Squareplus(x)  {'b': 1.5}" in out
    assert "{'tautomer.Squareplus': 1}, EQUAL" in out


def test_convert_a_torch_model(tmp_path: Path) -> None:
    out = _run("convert_a_torch_model.py", folder=tmp_path)
    assert "3 layer normalisations converted" in out
    apart = [float(line.rpartition(":")[2]) for line in out.splitlines()[-3:]]
    assert all(0.0 < each < 1e-4 for each in apart)  # float32, scores up to about 20


def test_models(tmp_path: Path) -> None:
    scripts = sorted(str(path) for path in EXAMPLES.glob("models_*.py"))
    # in one process: importing what they need takes longer than they do
    lines = [
        "import runpy, sys",
        f"sys.path.insert(0, {str(EXAMPLES)!r})",
        "sys.argv.append('--quick')",
        *(f"runpy.run_path({script!r}, run_name='__main__')" for script in scripts),
    ]
    command = [sys.executable, "-c", "\n".join(lines)]
    # no compiler: operators run their functions, and no kernels are built, which takes longest
    bare = {**os.environ, "CXX": "", "PATH": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=bare, check=False)
    assert done.returncode == 0, done.stderr
    out = done.stdout
    assert all(one in out for one in ("ViT", "LSSAR", "1 x SparseLinear"))
    assert out.count("verified: EQUAL") == 4
    apart = [float(line.split()[2]) for line in out.splitlines() if "largest difference" in line]
    assert all(each < 1e-5 for each in apart)  # of float32, through one or two layers


def test_a_definition_is_forgotten_when_asked() -> None:
    @operation.operation("Cube", domain="tautomer")
    def cube(m, x):
        """x^3."""
        return x * x * x

    assert operation.definition_of("Cube") is not None
    operation.forget("Cube")
    assert operation.definition_of("Cube") is None


def test_the_demo_model_is_small_and_names_no_file_of_the_machine_that_made_it() -> None:
    data = (EXAMPLES / "models" / "llama_tiny.onnx").read_bytes()
    assert len(data) < 1_000_000
    for path in (b"site-packages", b"/home/", b"/root/", b".py"):
        assert path not in data


@pytest.mark.parametrize("script", sorted(path.name for path in EXAMPLES.glob("*.py")))
def test_examples_stay_short_enough_to_copy(script: str) -> None:
    assert len((EXAMPLES / script).read_text().splitlines()) <= 80
