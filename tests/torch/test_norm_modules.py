"""RMSNorm with a bias, and CRMSNorm: values against float64 formulas, types, gradients, edges."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tautomer.torch import CRMSNorm, RMSNorm


def _norm(kind: type[RMSNorm], d: int, dtype: torch.dtype = torch.float64, bias: bool = True) -> RMSNorm:
    generator = torch.Generator().manual_seed(3)
    weight, shift = (torch.randn(d, generator=generator, dtype=torch.float64).to(dtype) for _ in range(2))
    return kind((d,), 1e-3, nn.Parameter(weight), nn.Parameter(shift) if bias else None)


def _centred(shape: tuple[int, ...], dtype: torch.dtype = torch.float64) -> torch.Tensor:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    return (x - x.mean(-1, keepdim=True)).to(dtype)


@pytest.mark.parametrize("kind", [RMSNorm, CRMSNorm])
@pytest.mark.parametrize("d", [2, 7, 16, 33])
@pytest.mark.parametrize("bias", [False, True])
def test_on_rows_of_mean_zero_it_is_layer_norm(kind: type[RMSNorm], d: int, bias: bool) -> None:
    norm, x = _norm(kind, d, bias=bias), _centred((3, 5, d))
    exact = F.layer_norm(x, (d,), norm.weight, norm.bias, norm.eps)
    assert torch.allclose(norm(x), exact, rtol=1e-12, atol=1e-12)


def test_on_other_rows_it_is_the_formula() -> None:
    norm, x = _norm(RMSNorm, 6), torch.randn(4, 6, dtype=torch.float64) + 3.0
    exact = x / (x.square().mean(-1, keepdim=True) + norm.eps).sqrt() * norm.weight + norm.bias
    assert torch.allclose(norm(x), exact, rtol=1e-12)


def test_crms_does_not_look_at_the_last_element() -> None:
    norm, x = _norm(CRMSNorm, 6), _centred((4, 6))
    y = norm(x)
    x[:, -1] = torch.nan
    assert torch.equal(norm(x), y)


@pytest.mark.parametrize("kind", [RMSNorm, CRMSNorm])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_the_type_stays_and_the_error_is_rounding(kind: type[RMSNorm], dtype: torch.dtype) -> None:
    d = 32
    norm, x = _norm(kind, d, dtype), _centred((16, d), dtype)
    y = norm(x)
    assert y.dtype == dtype
    wide = _norm(kind, d, dtype).double()
    exact = wide(x.double())
    # normalised, times the gain, plus the bias: three roundings, of numbers up to the largest
    assert (y.double() - exact).abs().max() <= 2 * torch.finfo(dtype).eps * exact.abs().max()


@pytest.mark.parametrize("kind", [RMSNorm, CRMSNorm])
def test_gradients(kind: type[RMSNorm]) -> None:
    norm = _norm(kind, 5)
    x = _centred((2, 5)).requires_grad_(True)
    assert torch.autograd.gradcheck(norm, (x,))
    gradients = torch.autograd.grad(norm(x).square().sum(), (norm.weight, norm.bias))
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


@pytest.mark.parametrize("kind", [RMSNorm, CRMSNorm])
def test_edges(kind: type[RMSNorm]) -> None:
    norm = _norm(kind, 4)
    assert norm(torch.zeros(0, 4, dtype=torch.float64)).shape == (0, 4)
    assert torch.equal(norm(torch.zeros(2, 4, dtype=torch.float64))[0], norm.bias)
    strided = _centred((4, 3, 4)).transpose(0, 1)
    assert torch.allclose(norm(strided), norm(strided.contiguous()))
    assert norm(torch.full((1, 4), torch.nan, dtype=torch.float64)).isnan().all()


def test_rows_over_two_axes() -> None:
    weight = nn.Parameter(torch.randn(3, 4, dtype=torch.float64))
    x = torch.randn(2, 3, 4, dtype=torch.float64)
    x = x - x.mean((-2, -1), keepdim=True)
    for kind in (RMSNorm, CRMSNorm):
        norm = kind((3, 4), 1e-5, weight, None)
        assert torch.allclose(norm(x), F.layer_norm(x, (3, 4), weight, None, 1e-5), rtol=1e-12, atol=1e-12)


def test_in_training_it_takes_the_mean_out_where_asked() -> None:
    norm = RMSNorm((6,), 1e-5, None, None, centre_in_training=True)
    x = torch.randn(3, 6) + 2.0
    assert torch.allclose(norm.train()(x), F.layer_norm(x, (6,)), atol=1e-6)
    assert not torch.allclose(norm.eval()(x), F.layer_norm(x, (6,)), atol=1e-1)
    assert "centre_in_training" in repr(norm)


def test_its_state_is_that_of_a_layer_norm() -> None:
    plain = nn.LayerNorm(6)
    norm = RMSNorm((6,), 1e-5, plain.weight, plain.bias)
    assert list(norm.state_dict()) == list(plain.state_dict())
    norm.load_state_dict(nn.LayerNorm(6).state_dict())
