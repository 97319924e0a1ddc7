"""The modules that layer normalisations become. They keep the parameters: names, shapes and objects.

    RMSNorm:   x * rsqrt(mean(x^2) + eps) * weight + bias
    CRMSNorm:  the same of rows whose last element is read off the others, x_d = -sum(x[:d-1])

Both are LayerNorm on rows of mean zero. Source: arXiv 2305.14858.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class RMSNorm(nn.Module):
    """RMS normalisation with a gain and a bias.

    Args:
        normalized_shape: sizes of the last axes, which make a row.
        eps: added to the mean square.
        weight: the gain, of that shape; None for a gain of one.
        bias: of that shape; None for none.
        centre_in_training: whether rows have their mean taken out while training. Where element-wise dropout
            lies in the stream, what writes there has mean zero only without it.
    """

    weight: nn.Parameter | None
    bias: nn.Parameter | None

    def __init__(
        self,
        normalized_shape: tuple[int, ...],
        eps: float,
        weight: nn.Parameter | None,
        bias: nn.Parameter | None,
        *,
        centre_in_training: bool = False,
    ) -> None:
        super().__init__()
        self.normalized_shape, self.eps = normalized_shape, eps
        self.centre_in_training = centre_in_training
        self.register_parameter("weight", weight)
        self.register_parameter("bias", bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalises rows; gives the shape and type of x."""
        if self.centre_in_training and self.training:
            x = x - x.mean(self._axes, keepdim=True)
        y = self.normalised(x)
        if self.bias is not None:
            y = y + self.bias
        return y.to(x.dtype)

    def normalised(self, x: torch.Tensor) -> torch.Tensor:
        """Rows of x over their size, times the gain."""
        return F.rms_norm(x, self.normalized_shape, self.weight, self.eps)

    @property
    def _axes(self) -> tuple[int, ...]:
        return tuple(range(-len(self.normalized_shape), 0))

    def extra_repr(self) -> str:
        """What `print(model)` shows."""
        shown = f"{self.normalized_shape}, eps={self.eps}, bias={self.bias is not None}"
        return f"{shown}, centre_in_training=True" if self.centre_in_training else shown


class CRMSNorm(RMSNorm):
    """RMS normalisation of rows of mean zero that reads all elements but the last.

    The stream keeps its width, so that shapes of parameters do not change; its last element is not looked at.
    Sums are computed in float32 or wider.
    """

    def normalised(self, x: torch.Tensor) -> torch.Tensor:
        """Rows of x over their size, times the gain."""
        rows = x.flatten(-len(self.normalized_shape))
        head = rows[..., :-1].to(torch.promote_types(x.dtype, torch.float32))
        last = -head.sum(-1, keepdim=True)
        square = head.square().sum(-1, keepdim=True) + last.square()
        whole = torch.cat((head, last), -1) * torch.rsqrt(square / rows.shape[-1] + self.eps)
        y = whole.reshape(x.shape)
        return (y if self.weight is None else y * self.weight).to(x.dtype)
