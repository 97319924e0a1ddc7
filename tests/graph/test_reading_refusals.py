"""What is not a well-formed model is refused, with the place and a remedy."""

from __future__ import annotations

import os
import random

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from tautomer.errors import BadModelError, InputError
from tautomer.graph.naming import label, printable
from tautomer.graph.reader import as_model, read_bytes, read_model
from tautomer.graph.writer import write_model

HEAD = '<ir_version: 8, opset_import: ["" : 17]>\n'
GOOD = HEAD + "g (float[4] x) => (float[4] y) { [a] h = Relu(x)  [b] y = Neg(h) }"


def model(text: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(text)


def refused(source: object) -> BadModelError:
    with pytest.raises(BadModelError) as caught:
        as_model(source)
    assert caught.value.remedy
    assert caught.value.where
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("source", [None, 3, b"model.onnx", ["model.onnx"]])
def test_what_is_no_model_at_all(source):
    with pytest.raises(InputError, match="no model, but of type") as caught:
        as_model(source)
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty"),
        (b"hello world", "not an ONNX model"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"PK\x03\x04....", "zip archive"),
        (b"<!DOCTYPE html>", "web page"),
        (model(GOOD).SerializeToString()[:-7], "cut short"),
        (onnx.ModelProto(ir_version=8).SerializeToString(), "no graph"),
    ],
)
def test_not_a_model(tmp_path, content, says):
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    error = refused(path)
    assert says in str(error)
    assert str(path) in error.where


def test_missing_file_and_folder(tmp_path):
    assert "No such file" in str(refused(tmp_path / "absent.onnx"))
    assert "folder" in str(refused(tmp_path))


def test_a_pipe_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "m.onnx")
    assert "regular" in str(refused(tmp_path / "m.onnx"))


def test_a_good_model_is_read(tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(model(GOOD).SerializeToString())
    for read in (
        read_model(path),
        read_model(str(path)),
        read_bytes(path.read_bytes()),
        as_model(model(GOOD)),
    ):
        assert [node.op_type for node in read.graph] == ["Relu", "Neg"]
    same = read_model(path)
    assert as_model(same) is same


@pytest.mark.parametrize(
    ("text", "where", "says"),
    [
        (
            "g (float[4] x) => (float[4] y) { [a] y = Add(x, ghost) }",
            "node a",
            '"ghost", which nothing makes',
        ),
        ("g (float[4] x) => (float[4] y) { h = Neg(x) }", "the graph", '"y", which nothing makes'),
        ("g (float[4] x) => (float[4] y) { [a] p = Add(x, q)  q = Neg(p)  y = Neg(q) }", "node", "cycle"),
        ("g (float[4] x) => (float[4] y) { [a] y = Add(x, y) }", "node a", "cycle"),
        ("g (float[4] x) => (float[4] y) { [a] y = Neg(x)  [b] y = Relu(x) }", "node b", '"y" is made twice'),
        ("g (float[4] x) => (float[4] y) { [a] x = Neg(x)  y = Relu(x) }", "node a", '"x" is made twice'),
        ("g (float[4] x, float[4] x) => (float[4] y) { y = Neg(x) }", "graph input", '"x" is used twice'),
        (
            "g (float[4] x) => (float[4] y) { [a] y = LRN <size = 1, size = 2> (x) }",
            "node a",
            '"size" is used twice',
        ),
        (
            "g (bool c, float[4] x) => (float[4] y) "
            "{ [a] y = If (c) <then_branch = t () => (float[4] p) { [b] p = Neg(ghost) },"
            " else_branch = e () => (float[4] q) { q = Neg(x) }> }",
            "node a, attribute then_branch, node b",
            '"ghost"',
        ),
        (
            "g (bool c, float[4] x) => (float[4] y) "
            "{ [a] y = If (c) <then_branch = t () => (float[4] x) { },"
            " else_branch = e () => (float[4] q) { q = Neg(x) }> }",
            "attribute then_branch, the graph",
            "Identity",
        ),
        (
            "g (bool c, float[4] x) => (float[4] y) "
            "{ [a] y = If (c) <then_branch = t () => (float[4] p) { p = Neg(y) },"
            " else_branch = e () => (float[4] q) { q = Neg(x) }> }",
            "node a",
            "cycle",
        ),
    ],
)
def test_malformed_graphs(text, where, says):
    error = refused(model(HEAD + text))
    assert where in error.where
    assert says in str(error)


def test_malformed_functions():
    head = '<ir_version: 10, opset_import: ["" : 18, "l" : 1]> g (float[4] x) => (float[4] y) { y = l.f(x) }'
    body = '<domain: "l", opset_import: ["" : 18, "l" : 1]> f (a) => (b)'
    assert '"ghost"' in str(refused(model(f"{head} {body} {{ b = Neg(ghost) }}")))
    assert "calls itself" in str(refused(model(f"{head} {body} {{ b = l.f(a) }}")))
    twice = f"{head} {body} {{ b = Neg(a) }} {body} {{ b = Relu(a) }}"
    assert "two functions" in str(refused(model(twice)))


def versioned(ir_version: int = 8, **opsets: int) -> onnx.ModelProto:
    proto = model(GOOD)
    proto.ir_version = ir_version
    del proto.opset_import[:]
    for domain, version in opsets.items():
        proto.opset_import.add(domain=domain.replace("_", "."), version=version)
    return proto


def test_versions():
    assert "newer" in str(refused(versioned(ai_onnx=1000)))
    assert "newer" in str(refused(versioned(ir_version=1000, ai_onnx=17)))
    assert "does not exist" in str(refused(versioned(ai_onnx=-1)))
    assert "which opset" in str(refused(versioned(com_example=1)))
    assert "newer" in str(refused(versioned(ai_onnx=17, ai_onnx_ml=1000)))
    for old in range(1, 18):
        assert as_model(versioned(ai_onnx=old)).opset_imports[""] == old
    assert as_model(versioned(ai_onnx=17, com_example=99999)).opset_imports["com.example"] == 99999


def with_tensor(**fields: object) -> onnx.ModelProto:
    proto = model(GOOD)
    proto.graph.initializer.append(TensorProto(name="w", **fields))
    return proto


@pytest.mark.parametrize(
    "fields",
    [
        {"data_type": 1, "dims": [4], "raw_data": b"\0" * 15},
        {"data_type": 1, "dims": [4], "raw_data": b"\0" * 17},
        {"data_type": 1, "dims": [4], "float_data": [1.0] * 3},
        {"data_type": 1, "dims": [4]},
        {"data_type": 1, "dims": [-4], "raw_data": b""},
        {"data_type": 1, "dims": [2**62, 2**62], "raw_data": b"\0" * 16},
        {"data_type": 9999, "dims": [4], "raw_data": b"\0" * 16},
        {"data_type": 0, "dims": [4], "raw_data": b"\0" * 16},
        {"data_type": 8, "dims": [1], "raw_data": b"a"},
        {"data_type": 22, "dims": [3], "raw_data": b"\0"},
    ],
)
def test_tensors_whose_bytes_do_not_match_their_shape(fields):
    assert "tensor w" in refused(with_tensor(**fields)).where


def test_names_cannot_steer_a_terminal_or_forge_a_line():
    proto = model(HEAD + "g (float[4] x) => (float[4] y) { y = Add(x, h) }")
    proto.graph.node[0].name = "\x1b[2J\nerror: forged\u202e" + "long" * 100
    message = str(refused(proto))
    assert message.isprintable()
    assert len(message) < 400
    assert printable("a\tb") == "a\\tb"


def test_a_node_without_a_name_is_called_by_what_it_makes():
    first, second = as_model(
        model(HEAD + "g (float[4] x) => (float[4] y) { [n] h = Relu(x)  y = Neg(h) }")
    ).graph
    assert (label(first), label(second)) == ("n", "Neg#y")
    assert second.name in ("", None)


def test_nodes_come_out_in_topological_order():
    read = as_model(model(HEAD + "g (float[4] x) => (float[4] y) { y = Neg(h)  h = Relu(x) }"))
    assert [node.op_type for node in read.graph] == ["Relu", "Neg"]


def test_large_weights_are_views_of_the_file(tmp_path):
    weights = {name: np.arange(3 << 20, dtype=np.float32) + k for k, name in enumerate(("a", "b"))}
    graph = helper.make_graph(
        [helper.make_node("Add", ["a", "b"], ["y"])],
        "g",
        [],
        [helper.make_tensor_value_info("y", 1, [3 << 20])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = tmp_path / "m.onnx"
    path.write_bytes(proto.SerializeToString())
    read = read_model(path)
    for name, array in weights.items():
        tensor = read.graph.initializers[name].const_value
        assert isinstance(tensor, ir.Tensor)
        assert not tensor.numpy().flags.owndata
        np.testing.assert_array_equal(tensor.numpy(), array)
    path.write_bytes(path.read_bytes()[:-100])
    assert "cut short" in str(refused(path))


def test_damaged_bytes_are_refused_or_pass_through_but_never_crash(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    text = """
        <ir_version: 8, opset_import: ["" : 17, "l" : 1]>
        g (bool c, float[4] x) => (float[4] y) <float[4] w = {1.0, 2.0, 3.0, 4.0}> {
          h = Add(x, w)  k = Constant <value = float[2] {1.0, 2.0}> ()
          y = If (c) <then_branch = t () => (float[4] a) { a = Neg(h) },
                      else_branch = e () => (float[4] b) { b = l.f(h) }> }
        <domain: "l", opset_import: ["" : 17]> f (p) => (q) { q = Relu(p) }"""
    whole = model(text).SerializeToString()
    read_bytes(whole)
    generator = random.Random(0)
    outcomes = set()
    for _ in range(2000):
        damaged = bytearray(whole)
        for _ in range(generator.choice((1, 1, 2, 5))):
            at = generator.randrange(len(damaged))
            kind = generator.randrange(3)
            if kind == 0:
                damaged[at] = generator.randrange(256)
            elif kind == 1:
                del damaged[at : at + generator.randrange(1, 9)]
            else:
                damaged[at:at] = bytes(generator.randrange(256) for _ in range(generator.randrange(1, 9)))
        try:
            write_model(read_bytes(bytes(damaged)), tmp_path / "out.onnx", force=True)
            outcomes.add("read")
        except BadModelError as error:
            assert str(error).isprintable()
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}
