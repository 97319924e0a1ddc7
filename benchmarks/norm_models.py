"""Pre-norm transformers of real width to time norms in, and the tools that rewrite them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from transformers.modeling_outputs import CausalLMOutput

import tautomer
from benchmarks.builders import ENDS, TEXT, built
from benchmarks.exports import silence
from benchmarks.family import VOCABULARY, Family
from tautomer.passes.recentre import Norm

LAYERS = 4
LONGEST = 1024
SKIP_FUSION = "SkipLayerNormFusion"  # what onnxruntime 1.31.1 calls the fusion of Add and LayerNormalization


class _Narrow(nn.Module):
    """A residual stream of `2 * LAYERS` branches: a norm, then d to d/8 to d."""

    def __init__(self, width: int) -> None:
        super().__init__()
        halves = range(2 * LAYERS)
        self.table = nn.Embedding(VOCABULARY, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in halves)
        self.down = nn.ModuleList(nn.Linear(width, width // 8) for _ in halves)
        self.up = nn.ModuleList(nn.Linear(width // 8, width) for _ in halves)
        self.last = nn.LayerNorm(width)
        self.head = nn.Linear(width, 16)

    def forward(self, input_ids: torch.Tensor) -> CausalLMOutput:
        x = self.table(input_ids)
        for norm, down, up in zip(self.norms, self.down, self.up, strict=True):
            x = x + up(torch.relu(down(norm(x))))
        return CausalLMOutput(logits=self.head(self.last(x)))


def _family(kind: str, width: int) -> Family:
    if kind == "narrow":
        return Family(kind, lambda _: _Narrow(width), TEXT[:1], "logits", {})
    sizes = {"n_layer": LAYERS, "n_embd": width, "n_head": width // 64, "n_positions": LONGEST}
    build = built("GPT2LMHeadModel", "GPT2Config", **sizes, vocab_size=VOCABULARY, use_cache=False, **ENDS)
    return Family(kind, build, TEXT, "logits", {})


def exported(kind: str, width: int, opset: int, folder: Path) -> tuple[Path, Family]:
    """The model as torch's dynamo exporter writes it, with free batch and sequence; made once."""
    family = _family(kind, width)
    path = folder / f"{kind}-{width}-dynamo{opset}.onnx"
    if path.exists():
        return path, family
    part = path.with_suffix(".part")
    example = tuple(map(torch.from_numpy, family.sample({"batch": 2, "sequence": 8}, seed=0).values()))
    with silence(), torch.no_grad():
        torch.onnx.export(
            family.module("sdpa"),
            example,
            part,
            dynamo=True,
            opset_version=opset,
            external_data=False,
            input_names=[item.name for item in family.inputs],
            output_names=family.results,
            dynamic_shapes=tuple(item.axes for item in family.inputs),
        )
    part.replace(path)
    return path, family


def _same(source: Path, target: Path) -> str:
    target.hardlink_to(source)
    return ""


def _transformers_optimizer(source: Path, target: Path) -> str:
    """Its model type for GPT-2, or for BERT where that one fails; its own fusions only."""
    from onnxruntime.transformers import optimizer

    failures = []
    for kind in ("gpt2", "bert"):
        try:
            with silence():
                made = optimizer.optimize_model(str(source), model_type=kind, opt_level=0, use_gpu=False)
                made.save_model_to_file(str(target))
        except Exception as error:  # whatever it raises, the row says so
            failures.append(f"{kind}: {type(error).__name__}")
        else:
            return "; ".join([*failures, f"{kind} taken"])
    raise RuntimeError("; ".join(failures))


def _ours(norm: Norm) -> Callable[[Path, Path], str]:
    def run(source: Path, target: Path) -> str:
        done = tautomer.optimize(source, norm=norm, verify=False)  # outputs are compared before timing
        done.save(target)
        return f"{sum(remark.kind == 'passed' for remark in done.remarks)} rewrites"

    return run


@dataclass(frozen=True)
class Variant:
    """One way to run a model.

    Attributes:
        make: writes the file to run, and returns what there is to say about it.
        disabled: optimizers that the session does without.
    """

    name: str
    make: Callable[[Path, Path], str]
    disabled: tuple[str, ...] = ()


ORIGINAL, AUTO, AS_IS = "original", "auto", "ln"
VARIANTS = (
    Variant(ORIGINAL, _same),
    Variant("no skip fusion", _same, (SKIP_FUSION,)),
    Variant("ort-transformers", _transformers_optimizer),
    Variant(AS_IS, _ours("ln")),
    Variant(AUTO, _ours("auto")),
    Variant("rms", _ours("rms")),
)
