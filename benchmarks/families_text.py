"""More text models: where their norms stand, and what they share, differs."""

from __future__ import annotations

from benchmarks.blocks import MoE
from benchmarks.builders import ALONE, BODY, EAGER, ENDS, LAYERS, READER, TEXT, built, layer
from benchmarks.family import VOCABULARY, Family, Input

_ALIKE = {"vocab_size": VOCABULARY, "layer_norm_epsilon": 2e-5, **ENDS, **ALONE}
_FALCON = {"hidden_size": 32, "num_hidden_layers": LAYERS, "num_attention_heads": 4, **_ALIKE}
_GPTJ = {"n_embd": 32, "n_layer": LAYERS, "n_head": 4, "n_positions": 64, "rotary_dim": 4, **_ALIKE}
_NEO = {
    "hidden_size": 32,
    "num_layers": LAYERS,
    "num_heads": 4,
    "attention_types": [[["global", "local"], 1]],
}
_MPT = {"d_model": 32, "n_layers": LAYERS, "n_heads": 4, "max_seq_len": 64, **_ALIKE}
_ENCODER = {"encoder_layers": LAYERS, "encoder_attention_heads": 4, "encoder_ffn_dim": 64, "d_model": 32}
_DECODER = {"decoder_layers": 1, "decoder_attention_heads": 4, "decoder_ffn_dim": 64}
_SEQ2SEQ = {**READER, **_ENCODER, **_DECODER, **ALONE, "scale_embedding": True}
_OPT350 = {"ffn_dim": 64, "word_embed_proj_dim": 16, "do_layer_norm_before": False}

_falcon = built("FalconForCausalLM", "FalconConfig", bias=False, **_FALCON)
_falcon40 = built(
    "FalconForCausalLM", "FalconConfig", new_decoder_architecture=True, num_kv_heads=2, **_FALCON
)
_gptj = built("GPTJForCausalLM", "GPTJConfig", **_GPTJ)
_codegen = built("CodeGenForCausalLM", "CodeGenConfig", **_GPTJ)
_gpt_neo = built("GPTNeoForCausalLM", "GPTNeoConfig", max_position_embeddings=64, **_NEO, **_ALIKE)
_stablelm = built(
    "StableLmForCausalLM", "StableLmConfig", num_key_value_heads=2, **READER, **BODY, **ENDS, **ALONE
)
_mpt = built("MptForCausalLM", "MptConfig", **_MPT)
_phi = built("PhiForCausalLM", "PhiConfig", **READER, **BODY, **ALONE)
_m2m_encoder = built("M2M100Model", "M2M100Config", "encoder", **_SEQ2SEQ)
_mbart_encoder = built("MBartModel", "MBartConfig", "encoder", **_SEQ2SEQ)
_bart_encoder = built("BartModel", "BartConfig", "encoder", **_SEQ2SEQ)
_opt350 = built("OPTForCausalLM", "OPTConfig", **_OPT350, **READER, **BODY, **ALONE)

_VALUES = (Input("values", "values", ("batch", "sequence", 32)),)

TEXT_FAMILIES = (
    # Attention and feed-forward part side by side, behind one norm; one key and value for all heads.
    Family("falcon", _falcon, TEXT, "logits", layer(3, "Gelu")),
    # Side by side, each behind a norm of its own on the same tensor.
    Family("falcon40", _falcon40, TEXT, "logits", layer(5, "Gelu")),
    # Scaled embeddings, and sinusoids that are no parameter.
    Family("m2m_encoder", _m2m_encoder, TEXT, "last_hidden_state", layer(5, "Relu")),
    # One more norm on the embeddings.
    Family("mbart_encoder", _mbart_encoder, TEXT, "last_hidden_state", layer(6, "Gelu")),
    # Every norm after its sum, none at the end.
    Family("bart_encoder", _bart_encoder, TEXT, "last_hidden_state", layer(5, "Gelu")),
    # The same without one on the embeddings, which are narrower and projected.
    Family("opt350", _opt350, TEXT, "logits", layer(4, "Relu")),
    # Side by side behind one norm, as falcon.
    Family("phi", _phi, TEXT, "logits", layer(3, "Gelu(tanh)")),
    Family("gptj", _gptj, TEXT, "logits", layer(3, "Gelu(tanh)"), EAGER),
    Family("codegen", _codegen, TEXT, "logits", layer(3, "Gelu(tanh)"), EAGER),
    # The second layer looks at the last tokens only.
    Family("gpt_neo", _gpt_neo, TEXT, "logits", layer(5, "Gelu(tanh)"), EAGER),
    Family("stablelm", _stablelm, TEXT, "logits", layer(5, "Swish")),
    # Norms without a bias.
    Family("mpt", _mpt, TEXT, "logits", layer(5, "Gelu"), EAGER),
    # Every layer runs four experts and a softmax over them.
    Family("moe", MoE, _VALUES, "result", {**layer(5, "Gelu", 8), "Softmax": 2 * LAYERS}),
)
