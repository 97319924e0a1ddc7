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
# Much like another of them; the quick selection has one export of each, the exporters take turns.
_AKIN = ("t5_decoder", "opt", "whisper_encoder", "swin", "clip_vision", "clip_text", "bloom")
# These differ from the ones above in where their norms stand; of them too one export each.
ONCE = (
    *("falcon", "falcon40", "m2m_encoder", "mbart_encoder", "dinov2", "opt350", "swinv2", "dit"),
    *("vit_tapped", "clip_vision_hidden", "clip_vision_pooled", "moe"),
)
# And these are much like one of them; they are in the full sweep only.
MORE_FAMILIES = (
    *ONCE,
    *("bart_encoder", "phi", "gptj", "codegen", "gpt_neo", "stablelm", "mpt", "deit"),
)
EAGER_ONLY = ("bloom", "convnext", "gptj", "codegen", "gpt_neo", "mpt", "swinv2")
# What torch's exporters cannot do with these models, by (family, exporter). In the full sweep falcon fails in
# one spelling more: dynamo, opset 23, sdpa ("SDPA (MHA) requires q_num_heads = kv_num_heads").
REFUSED = {("whisper_decoder", "torchscript"): "no attention mask: transformers calls aten::diff"}
# What torch executes and `tautomer.inspect` does not find in the file, by (family, exporter).
_MASKED_FIRST = {"ScoreAttention": 2}  # the mask is added before the scores are scaled
_COSINE = {"ScoreAttention": 1}  # of normalized vectors; in shifted windows the mask is added twice
UNSEEN: dict[tuple[str, str], dict[str, int]] = {
    ("codegen", "dynamo"): _MASKED_FIRST,
    ("codegen", "torchscript"): _MASKED_FIRST,
    ("swinv2", "torchscript"): _COSINE,
    # The exporter has computed the position bias, with its ReLU, from constants.
    ("swinv2", "dynamo"): {**_COSINE, "Relu": 3},
}


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
    for family in (*FAMILIES, *MORE_FAMILIES):
        for attention in _attentions(family):
            found += [ExportSpec(family, "dynamo", opset, attention) for opset in (18, 20, 23)]
            found += [ExportSpec(family, "torchscript", opset, attention) for opset in (14, 17)]
        found.append(ExportSpec(family, "dynamo", 18, _attentions(family)[-1], "static"))
        found.append(ExportSpec(family, "torchscript", 14, "eager", "static"))
    return tuple(found)


def quick() -> tuple[ExportSpec, ...]:
    """One export a family and exporter; opset, attention and shapes take turns over the families.

    Of the families in ONCE, and of those that are much like another, one export each: exporters take turns.
    """
    found: list[ExportSpec] = []
    for turn, family in enumerate(FAMILIES):
        shapes: tuple[Shapes, ...] = ("dynamic", "static", "dynamic")
        opset = (18, 20, 23)[turn % 3]
        attention = _attentions(family)[turn // 3 % len(_attentions(family))]
        both = (
            ExportSpec(family, "torchscript", (14, 17)[turn % 2], attention, shapes[turn // 2 % 3]),
            ExportSpec(family, "dynamo", opset, _attentions(family)[-1], shapes[turn // 3 % 3]),
        )
        found += [both[turn % 2]] if family in _AKIN else both
    for turn, family in enumerate(ONCE):
        both = (ExportSpec(family, "dynamo", 18, "eager"), ExportSpec(family, "torchscript", 17, "eager"))
        refused = [(family, spec.exporter) in REFUSED for spec in both]
        found.append(both[turn % 2 if not any(refused) else refused.index(False)])
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
