"""Evidence for torch graphs: each site exactly, the whole graph by running it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
import torch

from tautomer.graph.fx.groups import FxModel
from tautomer.graph.fx.writer import Written
from tautomer.passes.workspace import Moved
from tautomer.runtime.evidence import MOST_MEAN
from tautomer.runtime.torch.rounding import moved_by_rounding, reason_of, score_of
from tautomer.runtime.torch.widened import Recorded, Widened, array, outputs_of, real_values, widened
from tautomer.verify.neighbourhood import Neighbourhood
from tautomer.verify.numerics import Score
from tautomer.verify.shift_oracle import Shift, moved_in_runs


class TorchWitness:
    """Checks rewrites of one graph.

    Args:
        fx: the graph as it was read, before the first rewrite.
        values: what its placeholders may get.
        withheld: values that are to be left as they are, by name, and why.
    """

    def __init__(self, fx: FxModel, values: Sequence[Any], withheld: Mapping[str, str]) -> None:
        self._withheld = withheld
        self._module, self._origin = fx.module, dict(fx.origin)
        self._values = real_values(values)
        self._neighbourhood = Neighbourhood(fx.model)
        self._exact: dict[str, Any] = {}

    def refuses(
        self,
        key: Any,
        old: ir.Value,
        new: ir.Value,
        leaves: Mapping[ir.Value, ir.Value],
        *,
        linear: bool = False,
    ) -> str:
        """Why the new value may not take the old one's place, or ""."""
        refusal = self._withheld.get(str(old.name), "")
        return refusal or self._neighbourhood.refuses(key, old, new, leaves, linear=linear)

    @property
    def skipped(self) -> int:
        """How many distinct rewrites were too large to be checked on their own."""
        return self._neighbourhood.skipped

    def blind(self) -> str:
        """Why the graph cannot be run in float64, or ""."""
        try:
            self._exact = outputs_of(Widened(self._module), self._wide())
        except Exception as error:  # whatever an operator raises: then it cannot be run
            return f"the whole graph cannot be run in float64, which this rewrite needs: {_line(error)}"
        return ""

    def moved(self, shifts: Mapping[ir.Value, Mapping[int, Sequence[tuple[int, int]]]]) -> Moved | None:
        """Which shift an output of the original graph sees."""
        asked = {
            value: Shift({axis: tuple(pieces) for axis, pieces in axes.items()})
            for value, axes in shifts.items()
            if value in self._origin  # what is inside of a node is not seen, and ends in what the node gives
        }
        values = {self._origin[value]: value for value in asked}

        def run_with(alter: Any) -> Mapping[str, Any]:
            def change(node: torch.fx.Node, held: Any) -> Any:
                if node not in values:
                    return held
                return torch.from_numpy(np.array(alter(values[node], array(held)))).to(held.device)

            return outputs_of(Widened(self._module, change), self._wide())

        try:
            found = moved_in_runs(run_with, asked)
        except Exception as error:
            return Moved(None, f"whether an output sees the mean could not be asked: {_line(error)}")
        if found is None:
            return None
        reason = f"output {found.output} moves when '{found.value.name}' is shifted"
        return Moved(found.value, reason)

    def differs(self, written: Written, centred: Mapping[str, tuple[int, ...]]) -> str:
        """Why the rewritten graph is not the same function, or "".

        Args:
            written: the rewritten graph.
            centred: values whose mean has to be zero for norms that were converted, with its axes.
        """
        means: dict[str, float] = {}
        wanted = {written.names[name]: axes for name, axes in centred.items() if name in written.names}

        def measure(node: torch.fx.Node, held: Any) -> Any:
            if node.name in wanted:
                wide = widened(held)
                mean = wide.mean(wanted[node.name]).abs()
                rms = wide.square().mean(wanted[node.name]).sqrt()
                rows = torch.where(rms > 0, mean / rms, mean)
                means[node.name] = float(rows.max()) if rows.numel() else 0.0
            return held

        try:
            new = outputs_of(Recorded(written.module, measure), self._values)
            score = self._judged(new)
        except Exception as error:
            return f"the graphs cannot be run to compare them: {_line(error)}"
        worst = max(means, key=lambda name: means[name], default="")
        if worst and not means[worst] <= MOST_MEAN:
            return f"the mean of '{worst}' is {means[worst]:.3g} of its size, and a norm relies on zero"
        if not score.accepted:
            return reason_of(score)
        return ""

    def _judged(self, new: Mapping[str, Any]) -> Score:
        """By the criterion of the numerics leg, on the values that the graph was made for."""
        old = outputs_of(Recorded(self._module), self._values)
        exact = self._exact or outputs_of(Widened(self._module), self._wide())
        return score_of(
            old, new, exact, lambda draw: outputs_of(Widened(self._module, _nudge(draw)), self._wide(draw))
        )

    def _wide(self, draw: int | None = None) -> list[Any]:
        """The values in float64; for a draw, each moved by up to an ulp of its own type."""
        if draw is None:
            return [widened(held) for held in self._values]
        generator = torch.Generator().manual_seed(draw)
        return [moved_by_rounding(held, generator) for held in self._values]


def _nudge(draw: int) -> Any:
    generator = torch.Generator().manual_seed(1000 + draw)

    def nudge(node: torch.fx.Node, held: Any) -> Any:
        fake = node.meta.get("val")
        if node.op != "get_attr" or not isinstance(held, torch.Tensor) or fake is None:
            return held
        return moved_by_rounding(held, generator, fake.dtype)

    return nudge


def _line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:200]
