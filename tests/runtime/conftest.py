"""Compilers that misbehave, caches of one's own, and programs that use them."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tautomer.errors import MissingToolError
from tautomer.runtime import cache_folder, compiler

_JOB = """
import json, logging, resource, sys, time
sys.path.insert(0, sys.argv[1])
from doubling import TEXT, is_double, trial
from tautomer.errors import TautomerError
from tautomer.runtime import compiler
from tautomer.runtime.first_run import first_run
from tautomer.runtime.kernel_cache import library
from tautomer.runtime.loaded import call_rows, load
import numpy as np
logging.basicConfig(stream=sys.stderr, format="%(message)s")
one = trial()
def spent():
    of_children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + of_children.ru_utime + of_children.ru_stime
before = spent()
try:
    path = library(TEXT, check=lambda built: first_run(built, one, is_double(one)))
except TautomerError as error:
    print(json.dumps({"error": type(error).__name__, "text": str(error)}))
    sys.exit()
seconds = spent() - before
out = np.zeros((5, 7), np.float32)
call_rows(load(path, "doubled"), one.inputs, [out], [2.0], 5, 7)
print(json.dumps({"path": str(path), "seconds": seconds, "reason": is_double(one)([out])}))
"""


@pytest.fixture
def real_compiler() -> None:
    """Skips where there is none."""
    try:
        compiler.find()
    except MissingToolError as error:
        pytest.skip(str(error))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of kernels, in a cache of this test's own."""
    monkeypatch.setenv("TAUTOMER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache_folder, "_private", None)
    cache_folder.say_once.cache_clear()
    return tmp_path / "cache" / "kernels"


@pytest.fixture
def fake_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Makes a shell script the compiler; it knows the real one as $REAL."""

    def make(script: str) -> Path:
        path = tmp_path / "fake-c++"
        path.write_text(
            "#!/bin/sh\n"
            'if [ "$1" = --version ]; then echo fake 1.0; exit 0; fi\n'
            f"REAL={shlex.quote(shutil.which('c++') or 'g++')}\n{script}\n"
        )
        path.chmod(0o700)
        monkeypatch.setenv("CXX", str(path))
        return path

    return make


@pytest.fixture
def job() -> list[str]:
    """A program that gets the kernel from the cache, runs it and prints what happened."""
    return [sys.executable, "-c", _JOB, str(Path(__file__).parent)]


@pytest.fixture
def mounted(tmp_path: Path) -> Callable[..., list[subprocess.CompletedProcess[str]]]:
    """Runs programs one after the other, their cache a file system that is mounted as each asks."""
    place = tmp_path / "mounted"
    place.mkdir()

    def run(*steps: tuple[str, list[str]]) -> list[subprocess.CompletedProcess[str]]:
        script = [f"mount -t tmpfs -o mode=0700 tmpfs {shlex.quote(str(place))}"]
        for index, (options, command) in enumerate(steps):
            script.append(f"mount -o remount,{options} {shlex.quote(str(place))}")
            script.append(f"{shlex.join(command)} >{tmp_path}/out{index} 2>{tmp_path}/err{index}")
            script.append(f"echo $? >{tmp_path}/rc{index}")
        inside = [*("unshare", "-rm", "sh", "-c"), "\n".join(script)]
        environment = {**os.environ, "TAUTOMER_CACHE": str(place), "TMPDIR": str(tmp_path)}
        trying = ["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", str(place)]
        if not shutil.which("unshare") or subprocess.run(trying, capture_output=True, check=False).returncode:
            pytest.skip("file systems cannot be mounted here")
        subprocess.run(inside, env=environment, check=True)
        return [
            subprocess.CompletedProcess(
                command,
                int((tmp_path / f"rc{index}").read_text()),
                (tmp_path / f"out{index}").read_text(),
                (tmp_path / f"err{index}").read_text(),
            )
            for index, (_, command) in enumerate(steps)
        ]

    return run
