"""Rewrites a model into the form that runs fastest, checks that it is the same function and writes it."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tautomer.cli.options import add_constants, add_json, add_machine, add_norm, add_operations, add_target
from tautomer.cli.output import Console, one_line, size
from tautomer.cli.verify import leg_lines
from tautomer.errors import InputError

if TYPE_CHECKING:
    from tautomer.api import Result
    from tautomer.remarks import Remark

HELP = "rewrite a model, check it and write it"
EXAMPLES = ("optimize model.onnx fast.onnx", "optimize model.onnx fast.onnx --target kernels")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the verb's arguments."""
    parser.add_argument("model", type=Path, metavar="IN", help="an .onnx file; it is never changed")
    parser.add_argument("out", type=Path, metavar="OUT", nargs="?", help="the .onnx file to write")
    add_json(parser)
    parser.add_argument("--force", action="store_true", help="overwrite OUT")
    add_target(parser)
    add_constants(parser)
    add_operations(parser)
    add_norm(parser)
    add_machine(parser)
    parser.add_argument("--no-verify", action="store_true", help="do not compare OUT with IN")
    parser.add_argument("--dry-run", action="store_true", help="do everything but write OUT")


def run(options: argparse.Namespace, console: Console) -> int:
    """Optimizes the model."""
    if options.out is None and not options.dry_run:
        raise InputError("no output was given", remedy="name the file to write, or use --dry-run")
    from tautomer import api
    from tautomer.graph.targets import check_target

    if not options.dry_run:
        # before the work, not after it
        check_target(options.out, [options.model], force=options.force)
    result = api.optimize(
        options.model,
        target=options.target,
        machine=options.machine,
        constants=options.constants,
        norm=options.norm,
        merge_products=options.merge_products,
        defer_scale=options.defer_scale,
        choose_by_logits=options.choose_by_logits,
        verify=not options.no_verify,
        progress=console.progress,
    )
    if not options.dry_run:
        console.progress("write")
        result.save(options.out, force=options.force)
    if options.json:
        console.json(
            {
                "before": result.before,
                "after": result.after,
                "remarks": [remark.as_json() for remark in result.remarks],
                "verification": result.verification,
                "seconds": round(result.seconds, 3),
            }
        )
    else:
        _show(result, options, console)
    return 0


def _show(result: Result, options: argparse.Namespace, console: Console) -> None:
    """The result for people."""
    from tautomer.graph.reader import size_of

    if result.changed:
        names = sorted(result.before.keys() | result.after.keys())
        counts = [(name, result.before.get(name, 0), result.after.get(name, 0)) for name in names]
        rows = [row for row in counts if row[1] != row[2]]
        rows.append(("total", sum(result.before.values()), sum(result.after.values())))
        console.table(("operator", "before", "after"), rows)
        console.result()
    else:
        console.result("nothing to rewrite: the output is the input, byte for byte")
    for line in _summary(result.remarks):
        console.result(one_line(line))
    for line in _verification(result.verification):
        console.result(one_line(line))
    if options.dry_run:
        console.result("nothing was written (--dry-run)")
    else:
        files = (f"{path} ({size(size_of(path))})" for path in (options.model, options.out))
        console.result(one_line(" -> ".join(files)))
    console.result(f"{result.seconds:.2f} s")


def _summary(remarks: list[Remark]) -> list[str]:
    """How often each rule applied, and for what reasons it did not."""
    lines = []
    for rule in sorted({remark.rule for remark in remarks if remark.kind != "analysis"}):
        kinds = Counter(remark.kind for remark in remarks if remark.rule == rule)
        lines.append(f"{rule}: {kinds['passed']} applied, {kinds['missed']} not")
        reasons = Counter(r.reason for r in remarks if r.rule == rule and r.kind == "missed")
        ordered = sorted(reasons.items(), key=lambda pair: (-pair[1], pair[0]))
        lines += [f"  {count} x {reason}" for reason, count in ordered]
    return lines


def _verification(evidence: dict[str, Any]) -> list[str]:
    """The verdict, and a line per leg of the evidence."""
    lines = [f"verification: {evidence.get('verdict', 'NOT VERIFIED')}: {evidence.get('reason', '')}"]
    for name, leg in evidence.get("legs", {}).items():
        lines += [f"  {line}" for line in leg_lines(name, leg, told=evidence.get("reason", ""))]
    if "centred" in evidence:
        centred = evidence["centred"]
        left = centred["largest_mean_by_rms"]
        lines.append(
            f"  centred   {centred['norms']} norms rely on a mean of 0; |mean| / rms is {left:g} at most"
        )
    return [*lines, *(f"  assumed   {assumption}" for assumption in evidence.get("assumptions", ()))]
