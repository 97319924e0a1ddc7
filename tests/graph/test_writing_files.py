"""Output files appear whole or not at all, never over their source, and always with the same bytes."""

from __future__ import annotations

import errno
import hashlib
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper

from tautomer.errors import InputError, ResourceError
from tautomer.graph import writer
from tautomer.graph.reader import read_model
from tautomer.graph.writer import copy_model, write_model


def proto(*, names: tuple[str, ...] = ("a", "b"), length: int = 2000) -> onnx.ModelProto:
    arrays = [np.arange(length, dtype=np.float32) + k for k in range(len(names))]
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Sum", ["x", *names], ["y"], name="sum")],
        "g",
        [info("x", 1, [length])],
        [info("y", 1, [length])],
        [numpy_helper.from_array(array, name) for array, name in zip(arrays, names, strict=True)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def inline(tmp_path: Path) -> Path:
    path = tmp_path / "in.onnx"
    path.write_bytes(proto().SerializeToString())
    return path


@pytest.fixture
def apart(tmp_path: Path) -> Path:
    """A model with external data in a folder of its own."""
    folder = tmp_path / "source"
    folder.mkdir()
    onnx.save(proto(), folder / "in.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    return folder / "in.onnx"


def listing(folder: Path) -> dict[str, str]:
    """The files below the folder by their content."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def weights(path: Path) -> dict[str, list[float]]:
    values = read_model(path).graph.initializers.items()
    return {name: value.const_value.numpy().tolist() for name, value in values}


def test_inline_weights(inline, tmp_path):
    model = read_model(inline)
    write_model(model, tmp_path / "out.onnx")
    assert weights(tmp_path / "out.onnx") == weights(inline)
    onnx.checker.check_model(str(tmp_path / "out.onnx"), full_check=True)
    assert sorted(listing(tmp_path)) == ["in.onnx", "out.onnx"]
    assert not isinstance(model.graph.initializers["a"].const_value, ir.ExternalTensor)


def test_external_weights_go_to_one_file_beside_the_model(apart, tmp_path):
    model = read_model(apart)
    before = model.graph.initializers["a"].const_value
    write_model(model, tmp_path / "out.onnx")
    assert weights(tmp_path / "out.onnx") == weights(apart)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.onnx", "out.onnx.data", "source"]
    assert model.graph.initializers["a"].const_value is before
    onnx.checker.check_model(str(tmp_path / "out.onnx"), full_check=True)


def test_a_model_too_large_for_one_file_is_split(inline, tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "LARGEST_FILE", 10_000)
    write_model(read_model(inline), tmp_path / "out.onnx")
    assert (tmp_path / "out.onnx.data").stat().st_size >= 16_000
    assert (tmp_path / "out.onnx").stat().st_size < 1000
    assert weights(tmp_path / "out.onnx") == weights(inline)


def test_external_data_is_aligned_and_shared_tensors_stay_shared(tmp_path):
    model = proto(names=("a", "b", "c"), length=300_001)
    del model.graph.initializer[1:]
    source = tmp_path / "in.onnx"
    onnx.save(model, source, save_as_external_data=True, location="w.bin", size_threshold=0)
    model = onnx.load(source, load_external_data=False)
    for name in ("b", "c"):
        model.graph.initializer.append(model.graph.initializer[0])
        model.graph.initializer[-1].name = name
    source.write_bytes(model.SerializeToString())
    read = read_model(source)
    read.graph.initializers["c"].const_value = ir.Tensor(np.ones(300_001, np.float32), name="c")
    write_model(read, tmp_path / "out.onnx")
    written = read_model(tmp_path / "out.onnx").graph.initializers
    places = [written[name].const_value.offset for name in ("a", "b", "c")]
    assert places == [0, 0, 1_200_128]  # the next page after the 1,200,004 bytes of a
    assert places[2] % 4096 == 0
    assert written["c"].const_value.numpy().sum() == 300_001


def test_constants_with_external_data(apart, tmp_path):
    model = onnx.load(apart, load_external_data=False)
    tensor = model.graph.initializer.pop()
    model.graph.node.insert(0, helper.make_node("Constant", [], [tensor.name], value=tensor))
    apart.write_bytes(model.SerializeToString())
    read = read_model(apart)
    write_model(read, tmp_path / "out.onnx")
    assert read.graph[0].attributes["value"].value.location == "w.bin"
    written = read_model(tmp_path / "out.onnx")
    assert written.graph[0].attributes["value"].value.location == "out.onnx.data"
    assert written.graph[0].attributes["value"].value.numpy().tolist() == list(range(1, 2001))


@pytest.mark.parametrize(
    "dtype", ["FLOAT16", "BFLOAT16", "FLOAT8E4M3FN", "INT4", "UINT2", "INT64", "BOOL", "DOUBLE"]
)
@pytest.mark.parametrize("limit", [10**9, 0])
def test_every_kind_of_values(dtype, limit, tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "LARGEST_FILE", limit)
    kind = ir.DataType[dtype]
    array = (np.arange(20_000) % 2).astype(kind.numpy())
    model = ir.from_proto(proto())
    model.graph.initializers["a"].const_value = ir.Tensor(array, dtype=kind, name="a")
    model.graph.initializers["a"].shape, model.graph.initializers["a"].dtype = ir.Shape([20_000]), kind
    write_model(model, tmp_path / "out.onnx")
    written = read_model(tmp_path / "out.onnx").graph.initializers["a"].const_value
    assert written.dtype == kind
    assert written.tobytes() == ir.Tensor(array, dtype=kind).tobytes()


def test_the_same_model_gives_the_same_bytes_in_every_process(inline, tmp_path):
    program = (
        "import sys; from tautomer.graph import reader, writer;"
        "writer.write_model(reader.read_model(sys.argv[1]), sys.argv[2])"
    )
    found = set()
    for seed in ("0", "1"):
        out = tmp_path / f"{seed}.onnx"
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        subprocess.run([sys.executable, "-c", program, inline, out], env=environment, check=True)
        found.add(out.read_bytes())
    assert len(found) == 1


def test_an_existing_output_needs_force(inline, apart, tmp_path):
    out = tmp_path / "out.onnx"
    out.write_bytes(b"precious")
    for write in (
        lambda **k: write_model(read_model(inline), out, **k),
        lambda **k: copy_model(inline, out, **k),
    ):
        out.write_bytes(b"precious")
        with pytest.raises(InputError, match="--force"):
            write()
        assert out.read_bytes() == b"precious"
        write(force=True)
        assert weights(out) == weights(inline)
    (tmp_path / "new.onnx.data").write_bytes(b"precious")
    with pytest.raises(InputError, match="--force"):
        write_model(read_model(apart), tmp_path / "new.onnx")
    assert (tmp_path / "new.onnx.data").read_bytes() == b"precious"
    write_model(read_model(apart), tmp_path / "new.onnx", force=True)
    assert weights(tmp_path / "new.onnx") == weights(apart)


def test_never_over_the_source(inline, tmp_path):
    (tmp_path / "soft.onnx").symlink_to("in.onnx")
    os.link(inline, tmp_path / "hard.onnx")
    before = listing(tmp_path)
    for out in (inline, tmp_path / "soft.onnx", tmp_path / "hard.onnx", tmp_path / "." / "in.onnx"):
        for write in (
            lambda to: write_model(read_model(inline), to, force=True),
            lambda to: copy_model(inline, to, force=True),
        ):
            with pytest.raises(InputError, match="input itself"):
                write(out)
    assert listing(tmp_path) == before


def test_never_over_the_sources_data(tmp_path):
    onnx.save(
        proto(), tmp_path / "in.onnx", save_as_external_data=True, location="out.onnx.data", size_threshold=0
    )
    before = listing(tmp_path)
    for out in ("out.onnx", "out.onnx.data"):
        with pytest.raises(InputError, match="input itself"):
            write_model(read_model(tmp_path / "in.onnx"), tmp_path / out, force=True)
    with pytest.raises(InputError, match="input itself"):
        copy_model(tmp_path / "in.onnx", tmp_path / "out.onnx.data", force=True)
    assert listing(tmp_path) == before


@pytest.mark.parametrize("place", ["absent/out.onnx", "in.onnx/out.onnx", "in.onnx/further/out.onnx"])
def test_no_such_folder(inline, tmp_path, place):
    for write in (lambda to: write_model(read_model(inline), to), lambda to: copy_model(inline, to)):
        with pytest.raises(ResourceError, match="folder"):
            write(tmp_path / place)
    assert sorted(listing(tmp_path)) == ["in.onnx"]


def test_a_folder_that_takes_no_files(inline):
    with pytest.raises(ResourceError, match="choose another"):
        write_model(read_model(inline), "/proc/out.onnx")


def test_the_output_is_a_folder(inline, tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError, match="folder"):
        write_model(read_model(inline), tmp_path / "out", force=True)


@pytest.mark.parametrize("limit", [100, 9_000])
@pytest.mark.parametrize("source", ["inline", "apart"])
def test_a_full_disk_leaves_nothing(limit, source, request, tmp_path):
    path = request.getfixturevalue(source)
    model, before = read_model(path), listing(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        for write in (
            lambda: write_model(model, tmp_path / "out.onnx"),
            lambda: copy_model(path, tmp_path / "o.onnx"),
        ):
            with pytest.raises(ResourceError, match="no space"):
                write()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert listing(tmp_path) == before


@pytest.mark.parametrize("operation", ["fsync", "open", "replace"])
@pytest.mark.parametrize("source", ["inline", "apart"])
def test_a_failing_operation_leaves_nothing(operation, source, request, tmp_path, monkeypatch):
    def fail(*arguments, **keywords):
        raise OSError(errno.EIO, "Input/output error")

    model, before = read_model(request.getfixturevalue(source)), listing(tmp_path)
    if operation == "replace":
        monkeypatch.setattr(Path, "replace", fail)
    else:
        monkeypatch.setattr(os, operation, fail)
    with pytest.raises(ResourceError, match="Input/output"):
        write_model(model, tmp_path / "out.onnx")
    monkeypatch.undo()
    assert listing(tmp_path) == before


def test_an_interruption_leaves_nothing(apart, tmp_path, monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    model, before = read_model(apart), listing(tmp_path)
    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_model(model, tmp_path / "out.onnx")
    assert listing(tmp_path) == before
    assert isinstance(model.graph.initializers["a"].const_value, ir.ExternalTensor)


def test_the_model_appears_after_its_data(apart, tmp_path, monkeypatch):
    order = []
    replace = Path.replace
    monkeypatch.setattr(
        Path, "replace", lambda one, other: (order.append(other.name), replace(one, other))[1]
    )
    write_model(read_model(apart), tmp_path / "out.onnx")
    assert order == ["out.onnx.data", "out.onnx"]


def test_new_files_have_the_permissions_of_any_new_file(inline, tmp_path):
    (tmp_path / "plain").write_bytes(b"")
    write_model(read_model(inline), tmp_path / "out.onnx")
    assert (tmp_path / "out.onnx").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_copies_are_byte_for_byte(inline, apart, tmp_path):
    copy_model(inline, tmp_path / "copy.onnx")
    assert (tmp_path / "copy.onnx").read_bytes() == inline.read_bytes()
    other = tmp_path / "other"
    other.mkdir()
    copy_model(apart, other / "copy.onnx")
    assert (other / "copy.onnx").read_bytes() == apart.read_bytes()
    assert (other / "w.bin").read_bytes() == (apart.parent / "w.bin").read_bytes()
    assert weights(other / "copy.onnx") == weights(apart)
    copy_model(apart, other / "copy.onnx", force=True)  # the data is there already
    beside = apart.parent / "copy.onnx"
    copy_model(apart, beside)
    assert weights(beside) == weights(apart)
    assert sorted(listing(apart.parent)) == ["copy.onnx", "in.onnx", "w.bin"]


def test_a_model_cannot_choose_which_of_the_users_files_to_replace(apart, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "w.bin").write_bytes(b"precious")
    with pytest.raises(InputError, match="has this name"):
        copy_model(apart, other / "copy.onnx", force=True)
    hidden = onnx.load(apart, load_external_data=False)
    for tensor in hidden.graph.initializer:
        tensor.external_data[0].value = ".profile"
    apart.write_bytes(hidden.SerializeToString())
    (apart.parent / "w.bin").rename(apart.parent / ".profile")
    with pytest.raises(InputError, match="hidden"):
        copy_model(apart, other / "copy.onnx", force=True)
    assert sorted(listing(other)) == ["w.bin"]
