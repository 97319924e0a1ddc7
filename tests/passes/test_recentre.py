"""LayerNormalization -> RMSNormalization: it fires, it is the same function, it refuses and says why."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from residual_models import LANGUAGE_MODEL, TOKENS, VOCABULARY, WEIGHTS, WIDTH, residual_model

import tautomer
from tautomer.errors import CheckFailedError
from tautomer.graph.digits import Digits
from tautomer.graph.semantics.mathematics import Float64
from tautomer.passes import fold_affine
from tautomer.passes.linear_maps import into_readers
from tautomer.passes.pipeline import Choices, Rewritten, rewrite
from tautomer.passes.streams import centring_plan
from tautomer.passes.streams.centred import centred
from tautomer.patterns.recognition.recognise import recognise
from tautomer.runtime.evidence import Trust
from tautomer.target import ONNXRUNTIME, PORTABLE
from tautomer.verify.algebra import check
from tautomer.verify.exact import BallArithmetic
from tautomer.verify.inputs import make_inputs
from tautomer.verify.interpreter import run
from tautomer.verify.single import Float32

# a stream without its table and positions, for variants in the middle
STREAM = "float[batch, 4, 6] x"
LINEAR = {"w": (WIDTH, WIDTH), "v": (WIDTH, WIDTH), "g": (WIDTH,), "b": (WIDTH,), "c": (WIDTH,)}
NORM = "LayerNormalization <axis = -1, epsilon = 0.001>"


def operators(model: ir.Model) -> Counter[str]:
    return Counter(node.op_type for node in model.graph)


def reasons(result: Any, rule: str = "recentre") -> list[str]:
    remarks = result.remarks if hasattr(result, "remarks") else result
    return [remark.reason for remark in remarks if remark.rule == rule and remark.kind == "missed"]


def passed(result: Any, rule: str = "recentre") -> int:
    return sum(remark.rule == rule and remark.kind == "passed" for remark in result.remarks)


def small(
    body: str, *, outputs: str = "float[batch, 4, 6] y", inputs: str = STREAM, **options: Any
) -> ir.Model:
    return residual_model(body, weights=LINEAR, inputs=inputs, outputs=outputs, **options)


def test_a_language_model_is_converted_whole_and_equal() -> None:
    result = tautomer.optimize(residual_model(opset=23), norm="rms")
    assert operators(result.model)["LayerNormalization"] == 0
    assert operators(result.model)["RMSNormalization"] == 3
    assert result.verification["verdict"] == "EQUAL"
    assert {leg["status"] for leg in result.verification["legs"].values()} == {"passed"}
    assert result.verification["centred"]["norms"] == 3
    # what rounding to float32 leaves of a mean, on rows of six
    assert result.verification["centred"]["largest_mean_by_rms"] < 1e-6


def test_a_tied_table_stays_as_it_is_and_tied() -> None:
    source = residual_model()
    result = tautomer.optimize(source, norm="rms")
    table = result.model.graph.initializers["table"]
    np.testing.assert_array_equal(
        table.const_value.numpy(), source.graph.initializers["table"].const_value.numpy()
    )
    assert {node.op_type for node, _ in table.uses()} == {"Gather", "Transpose"}


def test_a_table_of_its_own_is_centred_in_place() -> None:
    body = LANGUAGE_MODEL.replace("(table)", "(other)")
    model = residual_model(body, weights={**WEIGHTS, "other": (VOCABULARY, WIDTH)})
    result = tautomer.optimize(model, norm="rms")
    assert operators(result.model)["Sub"] == 0
    tables = [v for v in result.model.graph.initializers.values() if tuple(v.shape) == (VOCABULARY, WIDTH)]
    means = [abs(v.const_value.numpy().mean(axis=-1)).max() for v in tables]
    assert min(means) < 1e-6 < max(means)


def test_the_scale_per_channel_goes_before_the_mean() -> None:
    result = tautomer.optimize(residual_model(), norm="rms")
    assert passed(result, "fold scale") == 1
    assert passed(result) == 3


def test_ln_leaves_norms_as_they_are_and_auto_asks_what_the_target_gains() -> None:
    model = residual_model(opset=23)
    assert operators(tautomer.optimize(model, norm="ln").model)["LayerNormalization"] == 3
    # without known costs nothing is done for speed alone
    assert operators(tautomer.optimize(model, target="onnx").model)["LayerNormalization"] == 3
    assert operators(tautomer.optimize(model).model)["RMSNormalization"] == 3


@pytest.mark.parametrize("opset", [13, 17, 18, 23])
def test_the_norm_takes_the_form_that_the_opset_has(opset: int) -> None:
    body = LANGUAGE_MODEL
    if opset < 17:
        for i, (x, n) in enumerate([("h0", "n0"), ("h1", "n1"), ("h2", "n2")]):
            old = f"{n} = LayerNormalization <axis = -1, epsilon = 0.001> ({x}, g{i}, b{i})"
            new = f"""
                m{i} = ReduceMean <axes = [-1]> ({x})
                d{i} = Sub ({x}, m{i})
                s{i} = Mul (d{i}, d{i})
                v{i} = ReduceMean <axes = [-1]> (s{i})
                e{i} = Add (v{i}, eps)
                r{i} = Sqrt (e{i})
                f{i} = Div (d{i}, r{i})
                k{i} = Mul (f{i}, g{i})
                {n} = Add (k{i}, b{i})"""
            assert old in body
            body = body.replace(old, new)
    weights = {**WEIGHTS, "eps": ()}
    model = residual_model(body, weights=weights, opset=opset, replace={"eps": np.float32(1e-3).reshape(())})
    result = tautomer.optimize(model, norm="rms")
    assert passed(result) == 3
    assert result.verification["verdict"] == "EQUAL"
    assert operators(result.model)["RMSNormalization"] == (3 if opset >= 23 else 0)


def test_optimizing_again_changes_nothing() -> None:
    once = tautomer.optimize(residual_model(opset=23), norm="rms")
    assert not tautomer.optimize(once.model, norm="rms").changed


def test_the_same_model_gives_the_same_model() -> None:
    first, second = (tautomer.optimize(residual_model(), norm="rms", verify=False).model for _ in range(2))
    assert ir.to_proto(first).SerializeToString(deterministic=True) == ir.to_proto(second).SerializeToString(
        deterministic=True
    )


# --- streams of other shapes


def test_a_stream_through_reshape_transpose_roll_and_window_is_followed() -> None:
    body = f"""
        h = MatMul (x, w)
        t = Transpose <perm = [1, 0, 2]> (h)
        first = Slice (t, zero, one, zero)
        rest = Slice (t, one, end, zero)
        rolled = Concat <axis = 0> (rest, first)
        windows = Reshape (rolled, shape)
        n = {NORM} (windows, g, b)
        y = MatMul (n, v)
    """
    numbers = {"zero": [0], "one": [1], "end": [99], "shape": [2, 2, -1, WIDTH]}
    weights = {**LINEAR, **{name: (len(value),) for name, value in numbers.items()}}
    replace = {name: np.array(value, np.int64) for name, value in numbers.items()}
    model = residual_model(
        body, weights=weights, inputs=STREAM, outputs="float[2, 2, batch, 6] y", replace=replace
    )
    assert passed(tautomer.optimize(model, norm="rms")) == 1


def test_a_stream_of_images_is_centred_through_its_convolution() -> None:
    body = f"""
        p = Conv <kernel_shape = [2, 2], strides = [2, 2]> (x, kernel, c)
        s = Reshape (p, flat)
        h = Transpose <perm = [0, 2, 1]> (s)
        n = {NORM} (h, g, b)
        y = MatMul (n, v)
    """
    model = residual_model(
        body,
        weights={**LINEAR, "kernel": (WIDTH, 3, 2, 2), "flat": (3,)},
        inputs="float[batch, 3, 4, 4] x",
        outputs="float[batch, 4, 6] y",
        replace={"flat": np.array([0, WIDTH, -1], np.int64)},
    )
    result = tautomer.optimize(model, norm="rms")
    assert passed(result) == 1
    assert result.verification["verdict"] == "EQUAL"


def test_norms_of_heads_centre_their_weights_head_by_head() -> None:
    body = """
        h = MatMul (x, w)
        heads = Reshape (h, shape)
        n = LayerNormalization <axis = -1, epsilon = 0.001> (heads, g3)
        y = Relu (n)
    """
    model = residual_model(
        body,
        weights={**LINEAR, "g3": (3,), "shape": (4,)},
        inputs=STREAM,
        outputs="float[batch, 4, 2, 3] y",
        replace={"shape": np.array([0, 0, 2, 3], np.int64)},
    )
    result = tautomer.optimize(model, norm="rms")
    assert passed(result) == 1
    assert result.verification["verdict"] == "EQUAL"


def test_experts_and_their_gates_are_followed() -> None:
    body = f"""
        n0 = {NORM} (x, g, b)
        s = MatMul (n0, router)
        p = Softmax <axis = -1> (s)
        p0 = Slice (p, zero, one, last)
        p1 = Slice (p, one, two, last)
        e0 = MatMul (n0, w)
        e1 = MatMul (n0, v)
        m0 = Mul (e0, p0)
        m1 = Mul (p1, e1)
        m = Add (m0, m1)
        n1 = {NORM} (m, g, b)
        n2 = {NORM} (m, c, b)
        y = Add (n1, n2)
    """
    numbers = {"zero": [0], "one": [1], "two": [2], "last": [-1]}
    model = residual_model(
        body,
        weights={**LINEAR, "router": (WIDTH, 2), **dict.fromkeys(numbers, (1,))},
        inputs=STREAM,
        outputs="float[batch, 4, 6] y",
        replace={name: np.array(value, np.int64) for name, value in numbers.items()},
    )
    result = tautomer.optimize(model, norm="rms")
    assert passed(result) == 2  # the first reads an input of the model
    assert result.verification["verdict"] == "EQUAL"


def test_one_centring_at_run_time_serves_all_norms_behind_it() -> None:
    body = f"""
        a = {NORM} (x, g, b)
        k = MatMul (a, w)
        h = Add (x, k)
        n = {NORM} (h, g, b)
        y = MatMul (n, v)
    """
    result = tautomer.optimize(small(body), norm="rms")
    assert passed(result) == 2
    assert operators(result.model)["Sub"] == 1
    assert [r.reason for r in result.remarks if "run time" in r.reason]


def test_one_norm_alone_is_not_worth_a_centring_at_run_time() -> None:
    result = tautomer.optimize(small(f"y = {NORM} (x, g, b)"), norm="rms")
    assert not result.changed
    assert "an input of the model" in reasons(result)[0]


def test_weights_that_several_nodes_share_are_centred_for_the_stream_alone() -> None:
    body = f"""
        h = MatMul (x, w)
        other = MatMul (x, w)
        n = {NORM} (h, g, b)
        y0 = MatMul (n, v)
        y = Add (y0, other)
    """
    result = tautomer.optimize(small(body), norm="rms")
    assert passed(result) == 1
    assert result.verification["verdict"] == "EQUAL"


def test_a_value_tapped_in_the_middle_is_centred_behind_the_tap() -> None:
    body = f"""
        h = MatMul (x, w)
        n0 = {NORM} (h, g, b)
        k = MatMul (n0, v)
        h1 = Add (h, k)
        n1 = {NORM} (h1, g, b)
        y = MatMul (n1, v)
    """
    result = tautomer.optimize(small(body, outputs="float[batch, 4, 6] y, float[batch, 4, 6] h"), norm="rms")
    assert passed(result) == 2
    assert operators(result.model)["Sub"] == 1
    assert result.verification["verdict"] == "EQUAL"


# --- refusals


@pytest.mark.parametrize(
    ("body", "outputs", "said"),
    [
        (
            f"h = MatMul (x, w)  n = {NORM} (h, g, b)  y = Add (n, n)",
            ", float[batch, 4, 6] h",
            "is an output",
        ),
        (f"h = MatMul (x, w)  n = {NORM} (h, g, b)  t = Tanh (h)  y = Add (n, t)", "", "(Tanh) sees it"),
        (f"h = MatMul (x, w)  r = Relu (h)  y = {NORM} (r, g, b)", "", "(Relu) writes to its stream"),
        (f"h = MatMul (x, w)  k = Mul (h, x)  y = {NORM} (k, g, b)", "", "(Mul) writes to its stream"),
        (f"h = MatMul (x, w)  k = ReduceMax <axes = [1]> (h)  y = {NORM} (k, g, b)", "", "picks"),
        (f"h = MatMul (x, w)  k = Concat <axis = -1> (h, x)  y = {NORM} (k, g2, b2)", "", "joins channels"),
        (f"h = Add (x, c)  n = {NORM} (h, g, b)  y = Add (n, c)", "", "an input of the model"),
    ],
    ids=["output", "reader", "writer", "gate", "maximum", "joined channels", "input"],
)
def test_what_sees_the_mean_or_cannot_be_centred_is_named(body: str, outputs: str, said: str) -> None:
    shape = {"y = LayerNormalization": "float[a, b, d] y"}
    last = next((form for start, form in shape.items() if start in body), "float[batch, 4, 6] y")
    model = residual_model(
        body.replace("  ", "\n"),
        weights={**LINEAR, "g2": (2 * WIDTH,), "b2": (2 * WIDTH,)},
        inputs=STREAM,
        outputs=last + outputs,
        opset=17,
    )
    result = tautomer.optimize(model, norm="rms")
    assert not passed(result)
    assert any(said in reason for reason in reasons(result)), reasons(result)


def test_an_output_that_shows_a_hidden_state_comes_with_the_remedy() -> None:
    body = f"h = MatMul (x, w)\n n = {NORM} (h, g, b)\n y = MatMul (n, v)"
    remarks = tautomer.explain(small(body, outputs="float[batch, 4, 6] y, float[batch, 4, 6] h"), norm="rms")
    assert "export the model without hidden states" in [remark.hint for remark in remarks]


def test_padding_with_a_number_is_centred_away() -> None:
    body = f"""
        h = MatMul (x, w)
        p = Pad (h, pads, seven)
        n = {NORM} (p, g, b)
        y = MatMul (n, v)
    """
    model = residual_model(
        body,
        weights={**LINEAR, "pads": (6,), "seven": ()},
        inputs=STREAM,
        outputs="float[batch, 5, 6] y",
        replace={"pads": np.array([0, 0, 0, 0, 1, 0], np.int64), "seven": np.array(7.0, np.float32)},
    )
    result = tautomer.optimize(model, norm="rms")
    assert passed(result) == 1
    assert result.verification["verdict"] == "EQUAL"


@pytest.mark.parametrize(
    ("content", "said"),
    [(np.nan, "NaN or infinite"), (np.inf, "NaN or infinite"), (60000.0, "beyond FLOAT16")],
)
def test_weights_that_cannot_be_folded_are_declined_and_the_rest_goes_on(content: float, said: str) -> None:
    half = content == 60000.0
    body = f"""
        h = MatMul (x, w)
        n0 = {NORM} (h, g, b)
        k = MatMul (n0, v)
        n1 = {NORM} (k, g, b)
        y = MatMul (n1, v)
    """
    dtype = np.float16 if half else np.float32
    w = np.random.default_rng(3).standard_normal((WIDTH, WIDTH)).astype(dtype)
    w[2, 3] = content
    kind = "float16" if half else "float"
    model = small(
        body,
        inputs=f"{kind}[batch, 4, 6] x",
        outputs=f"{kind}[batch, 4, 6] y",
        opset=23,
        dtype=dtype,
        replace={"w": w},
    )
    result = tautomer.optimize(model, norm="rms", verify=False)
    assert passed(result) == 1
    assert any(said in reason for reason in reasons(result)), reasons(result)


def test_weights_that_are_inputs_of_the_model_are_declined() -> None:
    body = f"h = MatMul (x, w0)\n n = {NORM} (h, g, b)\n y = MatMul (n, v)"
    result = tautomer.optimize(small(body, inputs=STREAM + ", float[6, 6] w0"), norm="rms")
    assert not passed(result)
    assert any("input of the model" in reason for reason in reasons(result)), reasons(result)


def test_quantized_weights_are_declined() -> None:
    body = f"""
        wide = DequantizeLinear (q, scale, zero)
        h = MatMul (x, wide)
        n = {NORM} (h, g, b)
        y = MatMul (n, v)
    """
    rng = np.random.default_rng(1)
    model = residual_model(
        body,
        weights={**LINEAR, "q": (WIDTH, WIDTH), "scale": (), "zero": ()},
        inputs=STREAM,
        outputs="float[batch, 4, 6] y",
        replace={
            "q": rng.integers(-100, 100, (WIDTH, WIDTH)).astype(np.int8),
            "scale": np.array(0.02, np.float32),
            "zero": np.array(3, np.int8),
        },
    )
    result = tautomer.optimize(model, norm="rms")
    assert not passed(result)
    assert any("quantized" in reason for reason in reasons(result)), reasons(result)


@pytest.mark.parametrize(
    ("shape", "axis", "said"),
    [((WIDTH - 1,), -1, "another shape than a row"), ((4, WIDTH), 1, "along several axes")],
    ids=["gain of a wrong shape", "rows that are not the channels of their writer"],
)
def test_rows_that_are_none_of_the_writers_channels_are_declined(
    shape: tuple[int, ...], axis: int, said: str
) -> None:
    body = f"""
        h = MatMul (x, w)
        n = LayerNormalization <axis = {axis}, epsilon = 0.001> (h, gain, shift)
        y = MatMul (n, v)
    """
    weights = {**LINEAR, "gain": shape, "shift": shape}
    model = residual_model(body, weights=weights, inputs=STREAM, outputs="float[batch, 4, 6] y")
    result = tautomer.optimize(model, norm="rms")
    assert not passed(result)
    assert any(said in reason for reason in reasons(result)), reasons(result)


def test_rms_models_have_nothing_to_convert_and_their_tables_are_left_alone() -> None:
    body = """
        rows = Gather <axis = 0> (table, ids)
        n = RMSNormalization <axis = -1, epsilon = 0.001> (rows, g0)
        logits = MatMul (n, w_in)
    """
    result = tautomer.optimize(
        residual_model(body, opset=23, outputs="float[batch, 4, 10] logits"), norm="rms"
    )
    assert not result.changed


# --- mutants: the evidence must see each of them


def rewritten(model: ir.Model, target: Any = PORTABLE) -> Rewritten:
    """Rewrites in place with no evidence asked."""
    return rewrite(model, recognise(model), target, Trust(), Choices("rms"))


def differs(original: ir.Model, mutant: ir.Model, done: Rewritten, weights: int | None) -> bool:
    inputs = make_inputs(original, {"batch": 2}, 1)
    found = check(
        original, mutant, inputs, BallArithmetic, random_weights=weights, provenance=done.expressions
    )
    return found.equal is False


# the scale is folded first, so that its writer is one of those below
WRITERS = ("positions", "w_out", "c_out", "w_down", "c_down")


@pytest.mark.parametrize("weights", [None, 1], ids=["stored", "random"])
def test_without_a_mistake_the_two_are_equal(weights: int | None) -> None:
    model = residual_model()
    done = rewritten(model)
    assert done.expressions
    assert not differs(residual_model(), model, done, weights)


@pytest.mark.parametrize("weights", [None, 1], ids=["stored", "random"])
@pytest.mark.parametrize("left_out", range(len(WRITERS)), ids=WRITERS)
def test_a_writer_that_is_left_out_is_seen(
    left_out: int, weights: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[ir.Node] = []
    kept = centring_plan._centre_constant

    def forgetful(work: Any, node: ir.Node, index: int, digits: Digits) -> None:
        calls.append(node)
        if len(calls) - 1 != left_out:
            kept(work, node, index, digits)

    monkeypatch.setattr(centring_plan, "_centre_constant", forgetful)
    model = residual_model()
    done = rewritten(model)
    assert len(calls) == len(WRITERS)
    assert differs(residual_model(), model, done, weights)


@pytest.mark.parametrize("weights", [None, 1], ids=["stored", "random"])
def test_a_table_whose_row_means_are_forgotten_is_seen(
    weights: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(centring_plan, "_subtract_row_means", lambda *_: None)
    model = residual_model()
    assert differs(residual_model(), model, rewritten(model), weights)


@pytest.mark.parametrize("weights", [None, 1], ids=["stored", "random"])
def test_a_tied_table_that_is_centred_for_its_head_too_is_seen(
    weights: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def in_place(work: Any, place: Any, gather: ir.Node) -> None:
        table = gather.inputs[0]
        readers = list(table.uses())
        b = work.builder(gather.graph)
        new = centred(b, table, Digits.along((VOCABULARY, WIDTH), (1,)), (VOCABULARY, WIDTH))
        work.place(b, gather)
        for node, index in readers:
            node.replace_input_with(index, new)
        work.model.graph.sort()

    monkeypatch.setattr(centring_plan, "_subtract_row_means", in_place)
    model = residual_model()
    assert differs(residual_model(), model, rewritten(model), weights)


@pytest.mark.parametrize("weights", [None, 1], ids=["stored", "random"])
def test_a_bias_folded_through_the_wrong_weights_is_seen(
    weights: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = into_readers.fold_bias

    def late(work: Any, readers: Any, bias: Any) -> None:
        into_readers.fold_gain(work, readers, bias)
        kept(work, readers, bias)

    monkeypatch.setattr(fold_affine, "fold_bias", late)
    model = residual_model()
    assert differs(residual_model(), model, rewritten(model), weights)


def test_a_centring_along_the_wrong_axis_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = centring_plan.centred

    def wrong(b: Any, x: Any, digits: Digits, shape: tuple[int, ...]) -> Any:
        axes = (0,) if len(shape) == 2 else tuple(range(len(shape)))
        return kept(b, x, Digits.along(shape, axes), shape)

    monkeypatch.setattr(centring_plan, "centred", wrong)
    model = residual_model()
    assert differs(residual_model(), model, rewritten(model), None)


def test_a_mistake_in_the_pass_never_reaches_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(centring_plan, "_subtract_row_means", lambda *_: None)
    with pytest.raises(CheckFailedError, match="nothing was written"):
        tautomer.optimize(residual_model(), norm="rms")


def test_by_default_a_mistake_costs_the_rewrite_and_not_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(centring_plan, "_subtract_row_means", lambda *_: None)
    result = tautomer.optimize(residual_model(opset=23))
    assert operators(result.model)["LayerNormalization"] == 3
    assert "taken back" in reasons(result)[-1]
    assert result.verification["verdict"] == "EQUAL"


# --- numerics


def test_at_large_offsets_the_rewritten_model_is_closer_to_float64() -> None:
    """A stream that carries a mean of 1e3 loses three digits in every sum; centred, it has none to lose."""
    rng = np.random.default_rng(0)
    offset = {"positions": (rng.standard_normal((TOKENS, WIDTH)) + 1e3).astype(np.float32)}
    exact = residual_model(replace=offset, opset=23)
    result = tautomer.optimize(residual_model(replace=offset, opset=23), norm="rms")
    ids = {"ids": np.arange(8).reshape(2, 4) % VOCABULARY}
    truth = run(exact, Float64(), ids)["logits"]
    before = np.abs(Float32().concrete(run(exact, Float32(), ids)["logits"]) - truth).max()
    after = np.abs(Float32().concrete(run(result.model, Float32(), ids)["logits"]) - truth).max()
    assert after < before / 10


def test_all_targets_agree_on_what_can_be_converted() -> None:
    counts = [
        sum(r.kind == "passed" and r.rule == "recentre" for r in rewritten(residual_model(), t).remarks)
        for t in (ONNXRUNTIME, PORTABLE)
    ]
    assert counts == [3, 3]
