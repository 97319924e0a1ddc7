"""Inputs that obey what a graph asks of them, and files of inputs."""

from __future__ import annotations

import numpy as np
import onnx.parser
import onnx_ir as ir
import pytest

from tautomer.errors import CheckFailedError, InputError
from tautomer.graph.facts import propagate
from tautomer.graph.reader import as_model
from tautomer.graph.semantics.mathematics import Float64
from tautomer.verify.given_inputs import parse_npz
from tautomer.verify.input_roles import table_length
from tautomer.verify.input_sizes import candidate_sizes
from tautomer.verify.inputs import fitting_inputs, make_inputs
from tautomer.verify.interpreter import run

SEEDS = range(40)


def parsed(body: str, imports: str = '"": 20'):
    return as_model(onnx.parser.parse_model(f"<ir_version: 10, opset_import: [{imports}]>\n{body}"))


def drawn(model, name, sizes=None):
    """Everything that forty seeds give an input."""
    chosen = next(candidate_sizes(model)) if sizes is None else sizes
    return np.stack([make_inputs(model, chosen, seed)[name] for seed in SEEDS])


def test_floats_are_normal_and_seeds_repeat():
    model = parsed("g (float[64, 64] x) => (float[64, 64] y) { y = Relu(x) }")
    x = make_inputs(model, {}, 3)["x"]
    assert x.dtype == np.float32 and abs(float(x.mean())) < 0.1 and 0.9 < float(x.std()) < 1.1
    assert np.array_equal(x, make_inputs(model, {}, 3)["x"])
    assert not np.array_equal(x, make_inputs(model, {}, 4)["x"])


THROUGH = {
    "directly": "i = Identity(ids)",
    "cast": "i = Cast <to = 6> (ids)",
    "reshaped": "s = Constant <value_ints = [-1]> ()  i = Reshape(ids, s)",
    "sliced": "a = Constant <value_ints = [0]> ()  b = Constant <value_ints = [1]> ()"
    "  i = Slice(ids, a, b, b)",
    "clipped": "a = Constant <value_int = 0> ()  i = Clip(ids, a)",
    "joined": "a = Constant <value_ints = [0]> ()  u = Unsqueeze(a, a)  i = Concat <axis = 1> (ids, ids)",
}


@pytest.mark.parametrize("way", THROUGH)
def test_ids_stay_below_the_table_they_reach(way):
    model = parsed(f"""g (int64[1, 6] ids) => (y) <float[9, 2] t = {{{", ".join("1" * 18)}}}> {{
        {THROUGH[way]}
        y = Gather(t, i)
    }}""")
    ids = drawn(model, "ids")
    assert ids.min() == 0 and ids.max() == 8
    assert table_length(model.graph.inputs[0], propagate(model, {})) == 9


def test_what_is_added_on_the_way_is_kept_free():
    model = parsed(f"""g (int64[1, 6] ids) => (y) <float[9, 2] t = {{{", ".join("1" * 18)}}}> {{
        two = Constant <value_int = 2> ()
        i = Add(ids, two)
        y = Gather(t, i)
    }}""")
    ids = drawn(model, "ids")
    assert ids.min() == 0 and ids.max() == 6
    less = parsed(f"""g (int64[1, 6] ids) => (y) <float[9, 2] t = {{{", ".join("1" * 18)}}}> {{
        two = Constant <value_int = 2> ()
        i = Sub(ids, two)
        y = Gather(t, i)
    }}""")
    ids = drawn(less, "ids")
    assert ids.min() == 2 and ids.max() == 10


def test_the_shortest_table_counts():
    model = parsed(f"""g (int64[1, 6] ids) => (y, z)
        <float[9, 2] t = {{{", ".join("1" * 18)}}}, float[2, 4] s = {{{", ".join("1" * 8)}}}> {{
        y = Gather(t, ids)
        z = Gather <axis = 1> (s, ids)
    }}""")
    assert drawn(model, "ids").max() == 3


MASKS = {
    "int, 1 - m": "int64[2, 6] m | f = Cast <to = 1> (m)  i = Sub(one, f)  y = Mul(i, low)",
    "int, bool": "int64[2, 6] m | i = Cast <to = 9> (m)  y = Where(i, one, low)",
    "int, compared": "int32[2, 6] m | z = Cast <to = 6> (one)  i = Equal(m, z)  y = Where(i, one, low)",
    "int, counted": "int64[2, 6] m | a = Constant <value_int = 1> ()  y = CumSum(m, a)",
    "bool": "bool[2, 6] m | y = Where(m, one, low)",
    "float, 1 - m": "float[2, 6] m | u = Unsqueeze(m, ax)  i = Sub(one, u)  y = Mul(i, low)",
    "float, compared": "float[2, 6] m | i = Greater(m, half)  y = Where(i, one, low)",
}


@pytest.mark.parametrize("form", MASKS)
def test_masks_are_zeros_and_ones(form):
    head, body = MASKS[form].split("|")
    model = parsed(f"""g ({head}) => (y) {{
        one = Constant <value_float = 1.0> ()
        half = Constant <value_float = 0.5> ()
        low = Constant <value_float = -3.4e38> ()
        ax = Constant <value_ints = [1]> ()
        {body}
    }}""")
    made = drawn(model, "m").astype(float)
    assert set(np.unique(made)) == {0.0, 1.0}
    assert np.all(made[..., 0] == 1.0)  # no row is empty


def test_data_that_is_compared_is_no_mask():
    model = parsed("""g (float[2, 6] x) => (y) {
        zero = Constant <value_float = 0.0> ()
        slope = Constant <value_float = 0.1> ()
        c = Greater(x, zero)
        s = Mul(x, slope)
        y = Where(c, x, s)
    }""")
    assert len(np.unique(drawn(model, "x"))) > 100


def test_one_minus_data_is_no_mask():
    model = parsed("g (float[2, 6] x) => (y) { one = Constant <value_float = 1.0> ()  y = Sub(one, x) }")
    assert len(np.unique(drawn(model, "x"))) > 100


def test_positions_are_below_their_table():
    model = parsed(
        f"""g (float[2, 3, 4, 6] x, int64[2, 4] p) => (y)
        <float[5, 3] c = {{{", ".join("1" * 15)}}}, float[5, 3] s = {{{", ".join("0" * 15)}}}> {{
            y = RotaryEmbedding(x, c, s, p)
        }}""",
        '"": 23',
    )
    assert drawn(model, "p").max() == 4


def test_sizes_are_small_distinct_and_consistent():
    model = parsed(
        """g (int64[batch, seq] ids, float[batch, total] m, float[n, past] c) => (y) {
        y = Shape(ids)
    }""".replace('"past + seq"', "total")
    )
    model.graph.inputs[1].shape = ir.Shape(["batch", "past + seq"])  # onnx's text form has no expressions
    sizes = list(candidate_sizes(model))
    assert sizes[0] == {"batch": 2, "seq": 5, "past + seq": 5 + sizes[0]["past"], "n": 7, "past": 3}
    for each in sizes:
        made = make_inputs(model, each, 1)
        assert made["m"].shape == (each["batch"], each["past"] + each["seq"])


def test_unnamed_axes_are_tried_alike():
    model = parsed("g (float[?, ?] a, float[?, ?] b) => (y) { y = Add(a, b) }")
    sizes, made = fitting_inputs(model, lambda inputs: run(model, Float64(), inputs))
    assert made[0]["a"].shape == made[0]["b"].shape == (2, 5)
    assert len(made) == 2 and sizes["a[0]"] == sizes["b[0]"]


def test_other_sizes_are_tried_until_the_model_runs():
    model = parsed("g (float[n, c, h, w] x) => (y) { y = Relu(x) }")

    def accepts(inputs):
        if inputs["x"].shape[2] % 16:
            raise CheckFailedError("the height must be a multiple of 16")

    sizes, _ = fitting_inputs(model, accepts)
    assert sizes == {"n": 2, "c": 2, "h": 32, "w": 32}


def test_a_model_that_takes_nothing_says_why():
    model = parsed("g (float[n] x) => (y) { y = Relu(x) }")

    def never(inputs):
        raise CheckFailedError("no")

    with pytest.raises(InputError, match=r"none of the inputs.*no.*npz"):
        fitting_inputs(model, never)


IMPOSSIBLE = {
    "it decides the shapes": "g (float[6] x, int64[2] wanted) => (y) { y = Reshape(x, wanted) }",
    "of type STRING": "g (string[2] wanted) => (y) { y = Identity(wanted) }",
    "shape None": "g (float wanted) => (y) { y = Relu(wanted) }",
}


@pytest.mark.parametrize("reason", IMPOSSIBLE)
def test_what_nobody_can_make_is_named(reason):
    model = parsed(IMPOSSIBLE[reason])
    if reason == "shape None":
        model.graph.inputs[0].shape = None
    with pytest.raises(InputError, match=reason) as caught:
        make_inputs(model, {}, 1)
    assert caught.value.where == "input 'wanted'" and "npz" in caught.value.remedy


PAIR = "g (int64[batch, 4] ids, float[batch, 2] x) => (y) { y = Identity(x) }"


def test_arrays_of_a_file(tmp_path):
    given = {"ids": np.ones((3, 4), np.int64), "x": np.zeros((3, 2), np.float32)}
    np.savez(tmp_path / "a.npz", **given)
    read = parse_npz(tmp_path / "a.npz", parsed(PAIR))
    assert all(
        np.array_equal(read[name], array) and read[name].dtype == array.dtype for name, array in given.items()
    )


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"ids": np.ones((3, 4), np.int64)}, "'x': no array"),
        ({"ids": np.ones((3, 4), np.int64), "x": np.zeros((3, 2))}, r"float64.*float32.*astype\('float32'\)"),
        ({"ids": np.ones((3, 5), np.int64), "x": np.zeros((3, 2), np.float32)}, r"\[3, 5\].*\[batch, 4\]"),
        ({"ids": np.ones((3, 4), np.int64), "x": np.zeros((2, 2), np.float32)}, "'x': its shape"),
        ({"z": np.ones(1)}, "'z': the model has no such input"),
        ({"ids": np.asarray([{}], object), "x": np.zeros((3, 2), np.float32)}, "cannot be read"),
    ],
)
def test_files_that_do_not_fit(tmp_path, arrays, message):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(InputError, match=message) as caught:
        parse_npz(tmp_path / "a.npz", parsed(PAIR))
    assert caught.value.remedy


@pytest.mark.parametrize("content", [None, b"", b"no archive", b"PK\x03\x04broken"])
def test_files_that_are_none(tmp_path, content):
    path = tmp_path / "a.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match="cannot be read") as caught:
        parse_npz(path, parsed(PAIR))
    assert "pickle" not in str(caught.value)


def test_a_type_that_numpy_has_not_is_given_as_float32(tmp_path):
    model = parsed("g (bfloat16[2] x) => (y) { y = Identity(x) }")
    np.savez(tmp_path / "a.npz", x=np.asarray([1.0, 0.1], np.float32))
    x = parse_npz(tmp_path / "a.npz", model)["x"]
    assert x.dtype.name == "bfloat16" and float(x[1]) == pytest.approx(0.1, rel=2**-8)
