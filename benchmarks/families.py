"""The architectures: small transformers configurations and the operations that each of them executes.

Two layers each (Swin and ConvNeXt: two stages of two), 32 channels, 100 tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import transformers
from torch import nn

from benchmarks.models import VOCABULARY, Family, Input

LAYERS = 2
IMAGE = 32

_TEXT = (
    Input("input_ids", "tokens", ("batch", "sequence")),
    Input("attention_mask", "mask", ("batch", "sequence")),
)
_DECODER = (_TEXT[0], Input("encoder_hidden_states", "values", ("batch", "source", 32)))
_PIXELS = (Input("pixel_values", "values", ("batch", 3, IMAGE, IMAGE)),)
_SOUND = (Input("input_features", "values", ("batch", 16, 32)),)


def _built(cls: str, config: str, part: str = "", /, **options: Any) -> Callable[[str], nn.Module]:
    """A builder of `cls` from `config(**options)`, or of one `part` of it."""

    def build(attention: str) -> nn.Module:
        settings = getattr(transformers, config)(**options)
        model = getattr(transformers, cls)._from_config(settings, attn_implementation=attention)
        return getattr(model, part) if part else model

    return build


def _counts(norm: str, norms: int, activation: str, activations: int, attentions: int) -> dict[str, int]:
    return {norm: norms, activation: activations, "Softmax": attentions, "ScoreAttention": attentions}


def _layer(
    norms: int, activation: str, activations: int = LAYERS, attentions: int = LAYERS
) -> dict[str, int]:
    return _counts("LayerNormalization", norms, activation, activations, attentions)


def _rms(norms: int, activation: str, activations: int = LAYERS, attentions: int = LAYERS) -> dict[str, int]:
    return _counts("RMSNormalization", norms, activation, activations, attentions)


# Most configurations share these; the older ones have names of their own.
_BODY = {"hidden_size": 32, "num_hidden_layers": LAYERS, "num_attention_heads": 4, "intermediate_size": 64}
_READER = {"vocab_size": VOCABULARY, "max_position_embeddings": 64}
_ENDS = {"bos_token_id": 1, "eos_token_id": 2}
_ALONE = {"use_cache": False}
_T5 = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": LAYERS, "num_heads": 4}
_GPT2 = {"n_layer": LAYERS, "n_embd": 32, "n_head": 4, "n_positions": 64}
_OPT = {"ffn_dim": 64, "word_embed_proj_dim": 32}
_BLOOM = {"hidden_size": 32, "n_layer": LAYERS, "n_head": 4, "vocab_size": VOCABULARY}
_CLIP = {**_BODY, "projection_dim": 16}
_WHISPER_ENCODER = {"encoder_layers": LAYERS, "encoder_attention_heads": 4, "encoder_ffn_dim": 64}
_WHISPER_DECODER = {"decoder_layers": LAYERS, "decoder_attention_heads": 4, "decoder_ffn_dim": 64}
_WHISPER_SIZES = {"d_model": 32, "num_mel_bins": 16, "max_source_positions": 16, "max_target_positions": 64}
_WHISPER_TOKENS = {"vocab_size": VOCABULARY, "pad_token_id": 0, "decoder_start_token_id": 1}
_WHISPER = {
    **_WHISPER_SIZES,
    **_WHISPER_TOKENS,
    **_WHISPER_ENCODER,
    **_WHISPER_DECODER,
    **_ENDS,
    **_ALONE,
}
_PATCHES = {"image_size": IMAGE, "patch_size": 8}
_SWIN = {"patch_size": 2, "embed_dim": 24, "depths": [2, 2], "num_heads": [2, 4], "window_size": 4}
_CONVNEXT = {"hidden_sizes": [16, 32], "depths": [2, 2], "num_stages": 2}

_gpt2 = _built("GPT2LMHeadModel", "GPT2Config", vocab_size=VOCABULARY, **_GPT2, **_ENDS, **_ALONE)
_bert = _built("BertForTokenClassification", "BertConfig", num_labels=5, **_READER, **_BODY)
_vit = _built("ViTForImageClassification", "ViTConfig", num_labels=10, **_PATCHES, **_BODY)
_llama = _built("LlamaForCausalLM", "LlamaConfig", num_key_value_heads=2, **_READER, **_BODY, **_ALONE)
_t5_encoder = _built("T5EncoderModel", "T5Config", vocab_size=VOCABULARY, **_T5, **_ALONE)
_t5_decoder = _built("T5Model", "T5Config", "decoder", vocab_size=VOCABULARY, **_T5, **_ALONE)
_opt = _built("OPTForCausalLM", "OPTConfig", **_OPT, **_READER, **_BODY, **_ALONE)
_pythia = _built("GPTNeoXForCausalLM", "GPTNeoXConfig", **_READER, **_BODY, **_ENDS, **_ALONE)
_whisper_encoder = _built("WhisperModel", "WhisperConfig", "encoder", **_WHISPER)
_whisper_decoder = _built("WhisperModel", "WhisperConfig", "decoder", **_WHISPER)
_swin = _built("SwinForImageClassification", "SwinConfig", image_size=IMAGE, num_labels=10, **_SWIN)
_clip_vision = _built("CLIPVisionModelWithProjection", "CLIPVisionConfig", **_PATCHES, **_CLIP)
_clip_text = _built("CLIPTextModelWithProjection", "CLIPTextConfig", **_READER, **_CLIP, **_ENDS)
_bloom = _built("BloomForCausalLM", "BloomConfig", **_BLOOM, **_ENDS, **_ALONE)
_convnext = _built("ConvNextForImageClassification", "ConvNextConfig", num_labels=10, **_CONVNEXT)

_EAGER = ("eager",)
_FAMILIES = (
    # Two norms a layer and one at the end, as in most pre-norm transformers.
    Family("gpt2", _gpt2, _TEXT, "logits", _layer(5, "Gelu(tanh)")),
    # One after the embeddings, two a layer.
    Family("bert", _bert, _TEXT, "logits", _layer(5, "Gelu")),
    Family("vit", _vit, _PIXELS, "logits", _layer(5, "Gelu")),
    Family("llama", _llama, _TEXT, "logits", _rms(5, "Swish")),
    Family("t5_encoder", _t5_encoder, _TEXT, "last_hidden_state", _rms(5, "Relu")),
    # The third norm of a layer and its second attention look at the encoder.
    Family("t5_decoder", _t5_decoder, _DECODER, "last_hidden_state", _rms(7, "Relu", attentions=4)),
    Family("opt", _opt, _TEXT, "logits", _layer(5, "Relu")),
    Family("pythia", _pythia, _TEXT, "logits", _layer(5, "Gelu")),
    # A GELU after each of the two convolutions of the stem.
    Family("whisper_encoder", _whisper_encoder, _SOUND, "last_hidden_state", _layer(5, "Gelu", LAYERS + 2)),
    Family(
        "whisper_decoder", _whisper_decoder, _DECODER, "last_hidden_state", _layer(7, "Gelu", attentions=4)
    ),
    # One after the patches, two a block, one in the merging of patches, one at the end.
    Family("swin", _swin, _PIXELS, "logits", _layer(11, "Gelu", activations=4, attentions=4)),
    # x * sigmoid(1.702 x); one norm before the first layer, one on the pooled token.
    Family("clip_vision", _clip_vision, _PIXELS, "image_embeds", _layer(6, "Swish")),
    Family("clip_text", _clip_text, _TEXT, "text_embeds", _layer(5, "Swish")),
    # One more norm on the embeddings, and a tanh GELU in a spelling of its own.
    Family("bloom", _bloom, _TEXT, "logits", _layer(6, "Gelu(tanh)"), _EAGER),
    # One after the stem, one a block, one before the second stage, one on the pooled image.
    Family("convnext", _convnext, _PIXELS, "logits", {"LayerNormalization": 7, "Gelu": 4}, _EAGER),
)
FAMILIES: dict[str, Family] = {family.name: family for family in _FAMILIES}
