"""A mutant: a correct rewrite in which one thing was made wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from onnx import ModelProto

from mutants.surgery import Surgery
from mutants.transformer import FORMS, build


@dataclass(frozen=True)
class Mutant:
    """One mistake.

    Attributes:
        name: what was made wrong.
        form: the correct form that it is planted in.
        plant: makes it.
        shows: the nodes of the original at which it may show first; empty where that is not asked.
        hidden: regimes in which it is no mistake: it exchanges tensors of equal content, or shifts a stream
            by one number, which no norm sees. Random weights keep equal elements equal, so they agree.
    """

    name: str
    form: str
    plant: Callable[[Surgery], None]
    shows: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()

    def model(self, regime: str) -> ModelProto:
        """The wrong model."""
        surgery = Surgery(build(FORMS[self.form], regime))
        self.plant(surgery)
        return surgery.model
