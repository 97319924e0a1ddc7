"""docs/operations.md: what every operation computes, what there is for it, and how fast it is.

    python -m benchmarks.operations_page [--named] [--write]

All of it follows from the definitions, the cases in tests/zoo and benchmarks/results/operations.json.
`--named` prints what an operation has beside its definition: the modules of the package that know its name.
"""

from __future__ import annotations

import argparse
import inspect
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import markdown
from benchmarks.rewrites_table import rewrites_table
from tautomer.codegen.torch.operators import OPERATORS
from tautomer.codegen.trace import trace, unsupported
from tautomer.codegen.triton.kernel import triton_kernel
from tautomer.errors import TautomerError
from tautomer.patterns.documentation import operations_table
from tautomer.patterns.operation import Definition, definitions
from tests.zoo import NEAR_MISSES, SPELLINGS

ROOT = Path(__file__).parents[1]
PAGE, RESULT = ROOT / "docs" / "operations.md", ROOT / "benchmarks" / "results" / "operations.json"
PACKAGE = ROOT / "tautomer"
PEERS = ("torch", "inductor", "onnxruntime")
TEXT = """# Operations

Made by `make docs` from the definitions in tautomer/patterns, the cases in tests/zoo and one run of
`python -m benchmarks.operations --write`; a test keeps it up to date. How to add one is told in
[add-an-operation.md](add-an-operation.md).

{table}

## What passes rewrite

These families are computed in another way, and but for gates need no operator of their own for that. What
lies between is replaced only where nothing else reads it.

{rewrites}

Of other KAN layers: the activations of AF-KAN (arXiv 2503.06112) and what combines them are one region,
which reads x as it was repeated; its softmax runs along an inner axis. Chebyshev and Jacobi layers keep
their basis, as the polynomial of degree 0 is 1 even of NaN, and the degrees in cos(n acos(x)) are stored as
weights are, of which the evidence asks that they may be others; what they sum is one matrix product. A
wavelet of Wav-KAN (arXiv 2405.12832) has numbers for each pair of input and output: it is pointwise, one
region, and its sum is no matrix product, nor is that of log(1 + exp(k x)) (SKAN). `torch.vander` has no
export to ONNX; the optimized module has one.

What has no rewrite: the Fourier head (arXiv 2410.22269), whose complex tensors do not reach ONNX, runs in its
real form as matrix products, and its density, sum and logarithm as one kernel. The sum of the density over D
equispaced bins is D / 2 for exact cosines, and not for stored ones, so the division by it stays. The
spherical Z-loss (arXiv 1604.08859) of given logits is one kernel, which reads them with the score of the
target; its form in d^2 operations, by W^T W, is not made.

## What there is for them

Spellings and near misses are the cases of the tests: graphs that are recognised, and graphs that look alike
and are refused; "by" names the rewrite that makes what no model spells out. Lines is the length of the
definition, with its first line and docstring. Kernels: those that are generated from the definition;
"gradient" is torch's operator, with its backward kernel. `python -m benchmarks.operations_page --named` lists
the other modules of the package that know an operation by its name, which a definition alone does not need.
What works on the channels of images has no place in this table's matrix; [benchmarks.md](benchmarks.md) has
what was measured of it.

Measured at 1024 x 1024, float32, one thread, processor time: the time of the other in times of ours, the
median and quartiles over turns of one run; in bold where the other is faster. torch is its own function,
where it has one; inductor compiles that, or the formula in torch's operators; onnxruntime runs ONNX's
operator, or the function body.

{measured}

{facts}
"""


MADE = {
    "AddLayerNormalizationWithSum": "join norms",
    "AddRMSNormalizationWithSum": "join norms",
    "CRMSNormalization": "compress",
    "OrthonormalCRMSNormalization": "compress",
    "SafeSoftmax": "safe softmax",
}
"""What no model spells out: operations that a rewrite makes, by the name of the rewrite."""


def kernels(definition: Definition) -> str:
    """Which kernels are generated from a definition."""
    if unsupported(definition):
        return "-"
    found = ["C++"]
    try:
        triton_kernel(trace(definition))
        found.append("Triton")
    except TautomerError:
        pass
    return ", ".join([*found, "gradient"] if any(one.key == definition.key for one in OPERATORS) else found)


def lines(definition: Definition) -> int:
    """How long the definition is."""
    return len(inspect.getsource(definition.function).splitlines())


def named(definition: Definition) -> list[str]:
    """The modules that know an operation by its name, other than the one that defines it."""
    own, quoted = inspect.getsourcefile(definition.function), f'"{definition.op}"'
    return [
        str(path.relative_to(PACKAGE))
        for path in sorted(PACKAGE.rglob("*.py"))
        if str(path) != own and quoted in path.read_text()
    ]


def _of(definition: Definition, op: str, attributes: Mapping[str, Any]) -> bool:
    variant = definition.attributes.items()
    return op == definition.op and all(attributes.get(key, value) == value for key, value in variant)


def row(definition: Definition, kept: Mapping[str, Any]) -> list[str]:
    """A line of the second table."""
    spelled = sum(_of(definition, case.op, case.attributes) for case in SPELLINGS)
    missed = sum(case.looks_like == definition.op for case in NEAR_MISSES)
    made = MADE.get(definition.op)
    counts = (f"by {made}", "-") if made else (spelled, missed)
    cells = [definition.key, *counts, lines(definition), kernels(definition)]
    found = kept.get(definition.key)
    times = (
        [f"{found['microseconds']:.0f}", *(markdown.ratio(found[p]) if p in found else "-" for p in PEERS)]
        if found
        else []
    )
    return [*map(str, cells), *(times or ["-"] * (1 + len(PEERS)))]


def page() -> str:
    """The whole page."""
    kept = json.loads(RESULT.read_text())
    head = ("operation", "spellings", "near misses", "lines", "kernels", "ours, us", *PEERS)
    rows = [row(one, kept["operations"]) for one in sorted(definitions(), key=lambda one: one.key)]
    measured = markdown.table(head, rows)
    return TEXT.format(
        table=operations_table().rstrip(), rewrites=rewrites_table(), measured=measured, facts=kept["facts"]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the page, or what is named elsewhere."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.operations_page", description=__doc__)
    parser.add_argument("--named", action="store_true", help="which modules know which operation")
    parser.add_argument("--write", action="store_true", help="write docs/operations.md")
    options = parser.parse_args(arguments)
    if options.named:
        rows = [[one.key, str(lines(one)), ", ".join(named(one)) or "-"] for one in definitions()]
        print(markdown.table(("operation", "lines", "named in"), rows))
    elif options.write:
        PAGE.write_text(page())
    else:
        print(page(), end="")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
