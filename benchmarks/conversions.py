"""Which layer normalisations become RMSNormalization, family by family, as their architecture implies."""

from __future__ import annotations

# family -> norms converted, norms there are, centrings at run time, of the exports to ONNX
CONVERSIONS: dict[str, tuple[int, int, int]] = {
    "gpt2": (5, 5, 0),
    "gptj": (3, 3, 0),
    "gpt_neo": (5, 5, 0),
    "codegen": (3, 3, 0),
    "opt": (5, 5, 0),
    "opt350": (0, 4, 0),  # post-LN
    "pythia": (5, 5, 0),
    "phi": (3, 3, 0),
    "stablelm": (5, 5, 0),
    "mpt": (5, 5, 0),
    "falcon": (3, 3, 0),
    "falcon40": (5, 5, 0),
    "bloom": (6, 6, 1),  # the norm behind the embedding
    "moe": (5, 5, 0),
    "vit": (5, 5, 0),
    "vit_tapped": (3, 7, 1),  # a hidden state is an output
    "deit": (5, 5, 0),
    "dinov2": (5, 5, 0),  # with LayerScale
    "clip_text": (5, 5, 0),
    "clip_vision": (6, 6, 1),
    "clip_vision_pooled": (6, 6, 1),
    "clip_vision_hidden": (1, 6, 0),  # the last hidden state is an output
    "whisper_encoder": (5, 5, 1),  # the stem ends in GELU
    "whisper_decoder": (7, 7, 0),
    "m2m_encoder": (5, 5, 0),
    "mbart_encoder": (6, 6, 1),
    "bart_encoder": (1, 5, 0),  # post-LN
    "bert": (1, 5, 0),  # post-LN
    "swin": (6, 11, 0),  # patch merging joins channels
    "swinv2": (8, 9, 0),  # norms in the branches; the final one reads the norms
    "convnext": (1, 7, 0),  # depthwise convolutions
    "dit": (1, 5, 0),  # gates that differ by channel at run time
    "llama": (0, 0, 0),  # RMSNormalization already
    "t5_encoder": (0, 0, 0),
    "t5_decoder": (0, 0, 0),
}
