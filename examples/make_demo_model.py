"""Makes examples/models/gpt2_tiny.onnx: a GPT-2 of two layers with random weights.

    python examples/make_demo_model.py [PATH]

It goes through torch's TorchScript exporter at opset 14, which has neither LayerNormalization nor Gelu: every
norm and every activation is spelled out in elementary operators, and batch and sequence are symbols. The same
versions of torch and transformers write the same bytes.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

DEMO = Path(__file__).parent / "models" / "gpt2_tiny.onnx"


def main(path: str | Path = DEMO) -> None:
    """Builds the model, moves every weight away from its default and exports it."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    class Logits(torch.nn.Module):
        """The model with tensors for inputs and one tensor for an output."""

        def __init__(self, model: torch.nn.Module) -> None:
            super().__init__()
            self.model = model

        def forward(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            return self.model(input_ids=tokens, attention_mask=mask, use_cache=False).logits

    torch.manual_seed(2)
    sizes = {"n_layer": 2, "n_embd": 48, "n_head": 4, "n_positions": 64, "vocab_size": 128}
    config = GPT2Config(**sizes, bos_token_id=1, eos_token_id=2, attn_implementation="eager")
    model = GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    example = (torch.arange(16).reshape(2, 8), torch.ones(2, 8, dtype=torch.int64))
    axes = {0: "batch", 1: "sequence"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's remarks on tracing and on its own age
        torch.onnx.export(
            Logits(model),
            example,
            path,
            dynamo=False,
            opset_version=14,
            input_names=["input_ids", "attention_mask"],
            output_names=["logits"],
            dynamic_axes={"input_ids": axes, "attention_mask": axes, "logits": axes},
        )


if __name__ == "__main__":
    main(*sys.argv[1:2])
