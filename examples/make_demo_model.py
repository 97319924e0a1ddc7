"""Makes examples/models/llama_tiny.onnx: a Llama of two layers with random weights.

    python examples/make_demo_model.py [PATH]

It goes through torch's exporter at opset 18, where onnxruntime on its own fuses none of the RMSNorms: they
are spelled with a reciprocal. Batch and sequence are symbols. The exporter's notes on where each node comes
from are taken out: they name files of the machine it ran on.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import onnx

DEMO = Path(__file__).parent / "models" / "llama_tiny.onnx"


def main(path: str | Path = DEMO) -> None:
    """Builds the model, moves every weight away from its default and exports it."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    class Logits(torch.nn.Module):
        """The model with tensors for inputs and one tensor for an output."""

        def __init__(self, model: torch.nn.Module) -> None:
            super().__init__()
            self.model = model

        def forward(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            return self.model(input_ids=tokens, attention_mask=mask, use_cache=False).logits

    torch.manual_seed(2)
    sizes = {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2, "vocab_size": 128}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64}
    model = LlamaForCausalLM(LlamaConfig(**sizes, **heads, attn_implementation="eager")).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    example = (torch.arange(16).reshape(2, 8), torch.ones(2, 8, dtype=torch.int64))
    axes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("sequence")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's remarks on its own internals
        exported = torch.onnx.export(
            Logits(model),
            example,
            dynamo=True,
            opset_version=18,
            input_names=["input_ids", "attention_mask"],
            output_names=["logits"],
            dynamic_shapes={"tokens": axes, "mask": axes},
            verbose=False,
        )
    onnx.save(without_origins(exported.model_proto), path)


def without_origins(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model without metadata and documentation."""
    graph = model.graph
    for message in (
        model,
        graph,
        *graph.node,
        *graph.value_info,
        *graph.input,
        *graph.output,
        *graph.initializer,
    ):
        message.ClearField("metadata_props")
        message.ClearField("doc_string")
    return model


if __name__ == "__main__":
    main(*sys.argv[1:2])
