"""The installed command on a real model: results, streams, signals, terminals."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys

import onnx
import pytest

from tautomer import __version__


def test_version(run):
    done = run("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"tautomer {__version__}\n", "")


def test_inspect_explain_optimize(run, model, tmp_path):
    operations = json.loads(run("inspect", model, "--json").stdout)["operations"]
    assert [(one["op"], one["output"]) for one in operations] == [("RMSNormalization", "y")]
    assert json.loads(run("explain", model, "--json").stdout)["schema_version"] == 1
    done = run("optimize", model, "out.onnx", "--json")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert set(json.loads(done.stdout)) == {
        "schema_version",
        "before",
        "after",
        "remarks",
        "verification",
        "seconds",
    }
    onnx.checker.check_model(onnx.load(tmp_path / "out.onnx"))


def test_doctor(run):
    done = run("doctor", "--json")
    assert done.returncode == 0
    findings = {one["name"]: one for one in json.loads(done.stdout)["findings"]}
    assert findings["numpy"]["status"] == "ok"
    assert {"python", "tautomer", "onnx", "torch", "triton", "compiler", "processor", "cores"} <= set(
        findings
    )
    assert all(one["status"] == "ok" or one["remedy"] for one in findings.values())


def test_names_that_the_terminal_cannot_show(run, tmp_path):
    done = run("inspect", tmp_path / "\u4f60\n\udcff.onnx", PYTHONIOENCODING="ascii", LC_ALL="C")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1


def test_a_closed_pipe_is_quiet(model):
    command = f"{sys.executable} -m tautomer inspect {model} | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "0"
    assert done.stderr == ""


_SLOW = """
import signal, sys, time
from pathlib import Path
from tautomer import api

# a shell that starts the tests in the background has its children ignore interrupts
signal.signal(signal.SIGINT, signal.default_int_handler)
from tautomer.cli import main
from tautomer.graph.publish import staging

def optimize(source, **asked):
    with staging(Path(sys.argv[2])) as stage:
        stage.open(Path(sys.argv[2])).write(b"half")
        print("ready", flush=True)
        time.sleep(60)

api.optimize = optimize
sys.exit(main(["optimize", *sys.argv[1:]]))
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_leave_no_files(number, code, model, tmp_path):
    command = [sys.executable, "-c", _SLOW, str(model), str(tmp_path / "out.onnx")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    assert len(list(tmp_path.iterdir())) == 2
    process.send_signal(number)
    _, err = process.communicate(timeout=10)
    assert process.returncode == code
    assert len(err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == [model]


def on_a_terminal(*arguments: str, **environment: str) -> str:
    """What a terminal receives."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "tautomer", *arguments],
        stdout=follower,
        stderr=follower,
        env={**os.environ, "TERM": "xterm", **environment},
    )
    os.close(follower)
    received = b""
    while True:
        try:
            block = os.read(leader, 1 << 16)
        except OSError:  # the other end is closed
            break
        if not block:
            break
        received += block
    process.wait()
    os.close(leader)
    return received.decode()


def test_colour_and_progress_only_on_a_terminal(model, run):
    assert "\x1b" not in run("inspect", model).stdout
    shown = on_a_terminal("inspect", str(model))
    assert "\x1b[1moperation" in shown
    assert "reading and recognising ..." in shown
    plain = on_a_terminal("inspect", str(model), "-q", NO_COLOR="1")
    assert "\x1b" not in plain
