"""Files that are one function by construction: two exports of a network, a large model and itself optimized.

Equal families have equal weights, so eager and sdpa, dynamo and TorchScript must be EQUAL.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from benchmarks.evidence_worker import Answer, Worker
from benchmarks.exports import silence

_LIMIT, _LONG = 120.0, 900.0
_FAMILIES = ("gpt2", "bert", "vit", "llama", "t5_encoder", "t5_decoder", "opt", "clip_text")
_PAIRS = (
    ("dynamo18-eager", "dynamo18-sdpa"),
    ("torchscript14-eager", "torchscript14-sdpa"),
    ("dynamo18-eager", "torchscript14-eager"),
    ("dynamo18-sdpa", "torchscript14-sdpa"),
    ("dynamo18-eager", "dynamo23-eager"),
)
LARGE = {"GPT-2 of 2 layers, 768 wide": 2, "GPT-2 small, 12 layers, 768 wide": 12}


def pairs(exported: Path) -> Iterator[str]:
    """Two spellings of one network."""
    yield from (
        "## Two exports of one network",
        "",
        "| family | first | second | verdict | seconds | reason |",
    )
    yield "|---" * 6 + "|"
    worker = Worker()
    for family in _FAMILIES:
        for first, second in _PAIRS:
            paths = [exported / f"{family}-{kind}.onnx" for kind in (first, second)]
            if all(path.exists() for path in paths):
                row = _row([family, first, second], worker.ask("", paths[0], paths[1], _LIMIT))
                print(row, flush=True)
                yield row
    worker.close()
    yield ""


def large(folder: Path) -> Iterator[str]:
    """A model of real width against what `tautomer.optimize` made of it."""
    from tautomer.verify import exact

    yield from ("## Models of real width", "")
    if not hasattr(exact, "FieldArithmetic"):
        yield from ("Not measured: without the prime field, ball arithmetic would take minutes a layer.", "")
        return
    yield from (
        "Seconds and memory are those of the verification alone.",
        "",
    )
    yield from ("| model | method | verdict | seconds | peak memory | reason |", "|---" * 6 + "|")
    for title, layers in LARGE.items():
        source, target = folder / f"large{layers}.onnx", folder / f"large{layers}.fast.onnx"
        fault = _optimized(source, target, layers)
        worker = Worker()
        answer = (
            {"verdict": "NOT VERIFIED", "reason": fault} if fault else worker.ask("", source, target, _LONG)
        )
        worker.close()
        memory = f"{answer.get('megabytes', 0.0) / 1024:.1f} GiB"
        row = _row([title, answer.get("method", "")], answer, memory)
        print(row, flush=True)
        yield row
    yield ""


def _optimized(source: Path, target: Path, layers: int) -> str:
    """Writes GPT-2 with random weights and its optimized form; the reason when that fails."""
    import torch
    import transformers

    import tautomer
    from tautomer.errors import TautomerError

    torch.manual_seed(0)
    settings = transformers.GPT2Config(n_layer=layers, use_cache=False, n_positions=64)
    model = transformers.GPT2LMHeadModel._from_config(settings, attn_implementation="eager").eval()
    model.requires_grad_(False)

    class Logits(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.model(tokens, attention_mask=mask).logits
            return logits

    example = torch.arange(8)[None], torch.ones(1, 8, dtype=torch.int64)
    options = {"input_names": ["input_ids", "attention_mask"], "opset_version": 17, "dynamo": False}
    with silence():
        torch.onnx.export(Logits(), example, source, **options)
    try:
        tautomer.optimize(source, verify=False).save(target, force=True)
    except TautomerError as error:
        return f"optimize: {error.what}"
    return ""


def _row(first: list[str], answer: Answer, *more: str) -> str:
    seconds = f"{answer['seconds']:.1f}" if "seconds" in answer else ""
    reason = "" if answer["verdict"] == "EQUAL" else str(answer["reason"]).replace("|", "/")
    if answer["verdict"] == "DIFFERENT":
        found = ", ".join(f"{k} {v:.1e}" for k, v in answer.get("differences", {}).items())
        reason += f" (apart: {found}; first at '{answer['divergence'].get('tensor', '')}')"
    return f"| {' | '.join([*first, answer['verdict'], seconds, *more, reason])} |"
