"""The criterion itself, the grid of classes, and whole models on onnxruntime."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import onnx.helper as oh
import onnx_ir as ir
import pytest
from onnx import TensorProto as T

from tautomer.graph.reader import as_model
from tautomer.graph.semantics.domain import Unsupported
from tautomer.verify.classes import CLASSES, GRID_VERSION, are_scores, class_named, moved
from tautomer.verify.constants import ulp
from tautomer.verify.numerics import judge, judge_models
from tautomer.verify.special import SAFE_SOFTMAX

F = np.float32
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, F, np.float64])
@pytest.mark.parametrize("each", CLASSES, ids=lambda c: c.name)
def test_a_class(each, dtype):
    x = each.rows((2, 8, 64), dtype, 1)
    assert x.shape == (2, 8, 64) and x.dtype == dtype
    assert np.array_equal(x, each.rows((2, 8, 64), dtype, 1), equal_nan=True)
    finite = np.isfinite(x.astype(np.float64))
    assert finite.all() == (not each.special)
    for shape in ((), (1,), (3, 1), (0, 4), (4, 0)):
        assert each.rows(shape, dtype, 1).shape == shape


def test_the_grid_is_what_its_version_says():
    """Whoever changes a class raises the version, or old scores would seem to be repeatable."""
    total = sum(
        float(np.sum(np.where(np.isfinite(x), np.sign(x), 3.0)))
        for x in (each.rows((4, 16), F, 1).astype(np.float64) for each in CLASSES)
    )
    assert (GRID_VERSION, len(CLASSES), total) == (1, 20, GRID_SUM)


GRID_SUM = 723.0


def test_an_ulp_up_or_down():
    x = np.asarray([1.0, -3.0, 0.0, np.inf, np.nan, 1e-40], F)
    y = moved(x, np.random.default_rng(0))
    assert np.array_equal(np.abs(y - x)[[0, 1, 2, 5]], ulp(x, F)[[0, 1, 2, 5]])
    assert y[3] == np.inf and np.isnan(y[4])


def test_units():
    """An error of one ulp of the largest element is 2 roundoffs; nothing is lost by the inputs here."""
    x = np.asarray([[1.0, 0.5]], F)
    near = x + np.asarray([[2.0**-23, 0.0]], F)
    s = judge(lambda i: i["x"], lambda i: near, lambda i: i["x"].astype(np.float64), {"x": x})
    assert (s.e_orig, s.e_new) == (0.0, 2.0)
    assert s.kappa == 2.0 and s.score == pytest.approx(2 / 3) and s.accepted


def test_every_row_counts():
    x = np.ones((4, 8), F)
    x[2] *= 1000.0
    bad = x.copy()
    bad[1, 3] += 1e-4  # nothing beside the largest row, much beside its own
    s = judge(lambda i: x, lambda i: bad, lambda i: i["x"].astype(float), {"x": x}, class_name="rows")
    assert not s.accepted and s.worst_row == ("output", 1) and s.class_name == "rows" and s.reason


def test_masks_and_integers_do_not_move():
    seen = []

    def oracle(inputs):
        seen.append(inputs)
        return np.ones((1, 2))

    inputs = {"mask": np.asarray([0.0, 1.0], F), "ids": np.asarray([3]), "x": np.asarray([2.5], F)}
    judge(lambda i: np.ones((1, 2), F), lambda i: np.ones((1, 2), F), oracle, inputs)
    assert all(np.array_equal(i["mask"], inputs["mask"]) and i["ids"][0] == 3 for i in seen)
    assert all(i["x"][0] != 2.5 for i in seen[1:])


@pytest.mark.parametrize(
    ("new", "accepted"),
    [
        (np.asarray([[1, 2]]), True),
        (np.asarray([[1, 3]]), False),
        (np.asarray([[1, 2, 3]]), False),
        (np.asarray([[1.0, 2.0]]), False),
    ],
)
def test_integers_are_equal_or_not(new, accepted):
    old = np.asarray([[1, 2]])
    assert judge(lambda i: old, lambda i: new, lambda i: old, {}).accepted == accepted


def test_an_output_is_missing():
    s = judge(lambda i: {"a": np.ones(2, F)}, lambda i: {}, lambda i: {"a": np.ones(2)}, {})
    assert not s.accepted and "missing" in s.reason


# --- models ---------------------------------------------------------------------------------------------

D = 64
_RNG = np.random.default_rng(4)


def _graph(nodes, initializers, shape=("n", D), inputs=("x",)):
    graph = oh.make_graph(
        nodes,
        "g",
        [oh.make_tensor_value_info(n, T.FLOAT, shape) for n in inputs],
        [oh.make_tensor_value_info("y", T.FLOAT, None)],
        [onnx.numpy_helper.from_array(np.asarray(v), k) for k, v in initializers.items()],
    )
    return as_model(oh.make_model(graph, opset_imports=[oh.make_opsetid("", 20)], ir_version=10))


NUMBERS = {
    "gamma": (1.0 + 0.1 * _RNG.standard_normal(D)).astype(F),
    "beta": (0.5 * _RNG.standard_normal(D)).astype(F),
    "w": (_RNG.standard_normal((D, D)) / 8).astype(F),
    "eps": F(1e-5),
    "two": F(2.0),
    "axes": np.asarray([-1]),
}


def _node(op, *names, **attributes):
    *inputs, output = names
    return oh.make_node(op, inputs, [output], **attributes)


def layer_norm():
    nodes = [
        _node("LayerNormalization", "x", "gamma", "beta", "h", epsilon=1e-5),
        _node("MatMul", "h", "w", "y"),
    ]
    return _graph(nodes, {k: NUMBERS[k] for k in ("gamma", "beta", "w")})


def spelled_out(one_pass=False, epsilon=1e-5):
    mean = [_node("ReduceMean", "x", "axes", "m"), _node("Sub", "x", "m", "c")]
    if one_pass:
        variance = [
            *(
                _node("Mul", "x", "x", "s"),
                _node("ReduceMean", "s", "axes", "e"),
                _node("Mul", "m", "m", "q"),
            ),
            *(_node("Sub", "e", "q", "r"), _node("Relu", "r", "v")),
        ]
    else:
        variance = [_node("Mul", "c", "c", "s"), _node("ReduceMean", "s", "axes", "v")]
    rest = [
        *(_node("Add", "v", "eps", "a"), _node("Sqrt", "a", "d"), _node("Div", "c", "d", "n")),
        *(_node("Mul", "n", "gamma", "g"), _node("Add", "g", "beta", "h"), _node("MatMul", "h", "w", "y")),
    ]
    return _graph(mean + variance + rest, {**NUMBERS, "eps": F(epsilon)})


def session(model):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    data = ir.serde.serialize_model(model).SerializeToString()
    opened = onnxruntime.InferenceSession(data, options)
    return lambda inputs: opened.run(None, dict(inputs))


def scores_of(original, rewritten, **options):
    sizes = options.pop("sizes", {"n": 8})
    return judge_models(original, rewritten, session(original), session(rewritten), sizes=sizes, **options)


def test_the_same_norm_spelled_out_is_accepted():
    scores = scores_of(layer_norm(), spelled_out())
    for s in scores:
        print(f"{s.class_name:24} {s.e_orig:9.3g} {s.e_new:9.3g} {s.kappa:9.3g} {s.score:8.3g} {s.reason}")
    assert len(scores) == 1 + sum(not each.scores for each in CLASSES)
    assert all(s.accepted for s in scores)


def test_one_pass_in_a_model_is_rejected_by_a_class():
    scores = scores_of(layer_norm(), spelled_out(one_pass=True))
    rejected = {s.class_name for s in scores if not s.accepted}
    assert "offset 10" in rejected and "normal" not in rejected


def test_another_epsilon_is_rejected():
    rejected = {s.class_name for s in scores_of(layer_norm(), spelled_out(epsilon=2e-5)) if not s.accepted}
    assert "normal" in rejected


def masked_softmax(guarded):
    """softmax of scores, with or without a guard for rows in which all is masked."""
    nodes = [_node("Softmax", "x", "s", axis=-1)]
    if guarded:
        nodes += [_node("IsNaN", "s", "bad"), _node("Where", "bad", "zero", "s", "y")]
    else:
        nodes += [_node("Identity", "s", "y")]
    return _graph(nodes, {"zero": F(0.0)})


def test_scores_are_what_a_softmax_takes():
    assert are_scores(masked_softmax(False).graph.inputs[0])
    assert not are_scores(layer_norm().graph.inputs[0])


def test_a_guard_needs_its_name():
    original, guarded = masked_softmax(False), masked_softmax(True)
    plain = {s.class_name for s in scores_of(original, guarded) if not s.accepted}
    assert "all masked" in plain
    allowed = scores_of(original, guarded, allowed=(SAFE_SOFTMAX,))
    masked = next(s for s in allowed if s.class_name == "all masked")
    assert masked.accepted and masked.findings[0].name == SAFE_SOFTMAX


def test_given_inputs_are_taken_as_they_are():
    x = class_named("offset 10").rows((8, D), F, 1)
    (s,) = scores_of(layer_norm(), spelled_out(one_pass=True), given={"x": x})
    assert s.class_name == "as given" and not s.accepted


def test_float64_models_need_another_oracle():
    model = layer_norm()
    model.graph.outputs[0].dtype = ir.DataType.DOUBLE
    with pytest.raises(Unsupported, match="wider oracle"):
        judge_models(model, model, lambda x: [], lambda x: [], sizes={})
