"""Norms and activations as reference code writes them in torch: read, and recognised."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional

import tautomer

CHANNELS, GROUPS = 8, 4
IMAGE, ROWS = (2, CHANNELS, 6, 5), (6, CHANNELS)


class WithNumbers(nn.Module):
    """A module with three numbers for each channel."""

    def __init__(self) -> None:
        super().__init__()
        self.v, self.weight, self.bias = (nn.Parameter(torch.rand(CHANNELS) + 0.5) for _ in range(3))
        self.register_buffer("running_var", torch.rand(CHANNELS) + 0.5)

    def affine(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.weight.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)


class EvoNormS0(WithNumbers):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = x.reshape(len(x), GROUPS, CHANNELS // GROUPS, *x.shape[2:])
        root = parts.float().var(dim=(2, 3, 4), unbiased=False, keepdim=True).add(1e-5).sqrt().to(x.dtype)
        root = root.expand(parts.shape).reshape(x.shape)
        return self.affine(x * (x * self.v.view(1, -1, 1, 1)).sigmoid() / root)


class EvoNormB0(WithNumbers):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        left = self.running_var.add(1e-3).sqrt_().view(1, -1, 1, 1).expand_as(x)
        deviation = x.float().var(dim=(2, 3), unbiased=False, keepdim=True).add(1e-3).sqrt()
        return self.affine(x / left.max(x * self.v.view(1, -1, 1, 1) + deviation))


class Dice(WithNumbers):
    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(CHANNELS, affine=False, eps=1e-9)
        self.bn.running_mean.uniform_(-1.0, 1.0)
        self.bn.running_var.uniform_(0.5, 2.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        p = torch.sigmoid(self.bn(x))
        return self.v * (1 - p) * x + p * x


class Written(WithNumbers):
    """A bound by a masked write."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x.clone()
        y[y > self.v] = 0.0
        return functional.relu(y)


class Rational(nn.Module):
    """Version A, in powers; the coefficients are parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.above = nn.Parameter(torch.tensor([0.02, 0.5, 1.6, 1.2, 0.4, 0.03]))
        self.below = nn.Parameter(torch.tensor([0.1, -1.8, 0.2, 0.06]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        above = sum(self.above[i] * x**i for i in range(1, 6)) + self.above[0]
        return above / (1 + sum((self.below[j] * x ** (j + 1)).abs() for j in range(4)))


class ByMatrix(Rational):
    """Its powers as the columns of a matrix, as the reference code computes them without its own kernels."""

    def __init__(self, version: str) -> None:
        super().__init__()
        self.version = version
        self.below.data[0] = 0.15  # 0.1 is the number that version C adds

    def powers(self, x: torch.Tensor) -> torch.Tensor:
        return torch.vander(x, len(self.above), increasing=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        powers = self.powers(x.view(-1))
        above = powers.mul(self.above).sum(1)
        if self.version == "A":
            weights = torch.cat([torch.tensor([1.0]), self.below, torch.zeros(1)])
            return (above / powers.mul(weights).abs().sum(1)).view(x.shape)
        if self.version == "C":
            return (above / (0.1 + powers[:, :4].mul(self.below).sum(1).abs())).view(x.shape)
        return (above / (1 + powers[:, 1:5].mul(self.below).sum(1).abs())).view(x.shape)


class Stacked(ByMatrix):
    """Its powers one after the other."""

    def powers(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([x**i for i in range(len(self.above))], dim=-1)


class Looped(Rational):
    """A sum that a loop makes, from x^0 on."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        above, below = torch.zeros(()), torch.zeros(())
        for i in range(len(self.above)):
            above = above + self.above[i] * x.pow(i)
        for j in range(len(self.below)):
            below = below + self.below[j] * x.pow(j + 1)
        return above / (1 + below.abs())


class Function(nn.Module):
    def __init__(self, function) -> None:  # type: ignore[no-untyped-def]
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


class PerHead(nn.Module):
    """Queries of heads normalised over their own width, before or after heads and tokens change places."""

    def __init__(self, norm, scale: tuple[int, ...], before: bool) -> None:  # type: ignore[no-untyped-def]
        super().__init__()
        self.norm, self.before = norm, before
        self.weight = nn.Parameter(torch.rand(scale) + 0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q = x.view(len(x), -1, 2, CHANNELS // 2)
        if self.before:
            scale = self.weight.transpose(0, 1) if self.weight.dim() > 1 else self.weight
            return (self.norm(q) * scale).transpose(1, 2)
        return self.norm(q.transpose(1, 2)) * self.weight


def _rms(x: torch.Tensor) -> torch.Tensor:
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)


TOKENS, OF_ALL, OF_HEADS = (2, 5, CHANNELS), (CHANNELS // 2,), (2, 1, CHANNELS // 2)
CASES = {
    "EvoNormS0": (EvoNormS0, IMAGE),
    "EvoNormB0": (EvoNormB0, IMAGE),
    "GroupNormalization": (lambda: nn.GroupNorm(GROUPS, CHANNELS), IMAGE),
    "InstanceNormalization": (lambda: nn.InstanceNorm2d(CHANNELS, affine=True), IMAGE),
    "Dice": (Dice, ROWS),
    "BoundedRelu": (Written, ROWS),
    "Rational": (Rational, ROWS),
    "L2Normalization": (lambda: Function(lambda x: functional.normalize(x, dim=-1)), ROWS),
    **{
        f"{op} per head, {place}, {kind}": (partial(PerHead, norm, scale, place == "before"), TOKENS)
        for op, norm in {
            "RMSNormalization": _rms,
            "L2Normalization": partial(functional.normalize, dim=-1),
            "LayerNormalization": lambda x: functional.layer_norm(x, OF_ALL, None, None, 1e-6),
        }.items()
        for place in ("before", "after")
        for kind, scale in {"one scale": OF_ALL, "a scale each": OF_HEADS}.items()
    },
    "ThresholdedRelu": (lambda: Function(lambda x: functional.threshold(x, 0.3, 0.0)), ROWS),
    "FatRelu": (lambda: Function(lambda x: torch.where(x >= 0.3, x, 0.0)), ROWS),
    "FatRelu as a factor": (lambda: Function(lambda x: x * (x >= 0.3)), ROWS),
    "FatRelu as a number": (lambda: Function(lambda x: (x >= 0.3).float() * x), ROWS),
    "Selu": (lambda: Function(functional.selu), ROWS),
}


@pytest.mark.parametrize("op", CASES)
def test_a_module_is_recognised(op: str) -> None:
    torch.manual_seed(0)
    build, shape = CASES[op]
    assert op.split()[0] in [one.op for one in tautomer.inspect(build().eval(), (torch.randn(shape),))]


def test_a_rational_module_is_written_by_horners_rule() -> None:
    module, x = Rational().eval(), torch.randn(ROWS)
    result = tautomer.optimize(module, (x,))
    assert result.verification["verdict"] == "EQUAL"
    assert "aten.pow.Tensor_Scalar" in result.before
    assert "aten.pow.Tensor_Scalar" not in result.after
    # Horner's rule and powers round differently, by a few ulp of the terms
    torch.testing.assert_close(result.model(x), module(x), rtol=1e-5, atol=1e-6)


MATRICES = {
    **{f"vander, {version}": lambda version=version: ByMatrix(version) for version in "ABC"},
    "stack": lambda: Stacked("B"),
    "loop": Looped,
}


@pytest.mark.parametrize("name", MATRICES)
def test_powers_in_a_matrix_are_written_by_horners_rule(name: str) -> None:
    module, x = MATRICES[name]().eval(), torch.randn(ROWS)
    result = tautomer.optimize(module, (x,))
    assert result.verification["verdict"] == "EQUAL"
    assert any((r.kind, r.rule, r.op) == ("passed", "raise", "Rational") for r in result.remarks)
    left = [op.split(".")[1] for op in result.after]
    assert not {"vander", "stack", "sum", "pow"} & set(left)
    torch.testing.assert_close(result.model(x), module(x), rtol=1e-5, atol=1e-6)  # as above


def test_a_matrix_of_powers_that_can_divide_by_zero_stays() -> None:
    class Vanishing(ByMatrix):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            powers = self.powers(x.view(-1))
            return (powers.mul(self.above).sum(1) / powers[:, 1:5].mul(self.below).sum(1).abs()).view(x.shape)

    remarks = tautomer.explain(Vanishing("B").eval(), (torch.randn(ROWS),))
    assert not [r for r in remarks if (r.kind, r.op) == ("passed", "Rational")]
