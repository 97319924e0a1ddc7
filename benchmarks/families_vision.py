"""More vision models: scaled branches, norms after the branch, and outputs in the middle."""

from __future__ import annotations

from benchmarks.blocks import DiT
from benchmarks.builders import BODY, CLIP, EAGER, IMAGE, LAYERS, PATCHES, PIXELS, built, layer
from benchmarks.family import Family, Input

_HEADS = {"hidden_size": 32, "num_attention_heads": 4, "num_labels": 10}
_SWINV2 = {"patch_size": 4, "embed_dim": 16, "depths": [2, 1], "num_heads": [2, 4], "window_size": 2}
_TAPPED = {**BODY, "num_hidden_layers": LAYERS + 1, "output_hidden_states": True}

_dinov2 = built(
    "Dinov2ForImageClassification",
    "Dinov2Config",
    num_hidden_layers=LAYERS,
    mlp_ratio=2,
    layerscale_value=0.5,
    **_HEADS,
    **PATCHES,
)
_deit = built("DeiTForImageClassificationWithTeacher", "DeiTConfig", num_labels=10, **PATCHES, **BODY)
_swinv2 = built("Swinv2ForImageClassification", "Swinv2Config", image_size=IMAGE, num_labels=10, **_SWINV2)
_vit_tapped = built("ViTForImageClassification", "ViTConfig", num_labels=10, **PATCHES, **_TAPPED)
_clip = built("CLIPVisionModel", "CLIPVisionConfig", **PATCHES, **CLIP)

_DIT = (
    Input("patches", "values", ("batch", "sequence", 32)),
    Input("conditioning", "values", ("batch", 32)),
)

VISION_FAMILIES = (
    # Each branch is multiplied by a vector of parameters before it is added.
    Family("dinov2", _dinov2, PIXELS, "logits", layer(5, "Gelu")),
    # One more token, and a classifier for each of the two.
    Family("deit", _deit, PIXELS, "logits", layer(5, "Gelu")),
    # Each branch ends in its norm. The position bias is a network with a ReLU that runs on constants.
    Family(
        "swinv2",
        _swinv2,
        PIXELS,
        "logits",
        {**layer(9, "Gelu", activations=3, attentions=3), "Relu": 3},
        EAGER,
    ),
    # The last hidden state of this model is not normalized: only the pooled token is.
    Family("clip_vision_pooled", _clip, PIXELS, "pooler_output", layer(6, "Swish")),
    Family("clip_vision_hidden", _clip, PIXELS, "pooler_output", layer(6, "Swish"), also="last_hidden_state"),
    # What enters the last layer is an output too.
    Family("vit_tapped", _vit_tapped, PIXELS, "logits", layer(7, "Gelu", LAYERS + 1, LAYERS + 1), also=-2),
    # Norms without parameters; what scales, shifts and gates comes from the second input.
    Family("dit", DiT, _DIT, "result", {**layer(5, "Gelu(tanh)"), "Swish": 1}),
)
