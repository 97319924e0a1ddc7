"""Kernels inside onnxruntime: registered, chosen, given the right rows, and refused with a reason."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ort_cases import ARGUMENTS, KERNELS, model, rms, rms_of, scale, session

from tautomer.codegen.cost_model import chosen
from tautomer.codegen.onnxruntime.library import OrtKernel, OrtVariant, library_text
from tautomer.errors import InternalError, MissingToolError
from tautomer.machine import Variant
from tautomer.runtime import compiler

onnxruntime = pytest.importorskip("onnxruntime")
WARNINGS = ("-Wall", "-Wextra", "-Wno-unused-parameter", "-Werror")
random = np.random.default_rng(0)

NORM = """
g (float[N, D] x, float[D] w) => (float[N, D] y) {
  y = tautomer.RMSNormalization <axis = -1, epsilon = 0.25> (x, w)
}"""
SCALE = "g (float[N] x) => (float[N] y) { y = tautomer.Scale <alpha = 3.0> (x) }"


def build(kernels: tuple[OrtKernel, ...], folder: Path) -> Path:
    path = folder / "kernels.so"
    compiler.compile(library_text(kernels), WARNINGS, path)
    return path


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    try:
        return build(KERNELS, tmp_path_factory.mktemp("library"))
    except MissingToolError:
        pytest.skip("no compiler")


def numbers(*shape):
    return random.standard_normal(shape, dtype=np.float32)


@pytest.mark.parametrize("level", ["ORT_DISABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_ALL"])
def test_the_kernel_is_chosen_and_not_the_body(library, level):
    level = getattr(onnxruntime.GraphOptimizationLevel, level)
    x, w = numbers(5, 24), numbers(24)
    without = session(model(NORM), None).run(None, {"x": x, "w": w})[0]
    assert np.array_equal(without, x * w - x)
    run = session(model(NORM), library, graph_optimization_level=level).run(None, {"x": x, "w": w})[0]
    assert np.allclose(run, rms_of(x, w, 0.25), atol=1e-6)


def test_no_body_is_needed(library):
    run = session(model(SCALE, ""), library).run(None, {"x": np.arange(4, dtype=np.float32)})[0]
    assert run.tolist() == [0, 3, 6, 9]


def test_every_node_has_its_own_numbers_and_an_absent_one_is_the_default(library):
    graph = """
    g (float[N] x) => (float[N] y, float[N] z, float[N] d) {
      y = tautomer.Scale <alpha = 3.0> (x)
      z = tautomer.Scale <alpha = -0.5> (y)
      d = tautomer.Scale (x)
    }"""
    y, z, d = session(model(graph), library).run(None, {"x": np.ones(2, np.float32)})
    assert (y[0], z[0], d[0]) == (3.0, -1.5, 2.0)


def test_inside_a_branch(library):
    graph = """
    g (bool c, float[N] x) => (float[N] y) {
      y = If (c) <then_branch = a () => (float[N] p) { p = tautomer.Scale <alpha = 3.0> (x) },
                  else_branch = b () => (float[N] q) { q = Identity(x) }>
    }"""
    run = session(model(graph), library).run(None, {"c": np.array(True), "x": np.ones(2, np.float32)})[0]
    assert run.tolist() == [3, 3]


@pytest.mark.parametrize("kind", ["once", "twice"])
def test_a_text_attribute_selects_the_kernel(library, kind):
    graph = f'g (float[N] x) => (float[N] y) {{ y = tautomer.Gate <kind = "{kind}"> (x, x) }}'
    run = session(model(graph, ""), library).run(None, {"x": np.full(3, 2, np.float32)})[0]
    assert run.tolist() == [{"once": 4, "twice": 8}[kind]] * 3


def test_one_name_for_several_element_types(library):
    graph = """
    g (float16[N] x, float[N] s) => (float16[N] y, float[N] t) {
      y = tautomer.Scale <alpha = 3.0> (x)
      t = tautomer.Scale <alpha = 3.0> (s)
    }"""
    x = np.arange(7, dtype=np.float16)
    y, t = session(model(graph), library).run(None, {"x": x, "s": x.astype(np.float32)})
    assert y.dtype == np.float16
    assert y.tolist() == t.tolist() == (3 * x).tolist()


@pytest.mark.parametrize("shape", [(0,), (1,), (8191,), (8193,), (3, 0, 2), (2, 3, 4), (300_001,), ()])
@pytest.mark.parametrize("threads", [1, 3])
def test_elements_of_any_shape(library, shape, threads):
    graph = "g (float x) => (float y) { y = tautomer.Scale <alpha = 3.0> (x) }"
    proto = model(graph)
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.ClearField("shape")
    x = np.asarray(random.standard_normal(shape), np.float32)
    run = session(proto, library, intra_op_num_threads=threads).run(None, {"x": x})[0]
    assert run.shape == shape
    assert np.array_equal(run, 3 * x)


@pytest.mark.parametrize("shape", [(0, 8), (4, 0), (1, 1), (1, 40_000), (5000, 7), (700, 96)])
@pytest.mark.parametrize("threads", [1, 3])
def test_rows_of_any_shape(library, shape, threads):
    x, w = numbers(*shape), numbers(shape[-1])
    run = session(model(NORM), library, intra_op_num_threads=threads).run(None, {"x": x, "w": w})[0]
    assert run.shape == shape
    assert np.allclose(run, rms_of(x, w, 0.25), atol=1e-5)


def test_shapes_are_inferred_as_far_as_they_are_known(library):
    def shape_of(given):
        proto = model(SCALE)
        proto.graph.output[0].type.tensor_type.ClearField("shape")
        dims = proto.graph.input[0].type.tensor_type.shape.dim
        del dims[:]
        for size in given:
            dims.add(
                **({"dim_param": size} if isinstance(size, str) else {"dim_value": size} if size else {})
            )
        return session(proto, library).get_outputs()[0].shape

    assert shape_of(["batch", 4]) == ["batch", 4]
    assert shape_of([2, None]) in ([], [2, None])  # a size without a name cannot be told to onnxruntime


def test_the_result_takes_the_place_of_an_input_that_nobody_else_reads(library):
    graph = """
    g (float[N] x) => (float[N] y, float[N] z) {
      a = Neg(x)
      p = tautomer.InPlace (a)
      y = Abs(p)
      b = Neg(x)
      q = tautomer.InPlace (b)
      z = Max(q, b)
    }"""
    y, z = session(model(graph, ""), library).run(None, {"x": np.ones(9, np.float32)})
    assert (set(y), set(z)) == ({1.0}, {0.0})


def test_one_number_for_a_whole_row(library):
    graph = NORM.replace("float[D] w", "float[E] w")
    x, w = numbers(3, 8), np.array([2], np.float32)
    run = session(model(graph), library).run(None, {"x": x, "w": w})[0]
    assert np.allclose(run, rms_of(x, w, 0.25), atol=1e-6)


def refusal(library, graph, **inputs):
    with pytest.raises(Exception, match=r"tautomer\.\w+: ") as caught:
        session(model(graph, ""), library).run(None, inputs)
    return re.search(r"tautomer\.\w+: [^\n]*", str(caught.value))[0]


def test_what_does_not_fit_is_refused_with_a_reason(library):
    x = numbers(3, 8)
    assert "scale is not of the shape of a row" in refusal(library, NORM, x=x, w=numbers(5))
    graph = NORM.replace("axis = -1", "axis = 0")
    assert "axis is 0" in refusal(library, graph, x=x, w=numbers(8))
    graph = "g (float[N] x, float[M] w) => (float[N] y) { y = tautomer.Gate (x, w) }"
    assert "gate is not of the shape of x" in refusal(library, graph, x=x[0], w=numbers(1))
    graph = "g (float[N] x) => (float[N] y) { y = tautomer.Scale <alpha = 3> (x) }"
    assert "alpha is not a float" in refusal(library, graph, x=x[0])
    graph = 'g (float[N] x) => (float[N] y) { y = tautomer.Gate <kind = "thrice"> (x, x) }'
    assert "no kernel" in refusal(library, graph, x=x[0])
    graph = "g (float x, float[N] w) => (float y) { y = tautomer.RMSNormalization <epsilon = 1.0> (x, w) }"
    assert "x has only 0 axes" in refusal(library, graph, x=np.array(1, np.float32), w=numbers(1))


def test_an_axis_that_is_the_last_one(library):
    graph = NORM.replace("axis = -1", "axis = 1")
    x, w = numbers(3, 8), numbers(8)
    run = session(model(graph), library).run(None, {"x": x, "w": w})[0]
    assert np.allclose(run, rms_of(x, w, 0.25), atol=1e-6)


def test_an_onnxruntime_that_is_too_old(library, tmp_path):
    text = library_text([scale("only", "float", "FLOAT")])
    too_new = text.replace("API_VERSION = 18", "API_VERSION = 900")
    assert text != too_new
    path = tmp_path / "new.so"
    compiler.compile(too_new, (), path)
    with pytest.raises(Exception, match=r"needs onnxruntime 1\.900 or newer, and this is 1\."):
        session(model(SCALE), path)


def test_sessions_outlive_each_other(library):
    x = np.ones(2, np.float32)
    first = session(model(SCALE), library)
    second = session(model(SCALE), library)
    del first
    session(model(SCALE), library).run(None, {"x": x})
    assert second.run(None, {"x": x})[0][0] == 3


def told(name: str) -> OrtVariant:
    """An algorithm that only says which of WHEN's it is; "" is the kernel's own."""
    number = [*WHEN, ""].index(name)
    text = f"""
    extern "C" void told_{number}{ARGUMENTS} {{
      for (int64_t i = first * n; i < last * n; ++i) ((float*)out[0])[i] = {number};
    }}
    """
    return OrtVariant(f"told_{number}", text, WHEN.get(name, Variant("", 0, 1)))


WHEN = {
    "large": Variant("large", 64_000, 1, multiple=4, in_place=False),
    "long": Variant("long", 12_000, 64),
    "wide": Variant("wide", 0, 1000),
}


@pytest.fixture(scope="module")
def by_size(tmp_path_factory):
    plain = told("")
    kernel = OrtKernel("Told", plain.symbol, plain.text, "FLOAT", row_axes=1, variants=tuple(map(told, WHEN)))
    return build((kernel,), tmp_path_factory.mktemp("by_size"))


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("in_place", [False, True])
def test_the_size_of_a_tensor_chooses_the_algorithm(by_size, threads, in_place):
    graph = "g (float[N, D] x) => (float[N, D] y) { y = tautomer.Told (x) }"
    if in_place:
        graph = "g (float[N, D] x) => (float[N, D] y) { a = Neg(x) b = tautomer.Told (a) y = Abs(b) }"
    run = session(model(graph, ""), by_size, intra_op_num_threads=threads)
    shapes = [(1, 999), (1, 1000), (23, 64), (24, 64), (46, 64), (47, 64), (24, 63), (47, 63), (200, 40)]
    shapes += [(199, 40), (999, 8), (1000, 8), (1001, 9), (8001, 1), (1999, 4), (2000, 4), (60, 1003)]
    shapes += [(125, 24), (5, 300), (3999, 4), (4000, 4)]
    seen = set()
    for shape in shapes:
        y = run.run(None, {"x": np.ones(shape, np.float32)})[0]
        total = int(np.prod(shape)) * 4 * (1 if in_place else 2)
        name = chosen(tuple(WHEN.values()), total, shape[1], in_place=in_place)
        assert set(y.ravel()) == {[*WHEN, ""].index(name)}, shape
        seen.add(name)
    assert seen == {*WHEN, ""} - ({"large"} if in_place else set())


@pytest.mark.parametrize(
    "wrong",
    [
        {"variants": (OrtVariant("a b", "", Variant("", 0, 1)),)},
        {"variants": (OrtVariant("other", "", Variant("", -1, 1)),)},
        {"variants": (OrtVariant("other", "", Variant("", 0, 1 << 63)),)},
        {"variants": (OrtVariant("other", "", Variant("", 0, 1, multiple=0)),)},
        {"op": 'A"; system("x'},
        {"symbol": "a b"},
        {"operands": ("gate", "a-b")},
        {"parameters": (("alpha", float("inf")),)},
        {"element_type": "STRING"},
        {"operands": ("scale",), "kinds": ("row",)},
        {"operands": ("scale",)},
        {"operands": ("scale",), "kinds": ("scale",), "row_axes": 1},
        {"attributes": (("kind", "\n"),)},
    ],
)
def test_entries_that_make_no_sense(wrong):
    with pytest.raises(InternalError):
        library_text([replace(KERNELS[0], **wrong)])


def test_entries_that_contradict_each_other():
    with pytest.raises(InternalError):
        library_text([])
    with pytest.raises(InternalError, match="contradict"):
        library_text([rms(), rms()])
