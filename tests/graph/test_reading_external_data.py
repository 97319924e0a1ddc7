"""External data is read from regular files below the model's folder and from nowhere else."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from tautomer.errors import BadModelError
from tautomer.graph.reader import as_model, external_locations, read_model


def external(location: str, name: str = "w", *, dims: tuple[int, ...] = (4,), **keys: object) -> TensorProto:
    tensor = TensorProto(name=name, data_type=1, dims=dims, data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, **keys}.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def saved(path: Path, *initializers: TensorProto, nodes: list[onnx.NodeProto] | None = None) -> Path:
    nodes = nodes or [helper.make_node("Add", ["x", "w"], ["y"], name="a")]
    info = helper.make_tensor_value_info
    graph = helper.make_graph(nodes, "g", [info("x", 1, [4])], [info("y", 1, [4])], list(initializers))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """model/ with data files of 32 bytes, and a secret beside it."""
    inside = tmp_path / "model"
    (inside / "sub").mkdir(parents=True)
    for name in ("model/w.bin", "model/sub/w.bin", "secret.bin"):
        (tmp_path / name).write_bytes(np.arange(8, dtype=np.float32).tobytes())
    return inside


def refused(path: Path) -> str:
    with pytest.raises(BadModelError) as caught:
        read_model(path)
    assert "w" in caught.value.where
    assert caught.value.remedy
    return str(caught.value)


@pytest.mark.parametrize(
    ("location", "keys", "expected"),
    [
        ("w.bin", {}, [0, 1, 2, 3]),
        ("sub/w.bin", {"offset": 16, "length": 16}, [4, 5, 6, 7]),
        ("./w.bin", {"offset": 4}, [1, 2, 3, 4]),
        ("w.bin", {"prepacked_1": "from a runtime", "checksum": "x"}, [0, 1, 2, 3]),
    ],
)
def test_good_data_is_mapped(folder, location, keys, expected):
    read = read_model(saved(folder / "m.onnx", external(location, **keys)))
    tensor = read.graph.initializers["w"].const_value
    assert isinstance(tensor, ir.ExternalTensor)
    assert tensor.numpy().tolist() == expected


def test_a_relative_path_keeps_its_folder(folder, monkeypatch):
    saved(folder / "m.onnx", external("w.bin"))
    monkeypatch.chdir(folder)
    read = read_model("m.onnx")
    monkeypatch.chdir("/")
    assert read.graph.initializers["w"].const_value.numpy().tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "location",
    [
        "../secret.bin",
        "sub/../../secret.bin",
        "/etc/passwd",
        "",
        ".",
        "sub",
        "C:\\w.bin",
        "C:w.bin",
        "..\\secret.bin",
        "w.bin\0",
    ],
)
def test_places_outside_the_folder(folder, location):
    refused(saved(folder / "m.onnx", external(location)))


def test_an_absolute_path_even_into_the_folder(folder):
    refused(saved(folder / "m.onnx", external(str(folder / "w.bin"))))


def test_missing_file(folder):
    assert "beside the model" in refused(saved(folder / "m.onnx", external("absent.bin")))


@pytest.mark.parametrize("target", ["../secret.bin", "w.bin"])
def test_symbolic_link_to_the_data(folder, target):
    (folder / "link.bin").symlink_to(target)
    assert "symbolic link" in refused(saved(folder / "m.onnx", external("link.bin")))


def test_symbolic_link_on_the_way(folder):
    (folder / "way").symlink_to(folder / "sub")
    assert "symbolic link" in refused(saved(folder / "m.onnx", external("way/w.bin")))


def test_a_link_to_the_model_or_its_folder_is_the_users_choice(folder, tmp_path):
    saved(folder / "m.onnx", external("w.bin"))
    (tmp_path / "way").symlink_to(folder)
    assert read_model(tmp_path / "way" / "m.onnx").graph.initializers["w"].const_value.numpy().size == 4


def test_hard_link(folder):
    os.link(folder.parent / "secret.bin", folder / "hard.bin")
    assert "hard link" in refused(saved(folder / "m.onnx", external("hard.bin")))


def test_pipes_and_devices(folder):
    os.mkfifo(folder / "pipe.bin")
    assert "regular" in refused(saved(folder / "m.onnx", external("pipe.bin")))


@pytest.mark.parametrize(
    "keys",
    [
        {"offset": 17},
        {"offset": -1},
        {"length": -16},
        {"length": 15},
        {"length": 17},
        {"offset": 2**62},
        {"length": 2**62},
        {"offset": "1e3"},
        {"offset": "9" * 5000},
        {"offset": "\u0664"},
    ],
)
def test_ranges_that_are_not_in_the_file(folder, keys):
    refused(saved(folder / "m.onnx", external("w.bin", **keys)))


def test_shape_larger_than_the_file(folder):
    refused(saved(folder / "m.onnx", external("w.bin", dims=(2**40,))))


def test_every_place_where_a_tensor_can_be(folder):
    constant = helper.make_node("Constant", [], ["w"], value=external("../secret.bin"))
    adding = helper.make_node("Add", ["x", "w"], ["y"])
    refused(saved(folder / "m.onnx", nodes=[constant, adding]))

    info = helper.make_tensor_value_info
    inner = helper.make_graph(
        [helper.make_node("Add", ["x", "v"], ["z"])],
        "t",
        [],
        [info("z", 1, [4])],
        [external("../secret.bin", "v")],
    )
    choice = helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)
    path = saved(folder / "m.onnx", nodes=[helper.make_node("Constant", [], ["c"], value_int=1), choice])
    with pytest.raises(BadModelError, match="tensor v"):
        read_model(path)

    model = onnx.load(saved(folder / "m.onnx", external("w.bin")), load_external_data=False)
    model.opset_import.add(domain="l", version=1)
    model.functions.append(
        helper.make_function("l", "f", ["x"], ["y"], [constant, adding], [helper.make_opsetid("", 17)])
    )
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    refused(folder / "m.onnx")


def test_data_in_a_function_is_found_below_the_models_folder(folder):
    model = onnx.load(saved(folder / "m.onnx", external("w.bin")), load_external_data=False)
    constant = helper.make_node("Constant", [], ["w"], value=external("sub/w.bin"))
    adding = helper.make_node("Add", ["x", "w"], ["y"])
    model.opset_import.add(domain="l", version=1)
    model.functions.append(
        helper.make_function("l", "f", ["x"], ["y"], [constant, adding], [helper.make_opsetid("", 17)])
    )
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    (function,) = read_model(folder / "m.onnx").functions.values()
    assert function[0].attributes["value"].value.numpy().tolist() == [0, 1, 2, 3]
    assert external_locations(folder / "m.onnx") == ["w.bin", "sub/w.bin"]


def test_a_message_has_no_folder(folder):
    with pytest.raises(BadModelError, match="path"):
        as_model(onnx.load(saved(folder / "m.onnx", external("w.bin")), load_external_data=False))
