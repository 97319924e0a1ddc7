"""Modules converted by tautomer.torch.convert: what becomes of their norms, how exact it is, what it gains.

    python -m benchmarks.torch_convert [--quick] [--only gpt2] [--write]

Counts and errors are of the small models of `benchmarks.families`, in float32 and bfloat16. Times are of
models of real width, original and converted in turns, on one thread, CPU time; each figure is the original's
time in times of the converted model's, above 1 where the conversion gains.
"""

from __future__ import annotations

import argparse
import copy
import os
import statistics
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

import tautomer.torch
from benchmarks.builders import built
from benchmarks.families import FAMILIES
from benchmarks.machine import describe
from benchmarks.timing import interleaved, with_allocator
from tautomer.errors import TautomerError

RESULTS = Path(__file__).parent / "results" / "torch_convert.md"
SIZES = {"batch": 2, "sequence": 5, "source": 6}
COUNTED = (
    *("gpt2", "gptj", "gpt_neo", "codegen", "opt", "opt350", "pythia", "phi", "stablelm", "mpt", "falcon"),
    *("falcon40", "bloom", "moe", "vit", "deit", "dinov2", "clip_text", "clip_vision", "whisper_encoder"),
    *(
        "whisper_decoder",
        "m2m_encoder",
        "mbart_encoder",
        "bart_encoder",
        "bert",
        "swin",
        "swinv2",
        "convnext",
    ),
    *("dit", "llama", "t5_encoder"),
)
TEXT = """# Modules converted by `tautomer.torch.convert`

{facts}

    {command}

## What is converted

Small models, two layers each. The error in float64 is that of a copy whose stream was shifted by random means
before the conversion, in units of the largest output; the score is E_new / max(E_orig, kappa + 1), 4 at most.

{counts}

## What it gains

The original's time in times of the converted model's: median and quartiles over the rounds of one run, the
two in turns, one thread, float32, CPU time. Load of the machine: {before:.1f} before, {after:.1f} after.

{times}
"""


@dataclass(frozen=True)
class Timed:
    """A model of real width."""

    name: str
    build: Callable[[str], nn.Module]
    inputs: Callable[[], dict[str, torch.Tensor]]


def _tokens(batch: int, length: int) -> dict[str, torch.Tensor]:
    return {"input_ids": torch.randint(0, 1000, (batch, length))}


_BODY = {"hidden_size": 768, "num_hidden_layers": 4, "num_attention_heads": 12, "intermediate_size": 3072}
_GPT2 = {"n_embd": 768, "n_layer": 4, "n_head": 12, "vocab_size": 1000, "use_cache": False}
_NONE = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
TIMED = (
    Timed("gpt2", built("GPT2LMHeadModel", "GPT2Config", **_GPT2, **_NONE), partial(_tokens, 1, 128)),
    Timed(
        "gpt2, one token", built("GPT2LMHeadModel", "GPT2Config", **_GPT2, **_NONE), partial(_tokens, 1, 1)
    ),
    Timed(
        "pythia",
        built("GPTNeoXForCausalLM", "GPTNeoXConfig", vocab_size=1000, use_cache=False, **_BODY),
        partial(_tokens, 1, 128),
    ),
    Timed(
        "vit",
        built("ViTForImageClassification", "ViTConfig", **_BODY),
        lambda: {"pixel_values": torch.randn(1, 3, 224, 224)},
    ),
)


def small(names: tuple[str, ...]) -> Iterator[str]:
    """Lines of the first table."""
    yield "| model | converted | centred at run time | float64 | score, float32 | bfloat16 | why not |"
    yield "|---|---|---|---|---|---|---|"
    for name in names:
        print(name, file=sys.stderr, flush=True)
        family = FAMILIES[name]
        inputs = {key: torch.from_numpy(x) for key, x in family.sample(SIZES, seed=1).items()}
        attention = "sdpa" if "sdpa" in family.attentions else "eager"
        scores, report = [], tautomer.torch.Conversion()
        for dtype in (torch.bfloat16, torch.float32):
            model = family.module(attention).model.to(dtype)
            cast = {key: x.to(dtype) if x.is_floating_point() else x for key, x in inputs.items()}
            try:
                report = tautomer.torch.convert(model, example_inputs=cast)
            except TautomerError as error:
                scores.append(f"failed: {error}")
                continue
            scores.append(f"{report.evidence.score:.2g}" if report.evidence else "-")
        missed = [remark for remark in report.remarks if remark.kind == "missed" and remark.node]
        exact = report.evidence.difference if report.evidence else None
        reasons = dict.fromkeys(f"`{remark.node}`: {remark.reason}" for remark in missed[:1])
        yield (
            f"| {name} | {len(report.converted)} / {len(report.converted) + len(missed)} "
            f"| {', '.join(report.at_run_time)} | {'-' if exact is None else f'{exact:.1g}'} "
            f"| {scores[1]} | {scores[0]} | {'; '.join(reasons)} |"
        )


def _training(model: nn.Module, inputs: dict[str, torch.Tensor]) -> None:
    for parameter in model.parameters():
        parameter.grad = None
    output = model(**inputs)
    (output[0] if not isinstance(output, torch.Tensor) else output).square().mean().backward()


def _inference(model: Callable[..., Any], inputs: dict[str, torch.Tensor]) -> None:
    with torch.no_grad():
        model(**inputs)


def timed(chosen: tuple[Timed, ...], rounds: int) -> Iterator[str]:
    """Lines of the second table."""
    yield "| model | eager | inductor | training step, eager |"
    yield "|---|---|---|---|"
    for each in chosen:
        print(each.name, file=sys.stderr, flush=True)
        torch.manual_seed(0)
        original, inputs = each.build("sdpa").eval(), each.inputs()
        converted = copy.deepcopy(original)
        tautomer.torch.convert(converted, example_inputs=inputs, verify=False)
        columns = []
        for way in ("eager", "inductor", "training"):
            torch._dynamo.reset()
            models: dict[str, Any] = {"original": original, "converted": converted}
            if way == "inductor":
                models = {name: torch.compile(model, dynamic=False) for name, model in models.items()}
            run = _training if way == "training" else _inference
            calls = {name: partial(run, model, inputs) for name, model in models.items()}
            seconds = interleaved(calls, rounds)
            ratios = [a / b for a, b in zip(seconds["original"], seconds["converted"], strict=True)]
            low, middle, high = statistics.quantiles(ratios, n=4)
            columns.append(f"{middle:.3f} ({low:.3f} to {high:.3f})")
        yield f"| {each.name} | {' | '.join(columns)} |"


def main() -> None:
    """Prints the tables; writes them where it is asked to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few models, few rounds")
    parser.add_argument("--only", help="one model")
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.name}")
    options = parser.parse_args()
    with_allocator("benchmarks.torch_convert", sys.argv[1:])
    torch.set_num_threads(1)
    before = os.getloadavg()[0]
    names = tuple(name for name in COUNTED if options.only in (None, name))
    models = tuple(each for each in TIMED if options.only in (None, each.name))
    counts = "\n".join(small(names[:3] if options.quick else names))
    times = "\n".join(timed(models[:1] if options.quick else models, 5 if options.quick else 20))
    command = " ".join(["python -m benchmarks.torch_convert", *sys.argv[1:]])
    facts = describe(("tautomer", "torch", "transformers"))
    text = TEXT.format(
        facts=facts, command=command, counts=counts, times=times, before=before, after=os.getloadavg()[0]
    )
    print(text)
    if options.write:
        RESULTS.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
