"""The system's compiler: which one is taken, what it is given, and every way in which it can fail."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest
from doubling import TEXT, kernel_text

from tautomer.errors import CheckFailedError, MissingToolError
from tautomer.runtime import child_process, compiler
from tautomer.runtime.loaded import load

pytestmark = pytest.mark.usefixtures("real_compiler")


def test_a_library_is_made(tmp_path):
    compiler.compile(TEXT, [], tmp_path / "kernel.so")
    assert load(tmp_path / "kernel.so", "doubled")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kernel.cpp", "kernel.so"]
    assert (tmp_path / "kernel.cpp").read_text() == TEXT
    assert [path.stat().st_mode & 0o022 for path in tmp_path.iterdir()] == [0, 0]


def test_the_same_text_gives_the_same_library_anywhere(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        compiler.compile(TEXT, [], tmp_path / name / "kernel.so")
    assert (tmp_path / "a/kernel.so").read_bytes() == (tmp_path / "b/kernel.so").read_bytes()


def test_a_text_that_is_not_cpp(tmp_path):
    with pytest.raises(CheckFailedError, match=r"exit code 1 on a kernel: kernel\.cpp:.*error") as caught:
        compiler.compile(kernel_text(before="this is not C++;"), [], tmp_path / "kernel.so")
    assert len(str(caught.value)) < 600
    assert caught.value.remedy


def test_a_compiler_that_fails_and_says_too_much(tmp_path, fake_compiler):
    fake_compiler("yes 'an error: \033[31m' | head -c 300000 >&2; exit 3")
    with pytest.raises(CheckFailedError, match="exit code 3 on a kernel: an error: ") as caught:
        compiler.compile(TEXT, [], tmp_path / "kernel.so")
    assert len(str(caught.value)) < 600
    assert str(caught.value).isprintable()


def test_a_compiler_that_is_killed(tmp_path, fake_compiler):
    fake_compiler("kill -KILL $$")
    with pytest.raises(CheckFailedError, match="was ended by SIGKILL on a kernel: it said nothing"):
        compiler.compile(TEXT, [], tmp_path / "kernel.so")


def test_a_compiler_that_hangs_goes_with_all_that_it_started(tmp_path, fake_compiler):
    fake_compiler("sleep 60 & echo $! >child; wait")
    before = time.monotonic()
    with pytest.raises(CheckFailedError, match=r"longer than 0\.3 s"):
        compiler.compile(TEXT, [], tmp_path / "kernel.so", timeout=0.3)
    assert time.monotonic() - before < 5
    child = (tmp_path / "child").read_text().strip()
    for _ in range(100):
        status = Path(f"/proc/{child}/stat")
        if not status.exists() or status.read_text().split()[2] == "Z":
            break
        time.sleep(0.02)
    else:
        pytest.fail("what the compiler started is still running")


def test_an_interrupt_ends_the_compiler(tmp_path, fake_compiler, monkeypatch):
    fake_compiler("echo $$ >child; sleep 60")

    def interrupted(process, timeout):
        while not (tmp_path / "child").exists():
            time.sleep(0.01)
        raise KeyboardInterrupt

    monkeypatch.setattr(child_process, "_wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        compiler.compile(TEXT, [], tmp_path / "kernel.so")
    assert not Path("/proc", (tmp_path / "child").read_text().strip()).exists()


def test_a_compiler_that_writes_nothing(tmp_path, fake_compiler):
    fake_compiler("exit 0")
    with pytest.raises(CheckFailedError, match="wrote no library"):
        compiler.compile(TEXT, [], tmp_path / "kernel.so")


def test_a_full_disk_is_not_the_kernels_fault(tmp_path, fake_compiler):
    fake_compiler("echo 'fatal error: error writing to x.s: No space left on device' >&2; exit 1")
    with pytest.raises(OSError, match="No space left"):
        compiler.compile(TEXT, [], tmp_path / "kernel.so")


def test_no_compiler(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(MissingToolError, match=r"no C\+\+ compiler was found; install g\+\+") as caught:
        compiler.compile(TEXT, [], tmp_path / "kernel.so")
    assert caught.value.exit_code == 3


def test_a_compiler_that_went_away(tmp_path, fake_compiler):
    path = fake_compiler("exit 0")
    assert compiler.find().command == (str(path),)
    path.unlink()
    with pytest.raises(MissingToolError, match="cannot be started any more"):
        compiler.compile(TEXT, [], tmp_path / "kernel.so")


@pytest.mark.parametrize("named", ["", "  ", "nowhere-c++", "'unclosed", "false"])
def test_cxx_that_names_no_compiler_is_passed_over(named, monkeypatch):
    monkeypatch.setenv("CXX", named)
    assert Path(compiler.find().command[0]).name in compiler.NAMES


def test_cxx_may_hold_arguments(tmp_path, monkeypatch):
    real = shutil.which("c++") or shutil.which("g++")
    monkeypatch.setenv("CXX", f"{real} -DSCALE=3")
    found = compiler.find()
    assert found.command[1:] == ("-DSCALE=3",)
    assert found.fingerprint.startswith("-DSCALE=3\n")
    compiler.compile("#if SCALE != 3\n#error no\n#endif\n" + TEXT, [], tmp_path / "kernel.so")


def test_no_shell_reads_flags_or_names(tmp_path):
    folder = tmp_path / "$(touch hit) ;"
    folder.mkdir()
    compiler.compile(TEXT, ["-DX=$(touch hit)"], folder / "kernel.so")
    assert "hit" not in os.listdir(folder) + os.listdir(tmp_path)  # noqa: PTH208
