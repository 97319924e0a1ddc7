"""Says for every candidate what becomes of it, or which node stands in the way and why."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from tautomer.cli.options import add_constants, add_json, add_model, add_norm, add_operations, add_target
from tautomer.cli.output import Console, one_line

if TYPE_CHECKING:
    from tautomer.remarks import Remark

HELP = "say what would be rewritten, and why the rest would not"
EXAMPLES = ("explain model.onnx", "explain model.onnx --target kernels")

# what onnxruntime by itself has no operator for that gains on a CPU
_FUSED = ("ScoreAttention", "AddLayerNormalization", "AddRMSNormalization")
_COLOURS = {"passed": "green", "missed": "yellow", "analysis": "dim"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the verb's arguments."""
    add_model(parser)
    add_json(parser)
    add_target(parser)
    add_constants(parser)
    add_operations(parser)
    add_norm(parser)


def run(options: argparse.Namespace, console: Console) -> int:
    """Prints the remarks."""
    from tautomer import api

    console.progress("reading and recognising")
    remarks = api.explain(
        options.model,
        constants=options.constants,
        target=options.target,
        norm=options.norm,
        merge_products=options.merge_products,
        defer_scale=options.defer_scale,
        choose_by_logits=options.choose_by_logits,
    )
    if options.json:
        console.json({"remarks": [remark.as_json() for remark in remarks]})
        return 0
    if not remarks:
        console.result("nothing in this model looks like an operation that Tautomer rewrites")
    for remark in remarks:
        show(remark, console)
    if options.target in ("native", "onnxruntime") and any(remark.op in _FUSED for remark in remarks):
        console.note(
            "attention and residual norms are fused with --target kernels, where that was measured to gain"
        )
    return 0


def show(remark: Remark, console: Console) -> None:
    """Prints a remark: what happened, to what, where, why; and what would change it."""
    mark = console.paint(f"{remark.kind:8}", _COLOURS[remark.kind])
    console.result(f"{mark}  {one_line(f'{remark.op}  {remark.node}: {remark.reason}')}")
    if remark.hint:
        console.result(one_line(f"          hint: {remark.hint}"))
