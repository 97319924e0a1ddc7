"""Whatever is wrong with compiler, caches or tensors: the model runs, and one line says what is missing."""

from __future__ import annotations

import functools
import logging
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from ort_cases import model, rms_of

import tautomer
from tautomer.runtime import compiler

onnxruntime = pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.usefixtures("real_compiler")

NORM = """
g ({type}[N, D] x, {type}[D] w) => ({type}[N, D] y) {{
  y = tautomer.RMSNormalization <axis = -1, epsilon = 0.25> (x, w)
}}"""
random = np.random.default_rng(0)


def saved(folder: Path, element_type: str = "float") -> Path:
    """A model whose function body computes something else than its kernel: x w - x."""
    path = folder / "model.onnx"
    onnx.save(model(NORM.format(type=element_type)), path)
    return path


def run_twice(path: Path, caplog: pytest.LogCaptureFixture) -> str:
    """Runs the model in two sessions, by its function body; the one line that is said of it."""
    x, w = random.standard_normal((5, 9)).astype(np.float32), np.full(9, 2, np.float32)
    for _ in range(2):
        assert np.array_equal(tautomer.session(path).run(None, {"x": x, "w": w})[0], x * w - x)
    assert [(one.name, one.levelno) for one in caplog.records] == [("tautomer.session", logging.WARNING)]
    return caplog.text


CRASHING = """
cat >"$TMPDIR/at_load.h" <<'end'
extern "C" int raise(int);
__attribute__((constructor)) static void at_load() { raise(11); }
end
exec "$REAL" -include "$TMPDIR/at_load.h" "$@"
"""


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("exit 1", "failed with exit code 1"),
        ("kill -SEGV $$", "was ended by SIGSEGV"),
        ("sleep 60", "took longer than 0.3 s"),
        ("exit 0", "wrote no library"),
        ('while [ "$1" != -o ]; do shift; done; echo rubbish >"$2"', "cannot be loaded"),
        (CRASHING, "it crashes while its library is loaded (SIGSEGV)"),
    ],
    ids=["fails", "crashes", "hangs", "writes nothing", "writes rubbish", "makes what crashes"],
)
def test_a_compiler_that_is_no_use(
    cache: Path,
    fake_compiler: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    script: str,
    reason: str,
) -> None:
    fake_compiler(script)
    if script.startswith("sleep"):
        monkeypatch.setattr(compiler, "compile", functools.partial(compiler.compile, timeout=0.3))
    assert reason in run_twice(saved(tmp_path), caplog)
    assert not [path for path in cache.iterdir() if path.suffix == ".tmp"]


def test_no_folder_that_libraries_can_be_kept_in(
    cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    def full(*_: object, **__: object) -> str:
        raise OSError(28, "No space left on device")

    cache.parent.write_text("a file in the place of the cache")
    path = saved(tmp_path)
    monkeypatch.setattr(tempfile, "mkdtemp", full)
    said = run_twice(path, caplog)
    assert "no folder can hold native kernels" in said
    assert "No space left on device" in said


@pytest.mark.parametrize("element_type", ["double", "int32", "int64"])
def test_element_types_without_kernels(
    cache: Path, caplog: pytest.LogCaptureFixture, tmp_path: Path, element_type: str
) -> None:
    x = np.arange(45).reshape(5, 9).astype({"double": "f8"}.get(element_type, element_type))
    w = np.full(9, 2, x.dtype)
    got = tautomer.session(saved(tmp_path, element_type)).run(None, {"x": x, "w": w})[0]
    assert got.dtype == x.dtype
    assert np.array_equal(got, x * w - x)
    assert len(caplog.records) == 1


def at_odd_address(values: np.ndarray) -> np.ndarray:
    """A copy that begins at an odd address, where no number of more than a byte may lie by the rules of C."""
    room = bytearray(values.nbytes + 2)
    start = 1 - np.frombuffer(room, np.uint8).ctypes.data % 2
    room[start : start + values.nbytes] = values.tobytes()
    return np.frombuffer(room, values.dtype, values.size, start).reshape(values.shape)


def test_tensors_of_every_layout(cache: Path, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    wide = random.standard_normal((40, 80)).astype(np.float32)
    layouts = {
        "every second column": wide[:, ::2],
        "transposed": wide.T[:, :40],
        "backwards": wide[::-1, :40],
        "one row many times": np.broadcast_to(wide[:1, :40], (6, 40)),
        "behind one element": wide.reshape(-1)[1:1601].reshape(40, 40),
        "odd address": at_odd_address(wide[:, :40]),
        "no rows": wide[:0, :40],
        "read only": wide[:, :40].copy(),
    }
    layouts["read only"].flags.writeable = False
    assert not layouts["odd address"].flags.aligned
    w = random.standard_normal(40).astype(np.float32)
    session = tautomer.session(saved(tmp_path))
    for name, x in layouts.items():
        got = session.run(None, {"x": x, "w": w})[0]
        np.testing.assert_allclose(got, rms_of(x, w, 0.25), atol=1e-5, err_msg=name)
    assert session.run(None, {"x": wide[:, :0], "w": w[:0]})[0].shape == (40, 0)
    assert not caplog.records
