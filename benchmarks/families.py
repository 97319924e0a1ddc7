"""The architectures: small transformers configurations and the operations that each of them executes.

These are the most common ones; the other text models and the other vision models have files of their own.

Two layers each (Swin and ConvNeXt: two stages of two), 32 channels, 100 tokens.
"""

from __future__ import annotations

from benchmarks.builders import (
    ALONE,
    BODY,
    CLIP,
    DECODER,
    EAGER,
    ENDS,
    IMAGE,
    LAYERS,
    PATCHES,
    PIXELS,
    READER,
    SOUND,
    TEXT,
    built,
    layer,
    rms,
)
from benchmarks.families_text import TEXT_FAMILIES
from benchmarks.families_vision import VISION_FAMILIES
from benchmarks.family import VOCABULARY, Family

_T5 = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": LAYERS, "num_heads": 4}
_GPT2 = {"n_layer": LAYERS, "n_embd": 32, "n_head": 4, "n_positions": 64}
_OPT = {"ffn_dim": 64, "word_embed_proj_dim": 32}
_BLOOM = {"hidden_size": 32, "n_layer": LAYERS, "n_head": 4, "vocab_size": VOCABULARY}
_WHISPER_ENCODER = {"encoder_layers": LAYERS, "encoder_attention_heads": 4, "encoder_ffn_dim": 64}
_WHISPER_DECODER = {"decoder_layers": LAYERS, "decoder_attention_heads": 4, "decoder_ffn_dim": 64}
_WHISPER_SIZES = {"d_model": 32, "num_mel_bins": 16, "max_source_positions": 16, "max_target_positions": 64}
_WHISPER_TOKENS = {"vocab_size": VOCABULARY, "pad_token_id": 0, "decoder_start_token_id": 1}
_WHISPER = {
    **_WHISPER_SIZES,
    **_WHISPER_TOKENS,
    **_WHISPER_ENCODER,
    **_WHISPER_DECODER,
    **ENDS,
    **ALONE,
}
_SWIN = {"patch_size": 4, "embed_dim": 24, "depths": [2, 2], "num_heads": [2, 4], "window_size": 2}
_CONVNEXT = {"hidden_sizes": [16, 32], "depths": [2, 2], "num_stages": 2}

_gpt2 = built("GPT2LMHeadModel", "GPT2Config", vocab_size=VOCABULARY, **_GPT2, **ENDS, **ALONE)
_bert = built("BertForTokenClassification", "BertConfig", num_labels=5, **READER, **BODY)
_vit = built("ViTForImageClassification", "ViTConfig", num_labels=10, **PATCHES, **BODY)
_llama = built("LlamaForCausalLM", "LlamaConfig", num_key_value_heads=2, **READER, **BODY, **ALONE)
_t5_encoder = built("T5EncoderModel", "T5Config", vocab_size=VOCABULARY, **_T5, **ALONE)
_t5_decoder = built("T5Model", "T5Config", "decoder", vocab_size=VOCABULARY, **_T5, **ALONE)
_opt = built("OPTForCausalLM", "OPTConfig", **_OPT, **READER, **BODY, **ALONE)
_pythia = built("GPTNeoXForCausalLM", "GPTNeoXConfig", **READER, **BODY, **ENDS, **ALONE)
_whisper_encoder = built("WhisperModel", "WhisperConfig", "encoder", **_WHISPER)
_whisper_decoder = built("WhisperModel", "WhisperConfig", "decoder", **_WHISPER)
_swin = built("SwinForImageClassification", "SwinConfig", image_size=IMAGE, num_labels=10, **_SWIN)
_clip_vision = built("CLIPVisionModelWithProjection", "CLIPVisionConfig", **PATCHES, **CLIP)
_clip_text = built("CLIPTextModelWithProjection", "CLIPTextConfig", **READER, **CLIP, **ENDS)
_bloom = built("BloomForCausalLM", "BloomConfig", **_BLOOM, **ENDS, **ALONE)
_convnext = built("ConvNextForImageClassification", "ConvNextConfig", num_labels=10, **_CONVNEXT)

_FAMILIES = (
    # Two norms a layer and one at the end, as in most pre-norm transformers.
    Family("gpt2", _gpt2, TEXT, "logits", layer(5, "Gelu(tanh)")),
    # One after the embeddings, two a layer.
    Family("bert", _bert, TEXT, "logits", layer(5, "Gelu")),
    Family("vit", _vit, PIXELS, "logits", layer(5, "Gelu")),
    Family("llama", _llama, TEXT, "logits", rms(5, "Swish")),
    Family("t5_encoder", _t5_encoder, TEXT, "last_hidden_state", rms(5, "Relu")),
    # The third norm of a layer and its second attention look at the encoder.
    Family("t5_decoder", _t5_decoder, DECODER, "last_hidden_state", rms(7, "Relu", attentions=4)),
    Family("opt", _opt, TEXT, "logits", layer(5, "Relu")),
    Family("pythia", _pythia, TEXT, "logits", layer(5, "Gelu")),
    # A GELU after each of the two convolutions of the stem.
    Family("whisper_encoder", _whisper_encoder, SOUND, "last_hidden_state", layer(5, "Gelu", LAYERS + 2)),
    Family("whisper_decoder", _whisper_decoder, DECODER, "last_hidden_state", layer(7, "Gelu", attentions=4)),
    # One after the patches, two a block, one in the merging of patches, one at the end.
    Family("swin", _swin, PIXELS, "logits", layer(11, "Gelu", activations=4, attentions=4)),
    # x * sigmoid(1.702 x); one norm before the first layer, one on the pooled token.
    Family("clip_vision", _clip_vision, PIXELS, "image_embeds", layer(6, "Swish")),
    Family("clip_text", _clip_text, TEXT, "text_embeds", layer(5, "Swish")),
    # One more norm on the embeddings, and a tanh GELU in a spelling of its own.
    Family("bloom", _bloom, TEXT, "logits", layer(6, "Gelu(tanh)"), EAGER),
    # One after the stem, one a block, one before the second stage, one on the pooled image.
    Family("convnext", _convnext, PIXELS, "logits", {"LayerNormalization": 7, "Gelu": 4}, EAGER),
)
FAMILIES: dict[str, Family] = {
    family.name: family for family in (*_FAMILIES, *TEXT_FAMILIES, *VISION_FAMILIES)
}
