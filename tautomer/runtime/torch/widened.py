"""Running a torch graph in float64: the oracle of its own rounding, and what shifts are asked of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import ml_dtypes
import numpy as np
import torch

from tautomer.graph.fx.fake import is_fake

Alter = Callable[[torch.fx.Node, Any], Any]
_SKIPPED = ("aten._assert_tensor_metadata.default", "_enter_autocast", "_exit_autocast")
_SEED = 20


class Recorded(torch.fx.Interpreter):
    """Runs a graph as it is.

    Args:
        module: the graph.
        alter: gives for a node and its result what the readers get.
    """

    def __init__(self, module: torch.fx.GraphModule, alter: Alter | None = None) -> None:
        super().__init__(module)
        self._alter = alter

    def run_node(self, n: torch.fx.Node) -> Any:
        """A node's result, after the alteration."""
        result = super().run_node(n)
        return result if self._alter is None or n.op == "output" else self._alter(n, result)


class Widened(Recorded):
    """Runs a graph with float64 in the place of every float type."""

    def get_attr(self, target: Any, args: Any, kwargs: Any) -> Any:
        """A parameter, widened."""
        return widened(super().get_attr(target, args, kwargs))

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        """An operator; conversions to narrower types are none."""
        if str(target) in _SKIPPED or getattr(target, "__name__", "") in _SKIPPED:
            return None
        return super().call_function(target, *_wide_types((args, kwargs)))

    def call_module(self, target: Any, args: Any, kwargs: Any) -> Any:
        """Guards speak of the types that the graph was made for."""
        return None if target == "_guards_fn" else super().call_module(target, args, kwargs)


def outputs_of(run: Recorded, values: Sequence[Any]) -> dict[str, Any]:
    """The tensors that a graph gives, as arrays by position.

    Args:
        run: the graph.
        values: what its placeholders get; they are copied.
    """
    own = [x.detach().clone() if isinstance(x, torch.Tensor) else x for x in values]
    with _repeatable(isinstance(run, Widened)):
        result = run.run(*own, enable_io_processing=False)
    return {str(i): array(x) for i, x in enumerate(_tensors(result))}


@contextmanager
def _repeatable(wide: bool) -> Iterator[None]:
    """The same random numbers in every run, and none taken from the caller's."""
    before = torch.get_default_dtype()
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        try:
            torch.set_default_dtype(torch.float64 if wide else before)
            yield
        finally:
            torch.set_default_dtype(before)


def widened(held: Any) -> Any:
    """A float tensor in float64, everything else as it is."""
    if isinstance(held, torch.Tensor) and held.dtype.is_floating_point:
        return held.detach().to(torch.float64)
    return held


def array(tensor: torch.Tensor) -> np.ndarray[Any, Any]:
    """A tensor as numpy has it."""
    own = tensor.detach().cpu()
    if own.dtype == torch.bfloat16:
        return own.contiguous().view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return np.asarray(own.numpy())


def real_values(values: Sequence[Any]) -> list[Any]:
    """The values, with random ones for those without data, and numbers for symbolic sizes."""
    generator = torch.Generator().manual_seed(_SEED)

    def extent(size: Any) -> int:
        return size if isinstance(size, int) else int(size.node.hint)

    def real(held: Any) -> Any:
        if isinstance(held, torch.SymInt):
            return extent(held)
        if not isinstance(held, torch.Tensor) or not is_fake(held):
            return held
        shape = [extent(size) for size in held.shape]
        if not held.dtype.is_floating_point:
            return torch.ones(shape, dtype=held.dtype)
        return torch.randn(shape, generator=generator, dtype=torch.float32).to(held.dtype)

    return [real(held) for held in values]


def _wide_types(held: Any) -> Any:
    if isinstance(held, torch.dtype):
        return torch.float64 if held.is_floating_point else held
    if isinstance(held, (list, tuple)):
        made = [_wide_types(each) for each in held]
        return type(held)(made) if isinstance(held, (list, tuple)) and type(held) in (list, tuple) else held
    if isinstance(held, Mapping):
        return {name: _wide_types(each) for name, each in held.items()}
    return held


def _tensors(held: Any) -> Iterator[torch.Tensor]:
    if isinstance(held, torch.Tensor):
        yield held
    elif isinstance(held, (list, tuple)):
        for each in held:
            yield from _tensors(each)
    elif isinstance(held, Mapping):
        for each in held.values():
            yield from _tensors(each)
