"""Which exports there are, and what is in them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

Attention = Literal["eager", "sdpa"]
Shapes = Literal["dynamic", "static"]

# Sizes at export, and other ones for a check. 2 and up: the exporters take an axis of size 1 for a constant.
EXPORT_SIZES = {"batch": 2, "sequence": 8, "source": 6}
OTHER_SIZES = {"batch": 3, "sequence": 11, "source": 7}
FAMILIES = (
    *("gpt2", "bert", "vit", "llama", "t5_encoder", "t5_decoder", "opt", "pythia"),
    *("whisper_encoder", "whisper_decoder", "swin", "clip_vision", "clip_text", "bloom", "convnext"),
)
EAGER_ONLY = ("bloom", "convnext")
# What torch's exporters cannot do with these models, by (family, exporter).
REFUSED = {("whisper_decoder", "torchscript"): "no attention mask: transformers calls aten::diff"}


@dataclass(frozen=True)
class ExportSpec:
    """One export: which architecture, spelled how.

    Attributes:
        attention: the implementation that transformers runs, "eager" (MatMul, Softmax, MatMul) or "sdpa"
            (torch's scaled_dot_product_attention, which the exporter spells out).
        shapes: "dynamic" when batch and sequence are symbols in the file, or "static".
    """

    family: str
    exporter: Literal["dynamo", "torchscript"]
    opset: int
    attention: Attention
    shapes: Shapes = "dynamic"

    @property
    def name(self) -> str:
        """The stem of the file, e.g. gpt2-dynamo18-sdpa or vit-torchscript14-eager-static."""
        ending = "-static" if self.shapes == "static" else ""
        return f"{self.family}-{self.exporter}{self.opset}-{self.attention}{ending}"

    def inputs(self, seed: int = 0) -> dict[str, np.ndarray]:
        """Random valid inputs by name; a dynamic export gets other sizes than it was exported with."""
        from benchmarks.families import FAMILIES as families

        sizes = EXPORT_SIZES if self.shapes == "static" else OTHER_SIZES
        return families[self.family].sample(sizes, seed)


def _attentions(family: str) -> tuple[Attention, ...]:
    return ("eager",) if family in EAGER_ONLY else ("eager", "sdpa")


def specs() -> tuple[ExportSpec, ...]:
    """Every combination: both exporters and their opsets, both attentions, and two static ones a family."""
    found: list[ExportSpec] = []
    for family in FAMILIES:
        for attention in _attentions(family):
            found += [ExportSpec(family, "dynamo", opset, attention) for opset in (18, 20, 23)]
            found += [ExportSpec(family, "torchscript", opset, attention) for opset in (14, 17)]
        found.append(ExportSpec(family, "dynamo", 18, _attentions(family)[-1], "static"))
        found.append(ExportSpec(family, "torchscript", 14, "eager", "static"))
    return tuple(found)


def quick() -> tuple[ExportSpec, ...]:
    """One export a family and exporter; opset, attention and shapes take turns over the families."""
    found: list[ExportSpec] = []
    for turn, family in enumerate(FAMILIES):
        shapes: tuple[Shapes, ...] = ("dynamic", "static", "dynamic")
        opset = (18, 20, 23)[turn % 3]
        found.append(ExportSpec(family, "dynamo", opset, _attentions(family)[-1], shapes[turn // 3 % 3]))
        attention = _attentions(family)[turn // 3 % len(_attentions(family))]
        found.append(ExportSpec(family, "torchscript", (14, 17)[turn % 2], attention, shapes[turn // 2 % 3]))
    return tuple(spec for spec in found if (spec.family, spec.exporter) not in REFUSED)


def expected(family: str) -> dict[str, int]:
    """The operations that the torch code executes, by label: worked out from the architecture."""
    from benchmarks.families import FAMILIES as families

    return dict(families[family].expected)


def label(op: str, attributes: Mapping[str, Any]) -> str:
    """The name under which an operation is counted: its own, with the approximation of a GELU."""
    approximate = attributes.get("approximate", "none")
    return op if approximate in ("none", b"none") else f"{op}({approximate})"


def counted(operations: Iterable[Any]) -> Counter[str]:
    """How often each labelled operation occurs in what `tautomer.inspect` returns.

    A scored attention lies over its softmax, except where it is one node of the file (opset 23).
    """
    found: Counter[str] = Counter()
    for operation in operations:
        found[label(operation.op, operation.attributes)] += 1
        found["Softmax"] += operation.op == "ScoreAttention" and len(operation.nodes) == 1
    return found
