"""Whatever is wrong with the input: the right exit code, one line on stderr, no traceback, no files."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnx.parser
import pytest
from onnx import TensorProto

HEAD = '<ir_version: 8, opset_import: ["" : 17]>\n'


def parsed(text: str, path: Path) -> Path:
    path.write_bytes(onnx.parser.parse_model(text).SerializeToString())
    return path


def external(path: Path, location: str) -> Path:
    model = onnx.parser.parse_model(HEAD + "g (float[4] x) => (float[4] y) { y = Add(x, x) }")
    tensor = TensorProto(name="w", data_type=1, dims=[4], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    model.graph.initializer.append(tensor)
    path.write_bytes(model.SerializeToString())
    return path


def not_onnx(folder: Path) -> Path:
    (folder / "m.onnx").write_text("this is a text\nof two lines")
    return folder / "m.onnx"


def truncated(folder: Path) -> Path:
    path = parsed(HEAD + "g (float[4] x) => (float[4] y) { y = Neg(x) }", folder / "m.onnx")
    path.write_bytes(path.read_bytes()[:-9])
    return path


def linked(folder: Path) -> Path:
    (folder / "link.bin").symlink_to("/etc/passwd")
    return external(folder / "m.onnx", "link.bin")


def empty(folder: Path) -> Path:
    (folder / "m.onnx").touch()
    return folder / "m.onnx"


INPUTS = {
    "not onnx": (not_onnx, "not an ONNX model"),
    "truncated": (truncated, "cut short"),
    "empty": (empty, "empty"),
    "absent": (lambda folder: folder / "absent.onnx", "No such file"),
    "a folder": (lambda folder: folder, "folder"),
    "missing external data": (lambda folder: external(folder / "m.onnx", "absent.bin"), "absent.bin"),
    "external data above": (lambda folder: external(folder / "m.onnx", "../w.bin"), "outside"),
    "external data elsewhere": (lambda folder: external(folder / "m.onnx", "/etc/passwd"), "outside"),
    "external data behind a link": (linked, "symbolic link"),
    "cyclic": (
        lambda folder: parsed(
            HEAD + "g (float[4] x) => (float[4] y) { [ring] y = Add(x, z)  z = Neg(y) }", folder / "m.onnx"
        ),
        "cycle",
    ),
    "dangling": (
        lambda folder: parsed(
            HEAD + "g (float[4] x) => (float[4] y) { [a] y = Add(x, ghost) }", folder / "m.onnx"
        ),
        'node a: reads the value "ghost"',
    ),
    "unknown opset": (
        lambda folder: parsed(
            '<ir_version: 8, opset_import: ["" : 999]> g (float[4] x) => (float[4] y) { y = Neg(x) }',
            folder / "m.onnx",
        ),
        "newer than the installed onnx",
    ),
}


@pytest.mark.parametrize("verb", ["inspect", "explain", "optimize"])
@pytest.mark.parametrize("name", INPUTS)
def test_bad_models(name, verb, call, tmp_path, listing):
    make, says = INPUTS[name]
    path = make(tmp_path)
    before = listing()
    done = call(
        verb, path, *(["out.onnx"] if verb == "optimize" else []), *(["--json"] if name == "empty" else [])
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert says in done.stderr
    assert listing() == before


def test_unknown_operators_pass(call, tmp_path):
    text = '<ir_version: 8, opset_import: ["" : 17, "com.example" : 9]> g (float[4] x) => (float[4] y) '
    path = parsed(
        text + "{ h = com.example.Strange <how = 3> (x)  y = FutureOperator(h) }", tmp_path / "m.onnx"
    )
    assert call("inspect", path).returncode == 0
    assert call("explain", path).returncode == 0
    done = call("optimize", path, "out.onnx")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out.onnx").read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("out", "code", "says"),
    [
        ("in.onnx", 2, "the input itself"),
        ("./in.onnx", 2, "the input itself"),
        ("old.onnx", 2, "--force"),
        ("folder", 2, "folder"),
        ("absent/out.onnx", 4, "no such folder"),
        ("in.onnx/out.onnx", 4, "no such folder"),
        ("/proc/out.onnx", 4, "choose another"),
    ],
)
def test_bad_outputs(out, code, says, call, model, tmp_path, listing):
    (tmp_path / "old.onnx").write_bytes(b"precious")
    (tmp_path / "folder").mkdir()
    before = listing()
    for force in ([], ["--force"]) if says != "--force" else ([],):
        done = call("optimize", model, out, *force)
        assert done.returncode == code
        assert done.stdout == ""
        assert len(done.stderr.splitlines()) == 1
        assert says in done.stderr
        assert listing() == before


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["inspect"],
        ["inspect", "a", "b"],
        ["optimize", "in.onnx"],
        ["inspect", "a", "--target", "native"],
    ],
)
def test_wrong_usage(arguments, call):
    done = call(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--taget"], "tautomer: unrecognized arguments: --taget"),
        (
            ["optimize", "in.onnx", "out.onnx", "--taget"],
            "tautomer optimize: unrecognized arguments: --taget",
        ),
        (["inspect", "a", "b"], "tautomer inspect: unrecognized arguments: b; see tautomer inspect --help"),
    ],
)
def test_wrong_usage_names_the_help_of_the_verb(arguments, says, call):
    assert says in call(*arguments).stderr


@pytest.mark.parametrize(
    "asked", [["--pass", "topk_activations"], ["--allow", "fatrelu"], ["--predicted-sparsity"], ["--int8"]]
)
def test_a_change_of_the_model_is_refused_by_name(asked, call):
    done = call("optimize", "in.onnx", "out.onnx", *asked)
    assert done.returncode == 2
    assert "is a change of the model and no rewrite of it: " in done.stderr


def test_no_arguments_is_wrong_usage_with_help(call):
    done = call()
    assert done.returncode == 2
    assert done.stdout == ""
    assert "optimize" in done.stderr


def test_a_process_of_its_own(run, tmp_path, listing):
    path = truncated(tmp_path)
    before = listing()
    done = run("optimize", path, "out.onnx")
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert listing() == before
