"""What minds constants added along the channel, and what does not."""

from __future__ import annotations

import math

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest

from tautomer.graph.reader import as_model
from tautomer.graph.semantics.mathematics import Float64
from tautomer.verify import shift_oracle
from tautomer.verify.inputs import make_inputs
from tautomer.verify.interpreter import run
from tautomer.verify.shift_oracle import Moved, Shift, Unsupported, moved_by_shifts

CHANNELS = 16
ROWS = Shift({2: ((1, CHANNELS),)})


def parsed(body: str, weights: dict[str, tuple[int, ...]] | None = None) -> ir.Model:
    rng = np.random.default_rng(5)
    proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": 20]>\n{body}')
    for name, shape in (weights or {}).items():
        array = (rng.standard_normal(shape) / math.sqrt(shape[0])).astype(np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return as_model(proto)


def transformer(outputs: str = "", tail: str = "", layers: int = 3) -> ir.Model:
    """A residual stream h0, h1, ... of which every reader normalises, and the final norm; y are logits."""
    weights: dict[str, tuple[int, ...]] = {"table": (30, CHANNELS), "head": (CHANNELS, 7), "g": (CHANNELS,)}
    body = "h0 = Gather(table, i)\n"
    for n in range(layers):
        weights |= {f"u{n}": (CHANNELS, 32), f"d{n}": (32, CHANNELS)}
        body += f"""n{n} = LayerNormalization <axis = -1> (h{n}, g, g)
            a{n} = MatMul(n{n}, u{n})
            t{n} = Tanh(a{n})
            f{n} = MatMul(t{n}, d{n})
            h{n + 1} = Add(h{n}, f{n})\n"""
    body += f"last = LayerNormalization <axis = -1> (h{layers}, g, g)\n y = MatMul(last, head)\n{tail}"
    return parsed(f"g (int64[b, s] i) => (float[b, s, 7] y{outputs}) {{ {body} }}", weights)


def values(model: ir.Model, *names: str) -> list[ir.Value]:
    known = {value.name: value for node in model.graph for value in node.outputs}
    known.update({value.name: value for value in model.graph.inputs})
    return [known[name] for name in names]


def stream(model: ir.Model, layers: int = 3) -> dict[ir.Value, Shift]:
    names = ["h0", *(f"{kind}{n}" for n in range(layers) for kind in "f")]
    return dict.fromkeys(values(model, *names), ROWS)


def inputs(model: ir.Model, **sizes: int):
    return make_inputs(model, sizes or {"b": 2, "s": 5}, 1)


# --- models that do not mind, and models that do -----------------------------------------------------------


@pytest.mark.parametrize(("b", "s"), [(2, 5), (1, 1), (3, 11)])
def test_a_stream_that_only_norms_read_may_carry_any_mean(b, s):
    model = transformer()
    assert moved_by_shifts(model, stream(model), inputs(model, b=b, s=s)) is None


def test_a_deep_stream_keeps_its_digits():
    model = transformer(layers=24)
    assert moved_by_shifts(model, stream(model, 24), inputs(model)) is None


def test_a_hidden_state_that_is_an_output_is_named():
    model = transformer(", float[b, s, 16] h2")
    found = moved_by_shifts(model, stream(model), inputs(model))
    assert found is not None and found.output == "h2" and found.amount > 0.1
    assert found.value.name == "f1"  # the last that it is a sum of; f2 comes after it


@pytest.mark.parametrize("guilty", ["h0", "f0", "f1", "f2"])
def test_the_value_that_is_read_raw_is_found_among_the_others(guilty):
    model = transformer(", float[b, s, 16] raw", f"raw = Sigmoid({guilty})")
    found = moved_by_shifts(model, stream(model), inputs(model))
    assert found is not None and (found.value.name, found.output) == (guilty, "raw")


def test_the_order_of_the_shifts_does_not_matter():
    model = transformer(", float[b, s, 16] h2")
    backward = dict(reversed(list(stream(model).items())))
    found = moved_by_shifts(model, backward, inputs(model))
    assert found is not None and found.value.name == "f1"


def test_taking_guilty_values_away_ends_with_none():
    model = transformer(", float[b, s, 16] h2")
    shifts, named = stream(model), []
    while (found := moved_by_shifts(model, shifts, inputs(model))) is not None:
        named.append(found.value.name)
        del shifts[found.value]
    assert named == ["f1", "f0", "h0"] and [value.name for value in shifts] == ["f2"]


def test_bisection_takes_few_runs(monkeypatch):
    model, runs = transformer(", float[b, s, 16] h6", layers=15), []
    monkeypatch.setattr(shift_oracle, "run", lambda *args, **more: runs.append(1) or run(*args, **more))
    found = moved_by_shifts(model, stream(model, 15), inputs(model))
    assert found is not None and found.value.name == "f5"
    assert len(runs) <= 2 + 4  # 16 values


@pytest.mark.parametrize(
    ("tail", "shown"),
    [
        ("p = MaxPool <kernel_shape = [2], strides = [1]> (h2)", "p"),  # along the channel
        ("e = Constant <value_float = 1e-6> ()  p = Mul(h2, e)", "p"),  # small as a whole
        ("z = Constant <value_float = 0.0> ()  c = Greater(h2, z)  p = Cast <to = 1> (c)", "p"),  # a step
        ("m = ReduceMean <keepdims = 1> (h2)  p = Sub(m, h2)", "p"),  # over the tokens too
        (
            "q = ArgMax <axis = 2> (h2)  r = ArgMax <axis = 1> (h2)  p = Cast <to = 1> (r)",
            "p",
        ),  # of the tokens
    ],
)
def test_readers_that_mind(tail, shown):
    model = transformer(f", float p{shown[1:]}", tail)
    found = moved_by_shifts(model, stream(model), inputs(model))
    assert found is not None and (found.value.name, found.output) == ("f1", shown)


@pytest.mark.parametrize(
    "tail",
    [
        "r = ArgMax <axis = 2> (h2)  p = Cast <to = 1> (r)",
        "p = Softmax <axis = -1> (h2)",
        "one = Constant <value_ints = [2]> ()  m = ReduceMean(h2, one)  p = Sub(h2, m)",
    ],
)
def test_readers_that_do_not_mind(tail):
    model = transformer(", float p", tail)
    assert moved_by_shifts(model, stream(model), inputs(model)) is None


def test_a_max_pool_takes_a_constant_with_it_when_a_norm_follows():
    """Pooling along the tokens mixes rows: its maximum moves by different constants, whatever follows."""
    body = """g (float[b, 8, 16] x) => (float[b, 7, 16] y) {
        p = MaxPool <kernel_shape = [2], strides = [1]> (t)
        t = Transpose <perm = [0, 2, 1]> (x)
        q = Transpose <perm = [0, 2, 1]> (p)
        y = LayerNormalization <axis = -1> (q, g)
    }"""
    model = parsed(body, {"g": (CHANNELS,)})
    (x,) = values(model, "x")
    found = moved_by_shifts(model, {x: ROWS}, inputs(model, b=2))
    assert found is not None and found.value is x and found.output == "y"
    everywhere = Shift(
        {1: ((1, 8),), 2: ((1, CHANNELS),)}
    )  # one constant for a whole image: the maximum moves by it
    assert moved_by_shifts(model, {x: everywhere}, inputs(model, b=2)) is None


# --- shifts along parts of an axis --------------------------------------------------------------------------


HEADS = """g (float[b, s, 16] x) => (float[b, s, 4, 4] y) {
    k = Constant <value_ints = [0, 0, 4, 4]> ()
    h = Reshape(x, k)
    y = LayerNormalization <axis = -1> (h, g)
}"""
INTERLEAVED = """g (float[b, s, 16] x) => (float[b, s, 4, 4] y) {
    k = Constant <value_ints = [0, 0, 4, 4]> ()
    h = Reshape(x, k)
    t = Transpose <perm = [0, 1, 3, 2]> (h)
    y = LayerNormalization <axis = -1> (t, g)
}"""
WITHIN, ACROSS, WHOLE = Shift({2: ((1, 4),)}), Shift({2: ((4, 16),)}), ROWS


@pytest.mark.parametrize(
    ("body", "shift", "moves"),
    [
        (HEADS, WITHIN, False),
        (HEADS, WHOLE, False),
        (HEADS, ACROSS, True),
        (INTERLEAVED, WITHIN, True),
        (INTERLEAVED, WHOLE, False),
        (INTERLEAVED, ACROSS, False),
        (HEADS, Shift({2: ((1, 2),)}), True),
        (HEADS, Shift({2: ((1, 2), (4, 16))}), True),
        (HEADS, Shift({2: ((1, 4), (8, 16))}), False),
        (HEADS, Shift({}), True),
        (HEADS, Shift({0: ((1, 2),), 2: ((1, 4),)}), False),
    ],
)
def test_each_head_has_a_mean_of_its_own(body, shift, moves):
    model = parsed(body, {"g": (4,)})
    (x,) = values(model, "x")
    found = moved_by_shifts(model, {x: shift}, inputs(model))
    assert (found is not None) is moves


@pytest.mark.parametrize(
    ("axes", "digits", "constant"),
    [
        ({}, (2, 1, 1, 24), ()),
        ({1: ((1, 24),)}, (2, 1, 24, 1), (2,)),
        ({1: ((1, 4),)}, (2, 6, 4, 1), (2,)),
        ({1: ((4, 12),)}, (2, 2, 3, 4), (2,)),
        ({1: ((1, 2), (4, 12)), 0: ((1, 2),)}, (1, 2, 1, 2, 3, 2, 2, 1), (1, 4, 6)),
    ],
)
def test_axes_are_cut_into_digits(axes, digits, constant):
    sizes, along = Shift(axes).digits((2, 24))
    index = np.arange(48).reshape(sizes)
    assert [n for n in sizes if n > 1] == [
        n for n in digits if n > 1
    ]  # digits of one value count for nothing
    assert [sizes[axis] for axis in along] == [digits[axis] for axis in constant]
    for axis in along:
        cut = np.moveaxis(index, axis, 0)
        steps = np.unique(np.diff(cut, axis=0))
        assert steps.size == 1  # one step of the flat index: a digit


@pytest.mark.parametrize(
    "axes",
    [
        {2: ((1, 2),)},
        {-1: ((1, 2),)},
        {1: ((5, 24),)},
        {1: ((1, 7),)},
        {1: ((1, 4), (2, 8))},
        {1: ((0, 24),)},
        {1: ((1, 48),)},
    ],
)
def test_intervals_that_do_not_fit(axes):
    with pytest.raises(ValueError, match="a shift along"):
        Shift(axes).digits((2, 24))


# --- what is told apart from rounding ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "low",
    [
        "zero = Constant <value_float = 0.0> ()  low = Log(zero)",
        "minus = Constant <value_float = -1.0> ()  low = Log(minus)",
        "low = Constant <value_float = -3.4e38> ()",
    ],
    ids=["-inf", "nan", "-3.4e38"],
)
def test_infinities_and_masks_do_not_hide_a_movement(low):
    tail = f"""{low}  k = Constant <value_ints = [20]> ()  c = Greater(i, k)
        two = Constant <value_ints = [2]> ()  cc = Unsqueeze(c, two)  p = Where(cc, low, {{}})"""
    model = transformer(", float p", tail.format("h2"))
    found = moved_by_shifts(model, stream(model), inputs(model))
    assert found is not None and (found.value.name, found.output) == ("f1", "p") and found.amount < math.inf
    model = transformer(", float p", tail.format("n2"))
    assert moved_by_shifts(model, stream(model), inputs(model)) is None


def test_a_movement_of_special_values_is_infinite():
    model = transformer(", float p", "p = Log(h2)")
    found = moved_by_shifts(model, stream(model), inputs(model))
    assert found is not None and found.output == "p" and found.amount == math.inf


def test_a_shape_that_depends_on_the_shift():
    model = transformer(
        ", int64[2, k] p", "z = Constant <value_float = 0.0> ()  c = Greater(h2, z)  p = NonZero(c)"
    )
    found = moved_by_shifts(model, stream(model), inputs(model))
    assert found is not None and (found.output, found.amount) == ("p", math.inf)


def test_a_variance_that_cancels_is_rounding():
    """E[x^2] - E[x]^2 loses twice the digits of a shift."""
    body = """g (float[b, s, 16] x) => (float[b, s, 16] y) {
        k = Constant <value_ints = [2]> ()
        m = ReduceMean(x, k)  xx = Mul(x, x)  mm = Mul(m, m)  e = ReduceMean(xx, k)
        v = Sub(e, mm)  r = Sqrt(v)  c = Sub(x, m)  y = Div(c, r)
    }"""
    model = parsed(body)
    assert moved_by_shifts(model, dict.fromkeys(values(model, "x"), ROWS), inputs(model, b=20, s=50)) is None


def test_a_row_of_zeros_is_shifted_too():
    model = parsed("g (float[b, s, 16] x) => (float[b, s, 16] y) { y = Relu(x) }")
    x = np.zeros((1, 2, 16), np.float32)
    assert moved_by_shifts(model, dict.fromkeys(values(model, "x"), ROWS), {"x": x}, seed=1) is not None
    x[0, 0] = 1.0
    model = parsed(
        "g (float[b, 2, 16] x, int64[1] i) => (float[b, 1, 16] y) { y = Gather <axis = 1> (x, i) }"
    )
    given = {"x": x, "i": np.asarray([1])}
    assert moved_by_shifts(model, dict.fromkeys(values(model, "x"), ROWS), given) is not None


def test_the_same_seed_gives_the_same_answer():
    model = transformer(", float[b, s, 16] h2")
    given = inputs(model)
    first, second, other = (moved_by_shifts(model, stream(model), given, seed=seed) for seed in (3, 3, 4))
    assert first == second and isinstance(first, Moved) and isinstance(other, Moved)
    assert first.amount != other.amount


def test_the_unshifted_model_is_left_as_it_is():
    model = transformer(", float[b, s, 16] h2")
    given = inputs(model)
    before = run(model, Float64(), given)
    moved_by_shifts(model, stream(model), given)
    after = run(model, Float64(), given)
    assert all(np.array_equal(x, after[name]) for name, x in before.items())


# --- what cannot be asked ----------------------------------------------------------------------------------


def test_no_shift_moves_nothing_and_neither_does_one_that_no_output_needs():
    model = transformer(tail="dead = Relu(h1)")
    assert moved_by_shifts(model, {}, inputs(model)) is None
    assert moved_by_shifts(model, dict.fromkeys(values(model, "dead"), ROWS), inputs(model)) is None


def test_what_is_never_shown_is_refused():
    model = parsed("""g (float[b, 16] x, bool c) => (float[b, 16] y) <float[1] w = {1}> {
        k = Constant <value_float = 2.0> ()
        a = Mul(x, k)
        d = Add(a, w)
        y = If (c) <
            then_branch = t () => (float[b, 16] p) { p = Neg(d) },
            else_branch = e () => (float[b, 16] q) { q = Exp(d) }
        >
    }""")
    given = {"x": np.ones((2, 16), np.float32), "c": np.asarray(True)}
    node = next(node for node in model.graph if node.op_type == "If")
    inside = node.attributes["then_branch"].as_graph().outputs[0]
    (k, c) = values(model, "k", "c")
    row = Shift({1: ((1, 16),)})
    for value in (inside, k, model.graph.initializers["w"]):
        with pytest.raises(ValueError, match=f"'{value.name}' is not computed"):
            moved_by_shifts(model, {value: row}, given)
    with pytest.raises(ValueError, match="'c' is not a tensor of floats"):
        moved_by_shifts(model, {c: Shift({})}, given)


def test_a_model_without_a_meaning_is_unsupported():
    model = parsed("g (float[b, 16] x) => (float[b, 16] y) { y = Bernoulli(x) }")
    with pytest.raises(Unsupported, match="Bernoulli"):
        moved_by_shifts(model, {}, {"x": np.ones((1, 16), np.float32)})
