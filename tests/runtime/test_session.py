"""`tautomer.session`: kernels where they can be had, function bodies where not, and why on the log."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from ort_cases import KERNELS, model, rms_of

import tautomer
from tautomer.cli import main
from tautomer.codegen.cost_model import thresholds
from tautomer.codegen.onnxruntime.library import OrtVariant
from tautomer.codegen.storage import DTYPE_OF
from tautomer.errors import BadModelError, InputError
from tautomer.graph.reader import read_bytes
from tautomer.machine import Machine, Variant
from tautomer.patterns.onnx_body import function_of
from tautomer.patterns.operation import definition_of
from tautomer.patterns.sparse_linear import PLAIN
from tautomer.runtime.machine import this_machine
from tautomer.runtime.onnxruntime import kernels as ort_kernels
from tautomer.runtime.onnxruntime.kernels import (
    Other,
    Unavailable,
    all_kernels,
    kernels_for,
    library_for,
    source_of,
)

onnxruntime = pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.usefixtures("real_compiler")
random = np.random.default_rng(0)

NORMS = """
g (float[N, D] x, float[D] w) => (float[N, D] y, float[N, D] z) {
  y = tautomer.RMSNormalization <axis = -1, epsilon = 0.25> (x, w)
  z = tautomer.RMSNormalization <axis = -1, epsilon = 4.0> (x, w)
}"""


@pytest.fixture(scope="module", autouse=True)
def shared_cache(tmp_path_factory):
    """Libraries are built once for this file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TAUTOMER_CACHE", str(tmp_path_factory.mktemp("kernels")))
        yield


def saved(proto: onnx.ModelProto, folder: Path) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    return path


def inputs(rows=6, columns=40):
    x = random.standard_normal((rows, columns), dtype=np.float32)
    return {"x": x, "w": random.standard_normal(columns, dtype=np.float32)}


@pytest.mark.parametrize("level", ["ORT_DISABLE_ALL", "ORT_ENABLE_ALL"])
@pytest.mark.parametrize("threads", [1, 3])
def test_kernels_run_and_not_the_bodies(tmp_path, level, threads, caplog):
    path = saved(model(NORMS), tmp_path)  # the bodies compute something else
    session = tautomer.session(
        path,
        graph_optimization_level=getattr(onnxruntime.GraphOptimizationLevel, level),
        intra_op_num_threads=threads,
    )
    assert isinstance(session, onnxruntime.InferenceSession)
    for rows in (0, 1, 6, 3000):
        given = inputs(rows)
        for got, epsilon in zip(session.run(None, given), (0.25, 4.0), strict=True):
            assert np.allclose(got, rms_of(given["x"], given["w"], epsilon), atol=1e-5)
    assert not caplog.records


def test_with_and_without_kernels_the_results_are_the_same(tmp_path, monkeypatch, caplog):
    proto = onnx.ModelProto()
    proto.CopyFrom(model(NORMS, ""))
    definition = definition_of("RMSNormalization")
    assert definition is not None
    proto.functions.append(ir.to_proto(function_of(definition, 17)))
    path, given = saved(proto, tmp_path), inputs()
    fast = tautomer.session(path).run(None, given)
    assert not caplog.records
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("CXX", "")
    slow = tautomer.session(path).run(None, given)
    assert [(one.name, one.levelno) for one in caplog.records] == [("tautomer.session", logging.WARNING)]
    assert "runs without native kernels: no C++ compiler" in caplog.text
    for a, b in zip(fast, slow, strict=True):
        assert np.allclose(a, b, atol=1e-5)


def test_results_that_take_the_place_of_their_inputs(tmp_path):
    graph = """
    g (float[N, D] x, float[D] w) => (float[N, D] y) {
      a = Neg(x)
      b = tautomer.RMSNormalization <axis = -1, epsilon = 0.25> (a, w)
      c = tautomer.SoftmaxPlusOne <axis = -1> (b)
      d = tautomer.Mish (c)
      y = Neg(d)
    }"""
    given = inputs(2000, 70)
    got = tautomer.session(saved(model(graph, ""), tmp_path), intra_op_num_threads=3).run(None, given)[0]
    e = np.exp(rms_of(-given["x"], given["w"], 0.25))
    c = e / (1 + e.sum(-1, keepdims=True))
    assert np.allclose(got, -c * np.tanh(np.log1p(np.exp(c))), atol=1e-6)


@pytest.mark.parametrize("types", [("float16",), ("float", "float16"), ("bfloat16",)])
def test_other_element_types(tmp_path, types, caplog):
    arguments = ", ".join(f"float[N, 8] x{i}" for i, _ in enumerate(types))
    results = ", ".join(f"float[N, 8] y{i}" for i, _ in enumerate(types))
    codes = {"float": 1, "float16": 10, "bfloat16": 16}
    lines = [
        f"""n{i} = Cast <to = {codes[name]}> (x{i}) w{i} = CastLike(one, n{i})
        k{i} = tautomer.RMSNormalization <axis = -1, epsilon = 0.25> (n{i}, w{i})
        y{i} = Cast <to = 1> (k{i})"""
        for i, name in enumerate(types)
    ]
    ones = "one = Constant <value = float[8] {1, 1, 1, 1, 1, 1, 1, 1}> ()"
    path = saved(model(f"g ({arguments}) => ({results}) {{ {ones} {' '.join(lines)} }}"), tmp_path)
    x = inputs(5, 8)["x"]
    got = tautomer.session(path).run(None, {f"x{i}": x for i, _ in enumerate(types)})
    for one in got:
        assert np.allclose(one, rms_of(x, np.ones(8), 0.25), atol=0.03)
    assert not caplog.records


def test_an_operator_that_does_not_fit_runs_its_body(tmp_path, caplog):
    wide = NORMS.replace("float[", "double[")
    x, w = (value.astype(np.float64) for value in inputs().values())
    got = tautomer.session(saved(model(wide), tmp_path)).run(None, {"x": x, "w": w})[0]
    assert np.array_equal(got, x * w - x)
    assert "no kernel is written for DOUBLE" in caplog.text


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        ("axis = -1", "axis = 0", "its axis is 0"),
        ("float[D] w", "float[E, D] w", "scale does not have the shape of a row"),
        ("epsilon = 0.25", "epsilon = 1", "epsilon is not a float"),
        ("(x, w)", "(x)", "inputs of its definition"),
        ("RMSNormalization", "RowScaledMatMul", "no kernel is written"),
    ],
)
def test_what_is_declined_and_why(before, after, reason):
    found = kernels_for(read_bytes(model(NORMS.replace(before, after)).SerializeToString()))
    assert found.nodes == 2
    assert not found.wanted
    assert [reason in why for why in found.declined.values()] == [True]


def test_a_default_of_the_function_that_a_kernel_would_not_see():
    graph = NORMS.replace(", epsilon = 0.25", "")
    body = '<domain: "tautomer", opset_import: ["" : 17]>\nRMSNormalization <axis, epsilon: float = {}>'
    for default, fits in (("0.00001", True), ("3.0", False)):
        proto = model(graph, body.format(default) + "(x, scale) => (y) { y = Mul(x, scale) }")
        found = kernels_for(read_bytes(proto.SerializeToString()))
        assert ("RMSNormalization" in found.wanted) == fits


def test_nodes_in_branches_and_in_functions():
    branch = """
    g (bool c, float[N, 8] x, float[8] w) => (float[N, 8] y) {
      y = If (c) <then_branch = a () => (float[N, 8] p) {
                    p = tautomer.RMSNormalization <axis = -1, epsilon = 0.5> (x, w) },
                  else_branch = b () => (float[N, 8] q) { q = Identity(x) }>
    }"""
    found = kernels_for(read_bytes(model(branch).SerializeToString()))
    assert [one.element_type for one in found.wanted["RMSNormalization"]] == ["FLOAT"]
    inner = '<domain: "mine", opset_import: ["" : 17, "tautomer" : 1]>\n' + (
        "F (x, w) => (y) { y = tautomer.RMSNormalization <axis = -1, epsilon = 0.5> (x, w) }"
    )
    found = kernels_for(read_bytes(model(NORMS, inner).SerializeToString()))
    assert "in a function" in found.declined["RMSNormalization"]


def test_a_model_without_such_nodes_is_left_to_onnxruntime(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(ort_kernels, "library", None)
    path = saved(
        onnx.parser.parse_model(
            '<ir_version: 8, opset_import: ["" : 17]> g (float[N] x) => (float[N] y) { y = Relu(x) }'
        ),
        tmp_path,
    )
    assert tautomer.session(path).run(None, {"x": np.array([-1], np.float32)})[0][0] == 0
    assert not caplog.records


def test_other_devices_run_the_bodies(tmp_path, caplog):
    providers = ["AzureExecutionProvider", ("CPUExecutionProvider", {})]
    given = inputs()
    got = tautomer.session(saved(model(NORMS), tmp_path), providers=providers).run(None, given)[0]
    assert np.array_equal(got, given["x"] * given["w"] - given["x"])
    assert "for the CPU" in caplog.text


def test_kernels_that_onnxruntime_refuses_are_left_out(tmp_path, monkeypatch, caplog):
    broken = tmp_path / "broken.so"
    broken.write_bytes(b"no library")
    monkeypatch.setattr("tautomer.runtime.kernel_session.library_for", lambda model, isa: broken)
    session = tautomer.session(saved(model(NORMS), tmp_path))
    assert session.run(None, inputs())
    assert "onnxruntime refuses them" in caplog.text


def test_a_kernel_that_is_wrong_is_not_used(tmp_path, monkeypatch, caplog):
    kernel = next(one for one in KERNELS if one.op == "RMSNormalization")
    text = kernel.text.replace("float(p[0])", "0.00001f")
    assert text != kernel.text
    monkeypatch.setattr(ort_kernels, "ort_kernel", lambda *_: (replace(kernel, text=text), ()))
    given = inputs()
    got = tautomer.session(saved(model(NORMS), tmp_path)).run(None, given)[0]
    assert np.array_equal(got, given["x"] * given["w"] - given["x"])
    assert "it is off by" in caplog.text


@pytest.mark.parametrize("broken", ["few", "many"])
def test_an_algorithm_that_is_wrong_is_not_used_either(tmp_path, monkeypatch, caplog, broken):
    kernel = next(one for one in KERNELS if one.op == "RMSNormalization")
    number = {"few": "float(p[0])", "many": "(n > 100 ? 0.00001f : float(p[0]))"}[broken]
    text = kernel.text.replace("void rms", "void other").replace("float(p[0])", number)
    text = text.replace("sum / n", "sum / n / 2") if broken == "few" else text
    other = OrtVariant("other", text, Variant("stream", 1 << 30, 1))
    monkeypatch.setattr(ort_kernels, "ort_kernel", lambda *_: (replace(kernel, variants=(other,)), ()))
    given = inputs()
    got = tautomer.session(saved(model(NORMS), tmp_path)).run(None, given)[0]
    assert np.array_equal(got, given["x"] * given["w"] - given["x"])
    assert "it is off by" in caplog.text


@pytest.fixture
def small_caches(monkeypatch) -> Machine:
    """This machine, but small tensors are too large for its caches."""
    small = replace(this_machine(), l1=256, l2=512, l3=1 << 15)
    monkeypatch.setattr(ort_kernels, "machine_of", lambda name: small)
    return small


def softmax_of(x):
    e = np.exp(x.astype(np.float64) - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


OF_X = {
    "RMSNormalization": lambda x, w: rms_of(x, w, 1e-5),
    "LogSoftmax": lambda x, w: np.log(softmax_of(x)),
    "Softmax": lambda x, w: softmax_of(x),
}


@pytest.mark.parametrize("threads", [1, 3])
def test_results_are_the_same_on_both_sides_of_every_threshold(tmp_path, small_caches, threads, caplog):
    nodes = [f"y{i} = tautomer.{op} (x{', w' * (op[0] == 'R')})" for i, op in enumerate(OF_X)]
    results = ", ".join(f"float[N, D] y{i}" for i, _ in enumerate(OF_X))
    graph = f"g (float[N, D] x, float[D] w) => ({results}) {{ {' '.join(nodes)} }}"
    session = tautomer.session(saved(model(graph, ""), tmp_path), intra_op_num_threads=threads)
    sizes = {(3, 4095), (3, 4096), (2, 4097), (5, 8200)}
    known = [one.algorithm for one in thresholds("Softmax", "float32", small_caches)]
    assert known == (["block"] if small_caches.isas[0] == "portable" else ["lane", "block"])
    for one in (one for op in OF_X for one in thresholds(op, "float32", small_caches)):
        columns = max(one.least_columns, 16)
        rows = max(1, one.least_bytes // (8 * columns))
        sizes |= {(rows + more, columns + wider) for more in (0, 1, 40) for wider in (-1, 0, 1)}
    for rows, columns in sorted(sizes):
        given = inputs(rows, columns)
        for got, expected in zip(session.run(None, given), OF_X.values(), strict=True):
            wanted = expected(*given.values())
            off = np.abs(got - wanted) / np.abs(wanted).max(-1, keepdims=True)
            assert off.max() < 1e-5, (rows, columns)
    assert not caplog.records


def test_a_library_for_other_processors_does_not_depend_on_this_one(small_caches, monkeypatch):
    wanted = all_kernels(["Softmax", "LogSoftmax"])
    asked = []
    monkeypatch.setattr(ort_kernels, "machine_of", lambda name: asked.append(name) or small_caches)
    texts = {isa: source_of(wanted, isa).text for isa in ("native", "avx512", "avx2", "portable")}
    assert asked == ["native", "x86-64-v4", "x86-64-v3", "x86-64"]
    larger = replace(small_caches, l3=1 << 20)
    assert source_of(wanted, "avx2", larger).text != texts["avx2"] or small_caches.isas[0] == "portable"
    assert source_of(wanted, "avx2", small_caches).text == texts["avx2"]


def test_damaged_models_and_wrong_options(tmp_path):
    path = tmp_path / "bad.onnx"
    path.write_bytes(b"\x08\x07 not a model")
    with pytest.raises(BadModelError):
        tautomer.session(path)
    with pytest.raises(BadModelError):
        tautomer.session(tmp_path / "none.onnx")
    path = saved(model(NORMS, ""), tmp_path)  # neither kernels that fit nor bodies
    broken = model(NORMS.replace("axis = -1", "axis = 0"), "")
    path.write_bytes(broken.SerializeToString())
    with pytest.raises(BadModelError, match="onnxruntime does not load the model"):
        tautomer.session(path)
    path = saved(model(NORMS), tmp_path)
    for wrong in ({"no_such": 1}, {"intra_op_num_threads": "many"}, {"isa": "mmx"}, {"add_initializer": 1}):
        with pytest.raises(InputError):
            tautomer.session(path, **wrong)


def test_every_kernel_has_a_place_in_a_library():
    source = source_of(all_kernels(), "portable")
    assert len(source.kernels) == len({(k.op, k.element_type, k.attributes) for _, k in source.kernels})
    assert {"RMSNormalization", "GeGLU", "SoftmaxPlusOne"} <= set(source.operators)
    with pytest.raises(InputError, match="choose among"):
        all_kernels(["RMSNorm"])


def test_attention_and_sparse_maps_have_a_place_in_it_by_name():
    form = "ScoreAttention_sigmoid_causal_nnnn"
    source = source_of(all_kernels([PLAIN, form]), "portable")
    assert source.operators == (PLAIN, form)
    assert [one.element_type for one in source.others] == [*DTYPE_OF, *DTYPE_OF]
    assert PLAIN in {one.op for one in all_kernels() if isinstance(one, Other)}


def test_the_library_of_a_model_is_built_once():
    loaded = read_bytes(model(NORMS).SerializeToString())
    first = library_for(loaded)
    assert isinstance(first, Path)
    assert library_for(loaded) == first
    nothing = read_bytes(model("g (float[N] x) => (float[N] y) { y = Relu(x) }").SerializeToString())
    assert isinstance(library_for(nothing), Unavailable)


def test_the_command_builds_a_library(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["kernels", "build", "--output", "k.so", "--ops", "RMSNormalization", "--json"]) == 0
    assert '"kernels": 3' in capsys.readouterr().out
    options = onnxruntime.SessionOptions()
    options.register_custom_ops_library(str(tmp_path / "k.so"))
    session = onnxruntime.InferenceSession(
        model(NORMS).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    given = inputs()
    assert np.allclose(session.run(None, given)[0], rms_of(given["x"], given["w"], 0.25), atol=1e-5)
    assert main(["kernels", "build", "--output", "k.so", "--ops", "Relu"]) == 2
    assert main(["kernels", "build", "--output", "l.so", "--ops", "Nothing"]) == 2
    onnx.save(model("g (float[N] x) => (float[N] y) { y = Relu(x) }"), "plain.onnx")
    assert main(["kernels", "build", "--output", "l.so", "--model", "plain.onnx"]) == 2
    Path("plain.onnx").unlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["k.so"]
