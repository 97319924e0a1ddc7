"""Says whether two models are the same function, and on what evidence."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tautomer.cli.options import add_json
from tautomer.cli.output import Console, one_line

if TYPE_CHECKING:
    from tautomer.verify.verdict import Verdict

HELP = "show that two models are the same function, or where they part"
EXAMPLES = (
    "verify model.onnx fast.onnx",
    "verify model.onnx fast.onnx --certificate fast.onnx.certificate.json",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the verb's arguments."""
    parser.add_argument("original", type=Path, metavar="A", help="the .onnx file that decides")
    parser.add_argument("other", type=Path, metavar="B", help="the .onnx file compared with it")
    add_json(parser)
    parser.add_argument(
        "--inputs", type=Path, metavar="FILE.npz", help="inputs by name, instead of made ones"
    )
    parser.add_argument(
        "--certificate",
        type=Path,
        metavar="FILE",
        help="check a certificate of optimize: every byte of both files, then the evidence again",
    )
    parser.add_argument(
        "--accept",
        action="append",
        default=[],
        choices=("safe-softmax",),
        help="accept a difference in special values: safe-softmax, fully masked rows give 0 or NaN",
    )
    parser.add_argument(
        "--allow-unverified", action="store_true", help="exit 0 for NOT VERIFIED, which is still said"
    )


def run(options: argparse.Namespace, console: Console) -> int:
    """Verifies the models."""
    from tautomer import api

    verdict = api.verify(
        options.original,
        options.other,
        inputs=options.inputs,
        certificate=options.certificate,
        allowed=options.accept,
        progress=console.progress,
    )
    if options.json:
        document = verdict.as_json()
        console.json({key: value for key, value in document.items() if key != "schema_version"})
    else:
        show_verdict(verdict, console)
    accepted = ("EQUAL", "NOT VERIFIED") if options.allow_unverified else ("EQUAL",)
    return 0 if verdict.verdict in accepted else 1


def show_verdict(verdict: Verdict, console: Console) -> None:
    """The verdict for people: the decision, a line per leg, what was assumed."""
    console.result(one_line(f"{verdict.verdict}: {verdict.reason}"))
    if verdict.first_divergence:
        where = verdict.first_divergence
        console.result(one_line(f"they part at '{where['tensor']}', made by {where['node']}"))
        console.result(one_line(f"  which reads '{where['consumes']}', still the same numbers in both"))
        if where["clue"]:
            console.result(one_line(f"  {where['clue']}"))
    for name, leg in verdict.legs.items():
        for line in leg_lines(name, leg.as_json(), told=verdict.reason):
            console.result(one_line(line))
    for assumption in verdict.assumptions:
        console.result(one_line(f"assumed   {assumption}"))


def leg_lines(name: str, leg: Mapping[str, Any], told: str = "") -> list[str]:
    """One leg of the evidence for people: its status, then why, unless that was told, or what it rests on."""
    head = f"{name:<9} {leg['status']}"
    if reason := leg.get("reason"):
        return [head if reason in told else f"{head}: {reason}"]
    if name == "algebra":
        lines = []
        for check in leg["checks"]:
            outputs = check["outputs"].values()
            elements, different, undecided = (
                sum(one[kind] for one in outputs) for kind in ("elements", "different", "undecided")
            )
            told = f", {undecided} cannot be told" if undecided else ""
            found, of = check["tensors_matched"] or (0, 0)
            line = (
                f"          {check['weights']} weights: {different} of {elements} elements differ{told}, "
                f"{found} of {of} tensors found again ({check['method']})"
            )
            lines += [line] if line not in lines else []
        if rounded := leg.get("rounded"):
            lines.append(
                f"          up to rounding: {rounded['worst_ratio']} times what half an ulp in each of "
                f"{rounded['constants']} constants explains (limit {rounded['limit']:g}, {rounded['method']})"
            )
        if skipped := leg.get("random_weights"):
            lines.append(f"          random weights {skipped}")
        return [head, *lines]
    plain = {
        key: value for key, value in leg.items() if isinstance(value, (str, int, float)) and key != "status"
    }
    if scores := leg.get("scores"):
        plain["worst score"] = max(scores.values(), default=0.0)
    return [f"{head}: " + ", ".join(f"{key} {value}" for key, value in plain.items())]
