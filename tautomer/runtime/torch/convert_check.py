"""Whether a converted module is the same function.

On a float64 copy, every tensor that is to be centred is first shifted by a random mean of its own size. The
converted copy must give what the original gives: a mean that somebody sees shows here, however small the mean
of the stored weights is. In the module's own type, the outputs and the means that are left are judged.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir
import torch
from torch import nn

from tautomer.errors import CheckFailedError
from tautomer.runtime.torch.centring import Centring
from tautomer.runtime.torch.convert_apply import apply_plan
from tautomer.runtime.torch.convert_plan import ModulePlan
from tautomer.runtime.torch.example import Example
from tautomer.runtime.torch.layer_norms import NormModule
from tautomer.runtime.torch.module_tensors import tensor_of
from tautomer.runtime.torch.norm_modules import RMSNorm
from tautomer.verify.numerics import judge

# Shifts of a stream's own size cost a digit or two of sixteen, and code that computes in float32 at places
# leaves seven. What sees a mean moves by about its own size.
_SAME = 1e-5
# The weights of a row of d, rounded to bfloat16, leave about 2^-9 / sqrt(d) of a mean; a forgotten writer
# leaves about 1.
_MOST_MEAN = 1e-2
_LARGEST_COPY = 1 << 29  # parameters, of which a float64 copy takes 4 GiB
_DRAWS = 4  # of perturbed weights

Outputs = dict[str, torch.Tensor]
_REMEDY = "the model is as it was; please report it"


@dataclass(frozen=True)
class Evidence:
    """What was measured.

    Attributes:
        difference: of outputs in float64, in units of their largest element; None where there is no float64
            copy, since the module is too large for one or does not run in that type.
        score: error in the module's own type, in units of what rounding explains; 4 at most.
        largest_mean: |mean| / rms over the rows that converted norms read, at most.
    """

    difference: float | None
    score: float
    largest_mean: float


@dataclass
class Examiner:
    """Knows the module as it was.

    Args:
        model: before the conversion.
        example: a call of it.
    """

    model: nn.Module
    example: Example

    def __post_init__(self) -> None:
        self.original = self.example.run(self.model)
        self.exact: Outputs | None = None
        self._copy = self._wide_copy()
        if self._copy is not None:
            try:
                self.exact = self._wide.run(self._copy)
            except Exception:  # code that insists on another type
                self._copy = None

    @property
    def _wide(self) -> Example:
        return self.example.changed(lambda x: x.detach().double())

    def _wide_copy(self) -> nn.Module | None:
        if sum(parameter.numel() for parameter in self.model.parameters()) > _LARGEST_COPY:
            return None
        try:
            return copy.deepcopy(self.model).double()
        except Exception:  # it holds something that cannot be copied
            return None

    def perturbed(self, centrings: Sequence[Centring]) -> list[Outputs]:
        """The outputs when the tensors to be centred move by one ulp at random; they are restored after."""
        model, example = (self.model, self.example) if self._copy is None else (self._copy, self._wide)
        moved = []
        for draw in range(_DRAWS):
            with _nudged(self.model, model, centrings, torch.Generator().manual_seed(draw)):
                moved.append(example.run(model))
        return moved

    def shifted_copy(self, plan: ModulePlan, norm: type[RMSNorm]) -> float | None:
        """Shifts and converts the float64 copy; how far its outputs are from the original's.

        Raises:
            CheckFailedError: further than rounding explains.
        """
        wide, exact = self._copy, self.exact
        if wide is None or exact is None:
            return None
        self._copy = None  # it is not the original any more
        generator = torch.Generator().manual_seed(0)
        for centring in plan.centrings:
            _shift(tensor_of(wide, centring.name), centring, generator)
        apply_plan(wide, plan, norm, self._wide, can_be_undone=False)
        found = self._wide.run(wide)
        distances = {name: _distance(y, found[name]) for name, y in exact.items()}
        worst = max(distances, key=lambda name: distances[name], default="")
        if not distances.get(worst, 0.0) <= _SAME:
            raise CheckFailedError(
                f"it moves by {distances[worst]:.2g} of its size when the stream is shifted and centred",
                where=f"output '{worst}'",
                remedy=_REMEDY,
            )
        return distances.get(worst, 0.0)

    def outputs(self, perturbed: Sequence[Outputs]) -> float:
        """The score of the module as it is now, by the numeric criterion.

        Where there is no exact result the original stands for it, without an error of its own.

        Args:
            perturbed: from the method of that name.

        Raises:
            CheckFailedError: rounding does not explain the difference.
        """
        now, exact = self.example.run(self.model), self.exact or self.original
        score = judge(
            lambda _: _arrays(self.original),
            lambda _: _arrays(now),
            lambda _: _arrays(exact),
            {},
            perturbed=lambda draw: _arrays(perturbed[draw]),
            draws=len(perturbed),
        )
        if not score.accepted:
            raise CheckFailedError(score.reason, where=f"output {score.worst_row[0]}", remedy=_REMEDY)
        return score.score

    def means(self, norms: Sequence[NormModule]) -> float:
        """The largest |mean| / rms over the rows that norms of the module read now.

        Raises:
            CheckFailedError: more than rounding leaves.
        """
        found: dict[str, float] = {}
        handles = []
        for norm in norms:

            def watch(_: nn.Module, args: tuple[Any, ...], norm: NormModule = norm) -> None:
                axes = tuple(range(-len(norm.normalized_shape), 0))
                x = args[0].detach().double()
                rms = x.square().mean(axes).sqrt()
                ratio = torch.where(rms > 0, x.mean(axes).abs() / rms, torch.zeros_like(rms))
                found[norm.name] = max(found.get(norm.name, 0.0), float(ratio.max()))

            handles.append(self.model.get_submodule(norm.name).register_forward_pre_hook(watch))
        try:
            self.example.run(self.model)
        finally:
            for handle in handles:
                handle.remove()
        worst = max(found, key=lambda name: found[name], default="")
        if not found.get(worst, 0.0) <= _MOST_MEAN:
            raise CheckFailedError(
                f"the mean of what it reads is {found[worst]:.3g} of its size, and was to be zero",
                where=f"norm '{worst}'",
                remedy=_REMEDY,
            )
        return found.get(worst, 0.0)


def _arrays(outputs: Outputs) -> dict[str, Any]:
    return {name: ir.tensor_adapters.TorchTensor(y.detach().cpu()).numpy() for name, y in outputs.items()}


def _distance(exact: torch.Tensor, y: torch.Tensor) -> float:
    """The largest difference, in units of the largest finite number; infinite where a number became none."""
    if not exact.is_floating_point():
        return 0.0 if torch.equal(exact, y) else math.inf
    finite = torch.isfinite(exact)
    if not torch.equal(finite, torch.isfinite(y)):
        return math.inf
    if not finite.any():
        return 0.0
    return float((y - exact)[finite].abs().max() / exact[finite].abs().max().clamp_min(1e-300))


def _shift(tensor: torch.Tensor, centring: Centring, generator: torch.Generator) -> None:
    """Adds random numbers of the size of the tensor that are constant along what is centred."""
    shape = [1 if axis in centring.axes else size for axis, size in enumerate(centring.sizes)]
    size = tensor.detach().square().mean().sqrt()
    shift = torch.randn(shape, generator=generator, dtype=torch.float64).to(tensor.device) * size
    with torch.no_grad():
        tensor.add_(shift.expand(centring.sizes).reshape(tensor.shape))


@contextmanager
def _nudged(
    stored: nn.Module, model: nn.Module, centrings: Sequence[Centring], generator: torch.Generator
) -> Iterator[None]:
    """Every element of the tensors to be centred moves by one ulp of its stored type, for a while."""
    tensors = [(tensor_of(stored, each.name), tensor_of(model, each.name)) for each in centrings]
    kept = [tensor.detach().clone() for _, tensor in tensors]
    try:
        with torch.no_grad():
            for own, tensor in tensors:
                _, exponent = torch.frexp(own.detach().double())
                sign = torch.randint(0, 2, own.shape, generator=generator).to(own.device) * 2.0 - 1.0
                ulp = torch.ldexp(sign.double(), exponent - 1) * torch.finfo(own.dtype).eps
                tensor.copy_(tensor.double() + ulp)
        yield
    finally:
        with torch.no_grad():
            for (_, tensor), old in zip(tensors, kept, strict=True):
                tensor.copy_(old)
