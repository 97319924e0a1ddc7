"""A kernel's first run: whatever it does, this process lives, and the reason says what it did."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from doubling import TEXT, is_double, kernel_text, trial

from tautomer.errors import CheckFailedError, InternalError
from tautomer.runtime import compiler
from tautomer.runtime import first_run as under_test
from tautomer.runtime.first_run import first_run
from tautomer.runtime.loaded import call_rows, load, usable_threads

pytestmark = pytest.mark.usefixtures("real_compiler")


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library of the kernel that doubles."""
    path = tmp_path_factory.mktemp("good") / "kernel.so"
    compiler.compile(TEXT, [], path)
    return path


def reason_for(tmp_path: Path, timeout: float = 20.0, **parts: str) -> str | None:
    path = tmp_path / "kernel.so"
    compiler.compile(kernel_text(**parts), [], path)
    one = trial()
    reason = first_run(path, one, is_double(one), timeout=timeout)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["kernel.cpp", "kernel.so"]
    return reason


@pytest.mark.parametrize(("rows", "columns"), [(5, 7), (1, 1), (1, 0), (0, 3), (64, 1024)])
def test_a_good_kernel(good, rows, columns):
    one = trial(rows, columns)
    assert first_run(good, one, is_double(one)) is None


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ({"before": "raise(SIGSEGV);"}, "it crashes when it runs (SIGSEGV)"),
        ({"before": "__builtin_trap();"}, "it crashes when it runs (SIGILL)"),
        (
            {"extra": "__attribute__((constructor)) static void at_load() { raise(SIGSEGV); }"},
            "it crashes while its library is loaded (SIGSEGV)",
        ),
        (
            {"extra": "__attribute__((destructor)) static void at_end() { raise(SIGABRT); }"},
            "it crashes when the process ends that ran it (SIGABRT)",
        ),
        ({"after": "out[first * columns] += 1;"}, "it is not twice its input"),
        (
            {"after": 'out[first * columns] = __builtin_nanf("");'},
            "it leaves NaN in 2 of 35 elements of output 0",
        ),
        ({"before": "if (first == 0) return;"}, "it leaves NaN in 14 of 35 elements of output 0"),
        # one element too many, behind all rows, behind its own, and in front
        ({"after": "out[last * columns] = 0;"}, "it crashes when it runs (SIGSEGV)"),
        ({"after": "if (first == 0) out[last * columns] = 0;"}, "it is not twice its input"),
        ({"after": "if (first == 0) out[-1] = 0;"}, "it writes in front of output 0"),
        ({"after": "out[0] = 2 * in[35] > 1e30f;"}, "it crashes when it runs (SIGSEGV)"),
        ({"after": "const_cast<float*>(in)[0] = 1;"}, "it crashes when it runs (SIGSEGV)"),
    ],
)
def test_kernels_that_misbehave(tmp_path, parts, reason):
    assert reason_for(tmp_path, **parts) == reason


def test_a_kernel_that_hangs(tmp_path):
    parts = {"before": "for (volatile int i = 0;; i = 0) {}"}
    assert reason_for(tmp_path, timeout=0.7, **parts) == "it does not end within 0.7 s"


def test_rubbish_instead_of_a_library(tmp_path):
    path = tmp_path / "kernel.so"
    path.write_bytes(b"rubbish" * 100)
    one = trial()
    assert "cannot be loaded" in (first_run(path, one, is_double(one)) or "")
    with pytest.raises(CheckFailedError, match="cannot be loaded"):
        load(path, "doubled")


def test_a_library_without_the_function(good):
    one = replace(trial(), symbol="tripled")
    assert first_run(good, one, is_double(one)) == "its library does not hold its function"
    with pytest.raises(CheckFailedError, match="holds no function tripled"):
        load(good, "tripled")


def test_nan_may_be_left_to_the_comparison(good):
    one = trial()
    one.inputs[0][0, 0] = np.nan
    assert first_run(good, one, lambda outputs: None) == "it leaves NaN in 1 of 35 elements of output 0"
    assert first_run(good, replace(one, may_be_nan=True), lambda outputs: None) is None
    assert first_run(good, replace(one, may_be_nan=True), lambda outputs: "no") == "no"


def test_parameters_arrive_exactly(good):
    for scale in (0.1, float("inf"), -0.0, 5e-324):
        one = replace(trial(), inputs=[np.ones((5, 7), np.float32)], parameters=[scale])
        with np.errstate(over="ignore", under="ignore"):
            expected = np.full((5, 7), np.float32(scale))
        assert (
            first_run(good, one, lambda got, want=expected: None if (got[0] == want).all() else "no") is None
        )


def test_a_child_that_cannot_run_says_nothing_about_the_kernel(good, tmp_path, monkeypatch):
    broken = tmp_path / "child.py"
    for code in ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "1 / 0", ""):
        broken.write_text(code)
        monkeypatch.setattr(under_test, "_CHILD", broken)
        one = trial()
        with pytest.raises(OSError, match="did not take place"):
            first_run(good, one, is_double(one))


@pytest.mark.parametrize("threads", [1, 2, 3, 8, 100])
def test_rows_over_threads(good, threads):
    one = trial(11, 13)
    out = np.zeros((11, 13), np.float32)
    call_rows(load(good, "doubled"), one.inputs, [out], [2.0], 11, 13, threads)
    assert is_double(one)([out]) is None
    assert usable_threads() >= 1


def test_arrays_that_a_kernel_must_not_be_given(good):
    function = load(good, "doubled")
    x = np.zeros((4, 6), np.float32)
    fixed = np.zeros((4, 3), np.float32)
    fixed.flags.writeable = False
    with pytest.raises(InternalError, match="input 0 of a kernel is not contiguous"):
        call_rows(function, [x[:, ::2]], [np.zeros((4, 3), np.float32)], [2.0], 4, 3)
    with pytest.raises(InternalError, match="output 0 of a kernel is not contiguous"):
        call_rows(function, [fixed], [x[:, ::2]], [2.0], 4, 3)
    with pytest.raises(InternalError, match="output 0 of a kernel cannot be written"):
        call_rows(function, [fixed], [fixed], [2.0], 4, 3)
