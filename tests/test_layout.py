"""The house: links at the root, floors, what importing costs, and the public names."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import tautomer

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", ["passes", "patterns", "codegen", "runtime"])
def test_links_at_the_root_lead_into_the_package(name: str) -> None:
    link = ROOT / name
    assert link.is_symlink()
    assert link.resolve() == (ROOT / "tautomer" / name).resolve()


def test_the_public_names_are_these_and_exist() -> None:
    public = [
        "Channel",
        "Operation",
        "Remark",
        "Result",
        "Scalar",
        "Verdict",
        "Weight",
        "explain",
        "inspect",
        "operation",
        "optimize",
        "session",
        "verify",
    ]
    assert sorted(tautomer.__all__) == sorted([*public, "__version__"])
    for name in tautomer.__all__:
        assert getattr(tautomer, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = tautomer.nothing


def _modules_after(code: str) -> set[str]:
    printing = f"import sys\n{code}\nprint('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", printing], capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in done.stdout.split()}


def test_importing_the_package_imports_nothing_heavy() -> None:
    assert not _modules_after("import tautomer") & {
        "numpy",
        "onnx",
        "onnx_ir",
        "networkx",
        "torch",
        "onnxruntime",
    }


def test_an_onnx_job_imports_no_torch() -> None:
    job = f"import tautomer\ntautomer.optimize({str(ROOT / 'examples/models/llama_tiny.onnx')!r})"
    loaded = _modules_after(job)
    assert "onnxruntime" in loaded
    assert not loaded & {"torch", "triton", "transformers"}


def test_verify_is_the_function_even_after_its_folder_was_imported() -> None:
    code = "import tautomer\nfrom tautomer.verify.algebra import check\nassert callable(tautomer.verify)"
    assert "tautomer" in _modules_after(code)
