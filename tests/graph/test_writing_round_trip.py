"""Reading and writing changes nothing that matters: every operator test model of onnx, and a corpus."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import onnx
import onnx.parser
import onnx_ir as ir
import pytest

from tautomer.graph.reader import as_model, read_model
from tautomer.graph.writer import write_model

CORPUS = os.environ.get("TAUTOMER_CORPUS", "")


def canonical(model: onnx.ModelProto, folder: Path = Path()) -> onnx.ModelProto:
    """The model without the differences that are allowed.

    - "ai.onnx" and "" name the same domain, and an empty string is the same as an absent one.
    - Metadata and opset imports are maps: their order means nothing; nor does the order of value_info.
    - value_info is advice. What it says about initializers repeats the tensor (onnx-ir adds it), what it
      says about inputs and outputs repeats their own declaration, and what it says about a name that the
      graph does not make is about nothing (onnx-ir drops it).
    - Absent optional outputs at the end of a node may be left out.
    - A tensor's values may be stored as raw data, in a typed field or in another file.
    - Names, not places, connect nodes; that the order of a sorted graph is kept is asserted apart.
    """
    model = onnx.ModelProto.FromString(model.SerializeToString())
    _sort_imports(model.opset_import)
    _sort_metadata(model)
    _canonical_graph(model.graph, folder)
    for function in model.functions:
        _sort_imports(function.opset_import)
        _sort_metadata(function)
        _clear_empty(function)
        made = {name for node in function.node for name in node.output} | set(function.input)
        _keep_infos(function, made)
        for node in function.node:
            _canonical_node(node, folder)
    _clear_empty(model)
    return model


def _canonical_graph(graph: onnx.GraphProto, folder: Path) -> None:
    for node in graph.node:
        _canonical_node(node, folder)
    for tensor in graph.initializer:
        _canonical_tensor(tensor, folder)
    inputs_and_outputs = {info.name for info in (*graph.input, *graph.output)}
    made = {name for node in graph.node for name in node.output} - inputs_and_outputs
    made |= {info.name for info in graph.value_info if "::" in info.name}  # of a function, in old files
    _keep_infos(graph, made)
    for info in (*graph.value_info, *graph.input, *graph.output):
        _sort_metadata(info)
        _clear_empty(info)
    annotations = sorted(graph.quantization_annotation, key=lambda one: one.tensor_name)
    del graph.quantization_annotation[:]
    graph.quantization_annotation.extend(annotations)
    _sort_metadata(graph)
    _clear_empty(graph)
    nodes = sorted(graph.node, key=lambda node: list(node.output))
    del graph.node[:]
    graph.node.extend(nodes)


def _canonical_node(node: onnx.NodeProto, folder: Path) -> None:
    if node.domain == "ai.onnx":
        node.domain = ""
    while node.output and not node.output[-1]:
        node.output.pop()
    _sort_metadata(node)
    _clear_empty(node)
    for attribute in node.attribute:
        _clear_empty(attribute)
        for tensor in (*attribute.tensors, *([attribute.t] if attribute.HasField("t") else [])):
            _canonical_tensor(tensor, folder)
        for graph in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
            _canonical_graph(graph, folder)


def _canonical_tensor(tensor: onnx.TensorProto, folder: Path) -> None:
    values = ir.serde.deserialize_tensor(tensor, folder)
    clean = onnx.TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
    clean.metadata_props.extend(tensor.metadata_props)
    if tensor.doc_string:
        clean.doc_string = tensor.doc_string
    if values.dtype == ir.DataType.STRING:
        clean.string_data.extend(tensor.string_data)
    else:
        clean.raw_data = values.tobytes() if values.size else b""
    tensor.CopyFrom(clean)
    _sort_metadata(tensor)


def _reads(node: onnx.NodeProto) -> Iterator[str]:
    yield from node.input
    for attribute in node.attribute:
        for graph in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
            for inner in graph.node:
                yield from _reads(inner)


def _sort_imports(imports: object) -> None:
    pairs = sorted({("" if one.domain == "ai.onnx" else one.domain, one.version) for one in imports})
    del imports[:]
    for domain, version in pairs:
        imports.add(domain=domain, version=version)


def _sort_metadata(message: object) -> None:
    entries = sorted({(entry.key, entry.value) for entry in message.metadata_props})
    del message.metadata_props[:]
    for key, value in entries:
        message.metadata_props.add(key=key, value=value)


def _keep_infos(body: object, wanted: set[str]) -> None:
    infos = sorted((info for info in body.value_info if info.name in wanted), key=lambda info: info.name)
    infos = [info for info in infos if info.HasField("type") or info.doc_string or info.metadata_props]
    del body.value_info[:]
    body.value_info.extend(infos)


def _clear_empty(message: object) -> None:
    for field in (
        "name",
        "domain",
        "doc_string",
        "overload",
        "producer_name",
        "producer_version",
        "ref_attr_name",
    ):
        if field in message.DESCRIPTOR.fields_by_name and not getattr(message, field):
            message.ClearField(field)
    if "model_version" in message.DESCRIPTOR.fields_by_name and not message.model_version:
        message.ClearField("model_version")


def is_sorted(graph: onnx.GraphProto) -> bool:
    waiting = {name for node in graph.node for name in node.output}
    for node in graph.node:
        if not waiting.isdisjoint(_reads(node)):
            return False
        waiting -= set(node.output)
    return True


def difference(one: onnx.ModelProto, other: onnx.ModelProto) -> str:
    """The first lines in which two messages differ."""
    import difflib

    lines = difflib.unified_diff(str(one).splitlines(), str(other).splitlines(), lineterm="", n=1)
    return "\n".join(list(lines)[:40])


def assert_survives(
    source: onnx.ModelProto, model: ir.Model, tmp_path: Path, source_folder: Path = Path()
) -> None:
    out = tmp_path / "out.onnx"
    write_model(model, out, force=True)
    written = onnx.load(out, load_external_data=False)
    before, after = canonical(source, source_folder), canonical(written, tmp_path)
    assert before == after, difference(before, after)
    if is_sorted(source.graph):
        order = [list(filter(None, node.output)) for node in source.graph.node]
        assert order == [list(filter(None, node.output)) for node in written.graph.node]
    once = out.read_bytes()
    write_model(read_model(out), tmp_path / "again.onnx", force=True)
    again = (tmp_path / "again.onnx").read_bytes()
    assert once.replace(b"out.onnx.data", b"") == again.replace(b"again.onnx.data", b"")


@pytest.fixture(autouse=True)
def without_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def test_onnx_operator_models(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the reference implementations divide by zero on purpose
        from onnx.backend.test.case.node import collect_testcases

        cases = collect_testcases(None)
    assert len(cases) > 1000
    for case in cases:
        assert_survives(case.model, as_model(case.model), tmp_path)


@pytest.mark.skipif(not CORPUS, reason="TAUTOMER_CORPUS names no folder")
def test_corpus(tmp_path):
    paths = sorted(Path(CORPUS).rglob("*.onnx"))
    assert paths
    for path in paths:
        assert_survives(onnx.load(path, load_external_data=False), read_model(path), tmp_path, path.parent)


MODELS = {
    "names and documents": """
        <ir_version: 10, opset_import: ["" : 18, "com.example" : 3], producer_name: "p",
         producer_version: "1", domain: "d", model_version: 7, doc_string: "all of it",
         metadata_props: ["b": "2", "a": "1"]>
        g (float[N, 4] x) => (float[N, 4] y) <float[4] b = {1.0, 2.0, 3.0, 4.0}, float[N, 4] h>
        { [first] h = Add(x, b)  y = com.example.Unknown <strange = "value", list = [1, 2]> (h, h) }""",
    "functions": """
        <ir_version: 10, opset_import: ["" : 18, "local" : 1]>
        g (float[N] x) => (float[N] y) { y = local.twice <by = 2.0> (x) }
        <domain: "local", opset_import: ["" : 18], doc_string: "doubles">
        twice <by> (a) => (b) { c = Constant <value_float: float = @by> ()  b = Mul(a, c) }""",
    "sub-graphs that read the outer graph": """
        <ir_version: 8, opset_import: ["" : 17]>
        g (bool c, float[4] x) => (float[4] y) {
          h = Relu(x)
          y = If (c) <then_branch = t () => (float[4] a) { a = Neg(h) },
                      else_branch = e () => (float[4] b) { b = Abs(x) }>
        }""",
    "optional inputs and outputs": """
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[4] x, float[] m) => (float[4] y) {
          l = Identity(m)  y, unused = Dropout(x, "", "")  z = Clip(x, "", m) }""",
    "an initializer that is also an input": """
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[4] x, float[4] w = {1.0, 1.0, 1.0, 1.0}) => (float[4] y) { y = Mul(x, w) }""",
    "nodes out of order": """
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[4] x) => (float[4] y) { y = Neg(h)  h = Relu(x) }""",
    "the long name of the standard domain": """
        <ir_version: 8, opset_import: ["ai.onnx" : 17]>
        g (float[4] x) => (float[4] y) { y = ai.onnx.Relu(x) }""",
    "an old opset": """
        <ir_version: 3, opset_import: ["" : 1]>
        g (float[4] x) => (float[4] y) { y = Relu <consumed_inputs = [0]> (x) }""",
}


@pytest.mark.parametrize("name", MODELS)
def test_features(name, tmp_path):
    proto = onnx.parser.parse_model(MODELS[name])
    assert_survives(proto, as_model(proto), tmp_path)


def test_a_given_message_is_left_as_it_is(tmp_path):
    proto = onnx.parser.parse_model(MODELS["nodes out of order"])
    before = proto.SerializeToString()
    write_model(as_model(proto), tmp_path / "out.onnx")
    assert proto.SerializeToString() == before


def test_metadata_of_tensors_is_not_doubled(tmp_path):
    proto = onnx.parser.parse_model(MODELS["names and documents"])
    proto.graph.initializer[0].metadata_props.add(key="k", value="v")
    write_model(as_model(proto), tmp_path / "out.onnx")
    written = onnx.load(tmp_path / "out.onnx").graph.initializer[0]
    assert [(entry.key, entry.value) for entry in written.metadata_props] == [("k", "v")]
