"""Score functions and forms of attention: by their formulas written out, and by torch where it has them."""

from __future__ import annotations

import numpy as np
import pytest

from tautomer.errors import InputError
from tautomer.patterns.attention.form import LOWEST, AttentionForm, attend
from tautomer.patterns.attention.score_functions import SCORE_FUNCTIONS, weights_of
from tautomer.patterns.operation import definition_of
from tautomer.patterns.recognition.evaluation import FLOAT64
from tautomer.patterns.rows import apply

SCORES = np.random.default_rng(3).standard_normal((2, 3, 5, 7)) * 3.0
EXACT = {"rtol": 1e-12, "atol": 1e-300}  # a few roundings of float64


def _tensors(
    heads: int = 4, kv_heads: int = 2, rows: int = 5, columns: int = 7, value: int = 3
) -> list[np.ndarray]:
    rng = np.random.default_rng(4)
    shapes = ((2, heads, rows, 6), (2, kv_heads, columns, 6), (2, kv_heads, columns, value))
    return [rng.standard_normal(shape) for shape in shapes]


@pytest.mark.parametrize(
    ("score", "op"),
    [
        ("softmax", "Softmax"),
        ("softmax1", "SoftmaxPlusOne"),
        ("sigmoid", "Sigmoid"),
        ("relu", "Relu"),
        ("relu2", "SquaredRelu"),
    ],
)
def test_a_score_function_is_the_operation_of_its_name(score: str, op: str) -> None:
    definition = definition_of(op)
    assert definition is not None
    expected = apply(definition, FLOAT64, SCORES, axes=(3,) if definition.rows else ())
    np.testing.assert_allclose(weights_of(FLOAT64, SCORE_FUNCTIONS[score], SCORES), expected, **EXACT)


def test_softplus_is_divided_by_its_sum_and_reweighted_by_the_number_of_keys() -> None:
    a = np.log(1.0 + np.exp(SCORES))
    a = a / a.sum(-1, keepdims=True)
    np.testing.assert_allclose(weights_of(FLOAT64, SCORE_FUNCTIONS["softplus"], SCORES), a, **EXACT)
    b = np.maximum(7.0 * a - 1.0, 0.0) ** 3
    found = weights_of(FLOAT64, SCORE_FUNCTIONS["softplus_reweighted"], SCORES, keys=7.0, power=3)
    np.testing.assert_allclose(found, b / b.sum(-1, keepdims=True), rtol=1e-10)  # 7 a - 1 cancels


def test_a_learned_sink_is_one_more_key_without_a_value() -> None:
    sink = np.array([-1.0, 0.5, 2.0]).reshape(3, 1, 1)
    more = np.concatenate([SCORES, np.broadcast_to(sink, (2, 3, 5, 1))], -1)
    expected = weights_of(FLOAT64, SCORE_FUNCTIONS["softmax"], more)[..., :-1]
    found = weights_of(FLOAT64, SCORE_FUNCTIONS["softmax1"], SCORES, extra=sink)
    np.testing.assert_allclose(found, expected, **EXACT)


@pytest.mark.parametrize("score", [name for name in SCORE_FUNCTIONS if name != "softplus_reweighted"])
@pytest.mark.parametrize("mask", ["additive", "boolean"])
def test_a_key_that_is_removed_counts_as_if_it_were_not_there(score: str, mask: str) -> None:
    q, k, v = _tensors()
    keep = np.array([True, False, True, True, False, True, True])
    form = AttentionForm(score, mask=mask)  # type: ignore[arg-type]
    given = keep if mask == "boolean" else np.where(keep, 0.0, -np.inf)
    found = attend(FLOAT64, form, q, k, v, mask=given, scale=0.3)
    expected = attend(FLOAT64, AttentionForm(score), q, k[:, :, keep], v[:, :, keep], scale=0.3)
    np.testing.assert_allclose(found, expected, **EXACT)


def test_agrees_with_torch() -> None:
    torch = pytest.importorskip("torch")
    q, k, v = _tensors()
    keep = np.random.default_rng(5).random((2, 1, 5, 7)) < 0.5
    keep[0, 0, 2] = False  # a query without keys: torch gives 0

    def sdpa(**options: object) -> np.ndarray:
        tensors = (torch.from_numpy(x) for x in (q, k, v))
        call = torch.nn.functional.scaled_dot_product_attention
        return np.asarray(call(*tensors, enable_gqa=True, **options))

    form = AttentionForm(mask="boolean", empty="zero")
    found = attend(FLOAT64, form, q, k, v, mask=keep, scale=0.2)
    np.testing.assert_allclose(found, sdpa(attn_mask=torch.from_numpy(keep), scale=0.2), **EXACT)
    found = attend(FLOAT64, AttentionForm(causal="start"), q, k, v, scale=0.2)
    np.testing.assert_allclose(found, sdpa(is_causal=True, scale=0.2), **EXACT)


@pytest.mark.parametrize(
    ("empty", "row"),
    [("nan", [np.nan] * 3), ("zero", [0.0] * 3), ("mean", None)],
    ids=["nan", "zero", "mean"],
)
def test_what_a_query_without_keys_gives(empty: str, row: list[float] | None) -> None:
    q, k, v = _tensors()
    keep = np.ones((5, 7), dtype=bool)
    keep[1] = False
    found = attend(FLOAT64, AttentionForm(mask="boolean", empty=empty), q, k, v, mask=keep)  # type: ignore[arg-type]
    expected = np.repeat(v, 2, 1).mean(2) if row is None else np.broadcast_to(row, (2, 4, 3))
    np.testing.assert_allclose(found[:, :, 1], expected, **EXACT)
    additive = np.where(keep, 0.0, LOWEST if empty == "mean" else -np.inf)
    same = attend(FLOAT64, AttentionForm(mask="additive", empty="zero"), q, k, v, mask=additive)
    np.testing.assert_allclose(found[:, :, 2], same[:, :, 2], **EXACT)


def test_positions() -> None:
    """Ends, windows, lengths, slopes and caps: each against scores that are written out."""
    q, k, v = _tensors()
    s = q @ np.repeat(k, 2, 1).swapaxes(-1, -2) * 0.5
    i, j = np.arange(5)[:, None], np.arange(7)
    lengths = np.array([4, 7])

    def same(form: AttentionForm, scores: np.ndarray, seen: np.ndarray, **options: object) -> None:
        weights = np.where(seen, 1.0 / (1.0 + np.exp(-scores)), 0.0)
        found = attend(FLOAT64, form, q, k, v, scale=0.5, **options)  # type: ignore[arg-type]
        np.testing.assert_allclose(found, weights @ np.repeat(v, 2, 1), **EXACT)

    same(AttentionForm("sigmoid", causal="end"), s, j <= i + 2)
    same(AttentionForm("sigmoid", causal="start"), s, j <= i)
    same(AttentionForm("sigmoid", causal="end", window=True), s, (j <= i + 2) & (j > i), window=2)
    same(AttentionForm("sigmoid", causal="start", window=True), s, (j <= i) & (j > i - 2), window=2)
    lengths_seen = j < lengths.reshape(2, 1, 1, 1)
    same(AttentionForm("sigmoid", lengths=True), s, lengths_seen, lengths=lengths)
    slopes = np.array([0.5, 0.25, 0.125, 0.0625])
    biased = s + slopes.reshape(4, 1, 1) * (j - i - 2) - 1.5
    same(AttentionForm("sigmoid", alibi=True), biased, j >= 0, slopes=slopes, bias=-1.5)
    same(AttentionForm("sigmoid", softcap=True), np.tanh(s / 0.7) * 0.7, j >= 0, softcap=0.7)


@pytest.mark.parametrize(
    "parts",
    [
        {"score": "softmax2"},
        {"dtype": "float64"},
        {"head": -1},
        {"score": "sigmoid", "sink": True},
        {"empty": "mean"},
        {"power": 3},
        {"score": "softplus_reweighted"},
    ],
    ids=lambda parts: ",".join(parts),
)
def test_parts_that_do_not_go_together_are_refused(parts: dict[str, object]) -> None:
    with pytest.raises(InputError):
        AttentionForm(**parts)  # type: ignore[arg-type]
