"""Changes of the model that are sold as rewrites, and why none of them is one.

A rewrite keeps the function; each of these makes another one, which has to be trained or measured anew.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class ModelChange:
    """A transformation that gives another function.

    Attributes:
        name: as messages call it.
        words: what users may write for it; a word that ends in * may go on.
        why: a sentence.
    """

    name: str
    words: tuple[str, ...]
    why: str


_ROWS_LEFT = "once it is in the model, what it leaves at zero is skipped exactly"
MODEL_CHANGES: tuple[ModelChange, ...] = (
    ModelChange(
        "top-k thresholding of activations",
        ("top-k*", "topk*", "lazy-neuron*"),
        f"all but the k largest activations of a token become 0, and they were not; {_ROWS_LEFT}",
    ),
    ModelChange(
        "FATReLU",
        ("fatrelu", "fat-relu"),
        f"activations between 0 and its threshold become 0, and they were not; {_ROWS_LEFT}",
    ),
    ModelChange(
        "shifted ReLU",
        ("shifted-relu",),
        f"activations are smaller by the shift, or 0; {_ROWS_LEFT}",
    ),
    ModelChange(
        "ReLU in the place of a smooth activation",
        ("relufication", "relufy", "silu-to-relu", "gelu-to-relu", "swish-to-relu", "prosparse"),
        "SiLU and GELU are not zero where ReLU is, so the model has to be trained again",
    ),
    ModelChange(
        "predicted sparsity",
        ("predicted-sparsity", "sparsity-predictor", "powerinfer", "deja-vu", "dejavu"),
        "neurons are skipped that a predictor takes for zero, and some are not; those that are zero are "
        "skipped exactly, without one",
    ),
    ModelChange(
        "another score function",
        (
            *("sigmoid-attention", "relu-attention", "relu2-attention", "softmax-plus-one", "softmax1"),
            *("linear-attention", "cosine-attention", "flash-sigmoid"),
        ),
        "the weights that it gives are others; each score function is kept where the model has it",
    ),
    ModelChange(
        "pruning of weights",
        ("prune", "pruning", "magnitude-pruning", "wanda", "sparsegpt"),
        "weights that are not 0 become 0",
    ),
    ModelChange(
        "quantization",
        ("quantize", "quantise", "quantization", "int8", "int4", "fp8", "nf4", "gptq", "awq"),
        "weights become others of a narrower type",
    ),
    ModelChange(
        "pruning or merging of tokens",
        ("token-pruning", "token-merging", "tome"),
        "tokens that differ are treated as one, or not at all",
    ),
    ModelChange(
        "fewer experts",
        ("expert-pruning", "expert-skipping", "fewer-experts", "moefication"),
        "experts whose weight is not 0 are left out",
    ),
)


def model_change(text: str) -> str:
    """The name of a change of the model that a text speaks of and why it is refused, or ""."""
    found = re.findall(r"[a-z0-9]+(?:-[a-z0-9]+)*", text.lower().replace("_", "-"))
    for change in MODEL_CHANGES:
        for word in change.words:
            stem = word.removesuffix("*")
            if any(each == stem or (stem != word and each.startswith(f"{stem}-")) for each in found):
                return f"{change.name} is a change of the model and no rewrite of it: {change.why}"
    return ""
