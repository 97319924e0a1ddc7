"""A case of the zoo: a small model, with what it computes or what it merely looks like."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx

from .sketch import Branch, Sketch

__all__ = ["Branch", "Feeds", "NearMiss", "Sketch", "Spelling"]

Feeds = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Spelling:
    """A model whose `output` (its first output unless named) is what `op` computes.

    `wanted` is the operation written in numpy on the model's inputs. A recogniser may put the result on one
    of the values `also` instead, where a cast or a reshape leaves the choice open. `source`, where it
    matters, is the value that the operation reads first. `keeps` names outputs that no rewrite may take away.
    A spelling that `may_decline` is the operation only with parameters that no node of the model spells out:
    silence is sound there, other attributes are not.
    """

    name: str
    model: Callable[[], onnx.ModelProto]
    op: str
    attributes: dict[str, object]
    wanted: Callable[[Feeds], np.ndarray]
    output: str | None = None
    also: tuple[str, ...] = ()
    source: str | None = None
    keeps: tuple[str, ...] = ()
    may_decline: bool = False

    def results(self) -> tuple[str, ...]:
        return (self.output or self.model().graph.output[0].name, *self.also)


@dataclass(frozen=True)
class NearMiss:
    """A model that must not be reported as `looks_like`.

    Nowhere in it, unless `anchor` names the one value on which the report would be untrue. `allowed` names
    operations that truly occur inside. Where `differs` is false the reason is not a matter of values: `why`
    says what is missing. Where `loads` is false the model is not one that a runtime accepts.
    """

    name: str
    model: Callable[[], onnx.ModelProto]
    looks_like: str
    why: str
    allowed: tuple[str, ...] = field(default=())
    anchor: str | None = None
    differs: bool = True
    loads: bool = True
