"""What the families are written with: inputs, a builder of transformers models, counts of operations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import transformers
from torch import nn

from benchmarks.family import VOCABULARY, Input

LAYERS = 2
IMAGE = 32

TEXT = (
    Input("input_ids", "tokens", ("batch", "sequence")),
    Input("attention_mask", "mask", ("batch", "sequence")),
)
DECODER = (TEXT[0], Input("encoder_hidden_states", "values", ("batch", "source", 32)))
PIXELS = (Input("pixel_values", "values", ("batch", 3, IMAGE, IMAGE)),)
SOUND = (Input("input_features", "values", ("batch", 16, 32)),)

# Most configurations share these; the older ones have names of their own.
BODY = {"hidden_size": 32, "num_hidden_layers": LAYERS, "num_attention_heads": 4, "intermediate_size": 64}
READER = {"vocab_size": VOCABULARY, "max_position_embeddings": 64}
ENDS = {"bos_token_id": 1, "eos_token_id": 2}
ALONE = {"use_cache": False}
PATCHES = {"image_size": IMAGE, "patch_size": 8}
CLIP = {**BODY, "projection_dim": 16}

EAGER = ("eager",)


def built(cls: str, config: str, part: str = "", /, **options: Any) -> Callable[[str], nn.Module]:
    """A builder of `cls` from `config(**options)`, or of one `part` of it."""

    def build(attention: str) -> nn.Module:
        settings = getattr(transformers, config)(**options)
        model = getattr(transformers, cls)._from_config(settings, attn_implementation=attention)
        return getattr(model, part) if part else model

    return build


def _counts(norm: str, norms: int, activation: str, activations: int, attentions: int) -> dict[str, int]:
    return {norm: norms, activation: activations, "Softmax": attentions, "ScoreAttention": attentions}


def layer(norms: int, activation: str, activations: int = LAYERS, attentions: int = LAYERS) -> dict[str, int]:
    """The counts of a transformer with layer normalizations."""
    return _counts("LayerNormalization", norms, activation, activations, attentions)


def rms(norms: int, activation: str, activations: int = LAYERS, attentions: int = LAYERS) -> dict[str, int]:
    """The counts of a transformer with RMS normalizations."""
    return _counts("RMSNormalization", norms, activation, activations, attentions)
