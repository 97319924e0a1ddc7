"""Attention as an operator of torch: values, gradients, and what torch does with operators."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

import tautomer.torch
from tautomer.errors import InputError
from tautomer.patterns.attention.form import AttentionForm
from tautomer.patterns.attention.operators import form_text
from tautomer.runtime.torch.attention_library import attach
from tautomer.runtime.torch.attention_meaning import meaning
from tautomer.runtime.torch.attention_rules import overload

score_attention = tautomer.torch.score_attention
sdpa = torch.nn.functional.scaled_dot_product_attention
CLOSE = {"rtol": 1e-4, "atol": 2e-5}  # float32 against float32, in another order


@pytest.fixture(autouse=True)
def kernels() -> None:
    """Without kernels all of this would be torch compared with torch."""
    for form in (AttentionForm(), AttentionForm("sigmoid")):
        assert attach(form) == ""


def qkv(*, heads: int = 4, kv_heads: int = 2, rows: int = 9, columns: int = 70, **options: Any) -> list[Any]:
    torch.manual_seed(0)
    shapes = ((2, heads, rows, 24), (2, kv_heads, columns, 24), (2, kv_heads, columns, 16))
    return [torch.randn(shape, **options) for shape in shapes]


def sigmoid_attention(q: Any, k: Any, v: Any, keep: Any = None) -> Any:
    k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], 1) for x in (k, v))
    weights = torch.sigmoid(q @ k.mT * 24**-0.5 - 3.0)
    return (weights if keep is None else weights * keep) @ v


def test_agrees_with_torch() -> None:
    q, k, v = qkv()
    torch.testing.assert_close(score_attention(q, k, v), sdpa(q, k, v, enable_gqa=True), **CLOSE)
    causal = score_attention(q, k, v, causal="start")
    torch.testing.assert_close(causal, sdpa(q, k, v, is_causal=True, enable_gqa=True), **CLOSE)
    keep = torch.rand(2, 1, 9, 70) > 0.5
    keep[0, :, 3] = False
    masked = score_attention(q, k, v, mask=keep, empty="zero")
    torch.testing.assert_close(masked, sdpa(q, k, v, attn_mask=keep, enable_gqa=True), **CLOSE)
    torch.testing.assert_close(
        score_attention(q, k, v, "sigmoid", bias=-3.0), sigmoid_attention(q, k, v), **CLOSE
    )


def test_narrow_types() -> None:
    q, k, v = (x.bfloat16() for x in qkv())
    wide = sdpa(q.float(), k.float(), v.float(), enable_gqa=True)
    # a result of about 1, rounded once
    torch.testing.assert_close(score_attention(q, k, v).float(), wide, rtol=0.0, atol=2.0**-7)


def test_strides_are_read_as_they_are() -> None:
    q, k, v = (x.transpose(1, 2).contiguous().transpose(1, 2) for x in qkv())
    assert not q.is_contiguous()
    torch.testing.assert_close(score_attention(q, k, v), sdpa(q, k, v, enable_gqa=True), **CLOSE)
    mask = torch.randn(70, 9).T.expand(2, 4, 9, 70)
    found = score_attention(q, k, v, mask=mask)
    torch.testing.assert_close(found, sdpa(q, k, v, attn_mask=mask, enable_gqa=True), **CLOSE)


@pytest.mark.parametrize(
    ("score", "kind", "causal"),
    [("softmax", "", ""), ("sigmoid", "", ""), ("softmax", "additive", "end"), ("sigmoid", "boolean", "")],
)
def test_gradients(score: str, kind: Any, causal: Any) -> None:
    """Against torch's own, with grouped heads."""
    tensors = qkv(requires_grad=True)
    mask = {"additive": torch.randn(1, 4, 9, 70), "boolean": torch.rand(2, 1, 9, 70) > 0.3}.get(kind)
    y = score_attention(*tensors, score, mask=mask, causal=causal, bias=-1.0)
    gradient = torch.randn_like(y)
    found = torch.autograd.grad(y, tensors, gradient)
    form = AttentionForm(score, mask=kind, causal=causal)
    expected = meaning(form, *tensors, mask, None, None, None, "", 24**-0.5, -1.0, 1.0, 0, 0)
    torch.testing.assert_close(y, expected, **CLOSE)
    for one, other in zip(found, torch.autograd.grad(expected, tensors, gradient), strict=True):
        torch.testing.assert_close(one, other, **CLOSE)


def test_gradients_of_rows_without_keys_are_zero() -> None:
    tensors = qkv(requires_grad=True)
    keep = torch.ones(2, 1, 9, 70, dtype=torch.bool)
    keep[0, :, 3] = False
    score_attention(*tensors, mask=keep, empty="zero").sum().backward()
    assert not tensors[0].grad[0, :, 3].any()
    assert all(torch.isfinite(x.grad).all() for x in tensors)


def test_other_forms_have_gradients_by_torch() -> None:
    tensors = qkv(requires_grad=True)
    sink = torch.randn(4, requires_grad=True)
    score_attention(*tensors, "softmax1", sink=sink, softcap=5.0).sum().backward()
    assert sink.grad is not None and sink.grad.any() and tensors[0].grad.any()


def test_a_gradient_of_a_gradient() -> None:
    tensors = [x[:1, :2, :3, :4].double().float().requires_grad_() for x in qkv()]
    (first,) = torch.autograd.grad(score_attention(*tensors).sum(), tensors[0], create_graph=True)
    (second,) = torch.autograd.grad((first * first).sum(), tensors[1])
    again = meaning(AttentionForm(), *tensors, None, None, None, None, "", 0.5, 0.0, 1.0, 0, 0)
    (expected,) = torch.autograd.grad(again.sum(), tensors[0], create_graph=True)
    (expected,) = torch.autograd.grad((expected * expected).sum(), tensors[1])
    torch.testing.assert_close(second, expected, **CLOSE)


@pytest.mark.parametrize("gradients", [False, True])
def test_opcheck(gradients: bool) -> None:
    tensors = qkv(requires_grad=gradients)
    for form, mask in (
        (AttentionForm(), None),
        (AttentionForm("sigmoid", mask="boolean"), torch.ones(9, 70) > 0),
    ):
        assert not attach(form)
        arguments = (*tensors, mask, None, None, None, form_text(form), 0.2, -1.0, 1.0, 0, 0)
        torch.library.opcheck(overload(), arguments)


def test_transformations() -> None:
    q, k, v = qkv()
    batched = torch.vmap(lambda one: score_attention(one, k, v))(torch.stack([q, q * 2.0]))
    torch.testing.assert_close(batched[1], score_attention(q * 2.0, k, v), **CLOSE)
    keep = torch.rand(3, 9, 70) > 0.3
    many = torch.vmap(lambda one: score_attention(q, k, v, "sigmoid", mask=one))(keep)
    torch.testing.assert_close(many[2], score_attention(q, k, v, "sigmoid", mask=keep[2]), **CLOSE)
    found = torch.func.grad(lambda one: score_attention(one, k, v).sum())(q)
    expected = torch.func.grad(lambda one: sdpa(one, k, v, enable_gqa=True).sum())(q)
    torch.testing.assert_close(found, expected, **CLOSE)


def test_autocast_narrows_as_torch_does() -> None:
    q, k, v = qkv()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert score_attention(q, k, v.bfloat16()).dtype == torch.bfloat16


def test_compiles_without_a_break() -> None:
    q, k, v = qkv(requires_grad=True)
    score_attention(q, k, v, "sigmoid", bias=-3.0)
    form = form_text(AttentionForm("sigmoid"))

    @torch.compile(fullgraph=True, backend="aot_eager", dynamic=True)
    def compiled(q: Any, k: Any, v: Any) -> Any:
        return overload()(q, k, v, None, None, None, None, form, 24**-0.5, -3.0, 1.0, 0, 0) * 2.0

    y = compiled(q, k, v)
    torch.testing.assert_close(y, 2.0 * sigmoid_attention(q, k, v), **CLOSE)
    (found,) = torch.autograd.grad(y.sum(), q)
    (expected,) = torch.autograd.grad(2.0 * sigmoid_attention(q, k, v).sum(), q)
    torch.testing.assert_close(found, expected, **CLOSE)


def test_what_does_not_fit_is_refused() -> None:
    q, k, v = qkv()
    with pytest.raises(RuntimeError, match="do not fit"):
        score_attention(q, k[:, :, :5], v)
    with pytest.raises(RuntimeError, match="does not broadcast"):
        score_attention(q, k, v, mask=torch.zeros(3, 70))
    for wrong in ({"softcap": 0.0}, {"window": 0}):
        with pytest.raises(InputError, match="above 0"):
            score_attention(q, k, v, **wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no such score function"):
        score_attention(q, k, v, "softmax2")
    with pytest.raises(RuntimeError, match="not loaded"):
        overload()(q, k, v, None, None, None, None, "relu_window", 1.0, 0.0, 1.0, 0, 0)


def test_memory_is_in_proportion_to_the_queries() -> None:
    """The scores would be 256 MiB; what is alive at once is asked of torch's profiler."""
    q, k, v = (torch.randn(1, 4, 4096, 16, requires_grad=True) for _ in range(3))
    score_attention(q, k, v, "sigmoid", bias=-math.log(4096))
    with torch.profiler.profile(profile_memory=True) as profile:
        score_attention(q, k, v, "sigmoid", bias=-math.log(4096)).sum().backward()
    largest = max(event.cpu_memory_usage for event in profile.key_averages())
    assert 0 < largest < 16 << 20
