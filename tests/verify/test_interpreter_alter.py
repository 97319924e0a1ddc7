"""The interpreter's hooks that change what it reads: values altered on the way, rows of stored tables."""

from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np
import onnx
import onnx.helper as oh
import onnx.parser
import onnx_ir as ir
import pytest
from onnx import TensorProto as T

from tautomer.errors import InputError
from tautomer.graph.reader import as_model
from tautomer.graph.semantics.mathematics import Float64
from tautomer.verify.ball import Ball
from tautomer.verify.interpreter import Unsupported, run
from tautomer.verify.single import Float32

M = Float64()
_MAPS = Path("/proc/self/smaps")
X = np.asarray([1.0, 2.0], np.float32)


def parsed(body: str, head: str = '<ir_version: 10, opset_import: ["": 20, "tautomer": 1]>') -> ir.Model:
    return as_model(onnx.parser.parse_model(f"{head}\n{body}"))


def test_inputs_and_results_are_altered_before_they_are_read_or_seen():
    model = parsed("""g (float[2] x) => (float[2] y) <float[2] w = {1.0, 1.0}> {
        k = Constant <value_floats = [5.0, 5.0]> ()
        a = Add(x, w)
        b = Mul(a, k)
        y = Neg(b)
    }""")
    asked, seen = [], {}

    def alter(value, x):
        asked.append(value.name)
        return x + 10.0 if value.name in ("x", "a") else x

    found = run(model, M, {"x": X}, alter=alter, observe=lambda v, x: seen.update({v.name: x.tolist()}))
    assert asked == ["x", "a", "b", "y"]  # no initializer, no Constant
    assert seen["a"] == [22.0, 23.0]
    assert found["y"].tolist() == [-110.0, -115.0]


def test_an_output_is_altered_too_and_nothing_is_without_the_hook():
    model = parsed("g (float[2] x) => (float[2] y) { y = Neg(x) }")
    assert run(model, M, {"x": X}, alter=lambda v, x: x * 0.0 if v.name == "y" else x)["y"].tolist() == [0, 0]
    assert run(model, M, {"x": X})["y"].tolist() == [-1.0, -2.0]


def test_what_is_inside_branches_and_functions_is_not_shown():
    model = parsed("""g (bool c, float[2] x) => (float[2] z) {
        y = If (c) <
            then_branch = a () => (float[2] p) { p = Neg(x) },
            else_branch = b () => (float[2] q) { s = Exp(x)  q = Identity(s) }
        >
        z = tautomer.Twice(y)
    }
    <domain: "tautomer", opset_import: ["": 20]>
    Twice (a) => (b) { b = Add(a, a) }""")
    asked = []
    run(model, M, {"c": np.asarray(True), "x": X}, alter=lambda v, x: asked.append(v.name) or x)
    assert asked == ["c", "x", "y", "z"]


# --- rows of tables ---------------------------------------------------------------------------------------


def lookup(table: np.ndarray, axis: int | None = None, shape: tuple[int | str, ...] = ("n",)) -> ir.Model:
    """y = Gather(table, i)."""
    attributes = {} if axis is None else {"axis": axis}
    graph = oh.make_graph(
        [oh.make_node("Gather", ["table", "i"], ["y"], **attributes)],
        "g",
        [oh.make_tensor_value_info("i", T.INT64, shape)],
        [oh.make_tensor_value_info("y", oh.np_dtype_to_tensor_dtype(table.dtype), None)],
        [onnx.numpy_helper.from_array(table, "table")],
    )
    return as_model(oh.make_model(graph, opset_imports=[oh.make_opsetid("", 20)], ir_version=10))


TABLE = np.random.default_rng(3).standard_normal((50, 4)).astype(np.float32)
INDICES = np.asarray([[7, -1, 7], [0, -50, 49]])


class Counting(Float64):
    """Counts the elements that it lifts."""

    def __init__(self) -> None:
        self.lifted = 0

    def constant(self, x):
        self.lifted += np.size(x)
        return super().constant(x)


@pytest.mark.parametrize("indices", [INDICES, INDICES.astype(np.int32), np.asarray(-3), np.asarray([5])])
@pytest.mark.parametrize("axis", [None, 0, -2])
def test_only_the_rows_that_are_picked_are_lifted(indices, axis):
    m = Counting()
    found = run(lookup(TABLE, axis, indices.shape), m, {"i": indices})["y"]
    assert found.dtype == np.float64 and np.array_equal(found, np.take(TABLE, indices, 0))
    assert m.lifted == 4 * np.unique(indices % 50).size


@pytest.mark.parametrize("domain", [Float32(), Ball(128, read=True)], ids=["float32", "ball"])
def test_rows_are_the_same_in_other_domains(domain):
    found = run(lookup(TABLE, shape=(2, 3)), domain, {"i": INDICES})["y"]
    assert np.array_equal(domain.concrete(found), TABLE[INDICES])


def test_one_element_of_a_table_is_not_read_as_a_number_of_a_formula():
    m = Ball(128, read=True)
    tenths = np.full(3, 0.1, np.float32)
    found = run(lookup(tenths, shape=()), m, {"i": np.asarray(1)})["y"]
    assert m.concrete(found).tolist() == float(np.float32(0.1)) and found.array.shape == ()
    assert not m.assumptions


@pytest.mark.parametrize("axis", [1, -1])
def test_another_axis_reads_the_whole(axis):
    m = Counting()
    found = run(lookup(TABLE, axis), m, {"i": np.asarray([3, 0])})["y"]
    assert np.array_equal(found, TABLE[:, [3, 0]]) and m.lifted == TABLE.size


@pytest.mark.parametrize("wrong", [50, -51])
def test_an_index_outside_the_table_is_refused(wrong):
    with pytest.raises(InputError, match="Gather"):
        run(lookup(TABLE), M, {"i": np.asarray([0, wrong])})


def test_no_index_at_all():
    assert run(lookup(TABLE), M, {"i": np.zeros(0, np.int64)})["y"].shape == (0, 4)


def test_an_input_in_the_place_of_the_table_is_what_is_read():
    model = lookup(TABLE)
    model.graph.inputs.append(model.graph.initializers["table"])
    assert np.array_equal(run(model, M, {"i": np.asarray([3])})["y"], TABLE[[3]])
    found = run(model, M, {"i": np.asarray([3]), "table": TABLE + 1})["y"]
    assert np.array_equal(found, (TABLE + 1)[[3]])


def test_a_table_that_is_replaced_as_a_whole_is_asked_for_once():
    asked = []

    def constants(value):
        asked.append(value.name)
        return TABLE * 2 if value.name == "table" else None

    assert np.array_equal(
        run(lookup(TABLE), M, {"i": np.asarray([3])}, constants=constants)["y"], TABLE[[3]] * 2
    )
    assert asked == ["table"]
    m = Counting()
    run(lookup(TABLE), m, {"i": np.asarray([3])}, constants=lambda value: None)
    assert m.lifted == 4


def test_rows_are_asked_before_the_whole():
    asked = []

    def rows(value, positions):
        asked.append((value.name, positions.tolist(), positions.dtype))
        return TABLE[positions] * 3

    def constants(value):
        raise AssertionError(value)

    model = lookup(TABLE, shape=(2, 3))
    found = run(model, M, {"i": INDICES}, rows=rows, constants=constants)["y"]
    assert np.array_equal(found, (TABLE * 3)[INDICES])
    assert asked == [("table", [0, 7, 49], np.int64)]


def test_rows_may_be_values_of_the_domain_or_nothing():
    model, given = lookup(TABLE), {"i": np.asarray([3, 3])}
    found = run(model, M, given, rows=lambda value, positions: M.constant(TABLE[positions]) * 4.0)["y"]
    assert np.array_equal(found, TABLE[[3, 3]] * 4)
    found = run(model, M, given, rows=lambda *_: None, constants=lambda value: TABLE * 2)["y"]
    assert np.array_equal(found, TABLE[[3, 3]] * 2)
    assert np.array_equal(run(model, M, given, rows=lambda *_: None)["y"], TABLE[[3, 3]])


def test_tables_of_integers_are_not_asked_for_rows():
    table = np.arange(12).reshape(4, 3)

    def rows(value, positions):
        raise AssertionError(value)

    assert run(lookup(table), M, {"i": np.asarray([-1])}, rows=rows)["y"].tolist() == [[9, 10, 11]]


@pytest.mark.skipif(not _MAPS.exists(), reason="the system does not say what is in memory")
def test_a_mapped_file_is_touched_at_the_rows_only(tmp_path):
    """The file has a hole where the other rows are: only what is read of it takes memory."""
    rows, width, offset = 1 << 21, 64, 4099  # half a gigabyte, at an offset that aligns with nothing
    path = tmp_path / "table.bin"
    with path.open("wb") as file:
        file.seek(offset + 4 * width * 1234)
        file.write(np.full(width, 7.0, np.float32).tobytes())
        file.truncate(offset + 4 * width * rows)
    model = lookup(np.zeros((2, width), np.float32))
    table = model.graph.initializers["table"]
    table.const_value = ir.ExternalTensor(
        "table.bin",
        offset,
        4 * width * rows,
        ir.DataType.FLOAT,
        shape=ir.Shape([rows, width]),
        name="table",
        base_dir=str(tmp_path),
    )
    found = run(model, M, {"i": np.asarray([1234, -1])})["y"]
    assert np.array_equal(found, np.repeat([[7.0], [0.0]], width, 1))
    assert isinstance(table.const_value.raw, mmap.mmap)
    assert 0 < _resident(path.name) <= 1 << 20


def _resident(name: str) -> int:
    """The bytes of a mapped file that are in this process's memory."""
    found, mapped = 0, False
    with _MAPS.open() as maps:
        for line in maps:
            head = line.split()
            if "-" in head[0] and ":" not in head[0]:
                mapped = head[-1].endswith(name)
            elif mapped and head[0] == "Rss:":
                found += 1024 * int(head[1])
    return found


def test_a_refusal_of_the_table_is_still_one():
    model = lookup(TABLE)

    def rows(value, positions):
        raise Unsupported("Constant", "no such rows")

    with pytest.raises(Unsupported, match="no such rows"):
        run(model, M, {"i": np.asarray([3])}, rows=rows)
