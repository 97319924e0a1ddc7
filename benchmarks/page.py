"""docs/benchmarks.md: the measured tables of benchmarks/results on one page.

python -m benchmarks.page [--check]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.bars import reached

ROOT = Path(__file__).parents[1]
RESULTS, PAGE = ROOT / "benchmarks" / "results", ROOT / "docs" / "benchmarks.md"

# result -> the command that makes it, and which of its sections are on the page (None: all)
SECTIONS: dict[str, tuple[str, int | None]] = {
    "models": ("python -m benchmarks.models --out benchmarks/results/models.md", None),
    "kernels": ("python -m benchmarks.kernels --out benchmarks/results/kernels.md", None),
    "attention": ("python -m benchmarks.attention --out benchmarks/results/attention.md", None),
    "attention_models": (
        "python -m benchmarks.attention_models --out benchmarks/results/attention_models.md",
        None,
    ),
    "attention_compiled": (
        "python -m benchmarks.attention_compiled --out benchmarks/results/attention_compiled.md",
        None,
    ),
    "sparse": ("python -m benchmarks.sparse --out benchmarks/results/sparse.md", None),
    "adapted": ("python -m benchmarks.adapted --out benchmarks/results/adapted.md", None),
    "expert_gates": ("python -m benchmarks.expert_gates --out benchmarks/results/expert_gates.md", None),
    "gains": ("python -m benchmarks.gains --out benchmarks/results/gains.md", None),
    "kernel_start": ("python -m benchmarks.kernel_start --write", 1),
    "torch_ops": ("python -m benchmarks.torch_ops --out benchmarks/results/torch_ops.md", None),
    "torch_models": ("python -m benchmarks.torch_models --write", None),
    "gpu": ("python -m benchmarks.gpu --out DIR, python -m benchmarks.gpu_table DIR/gpu.json", None),
    "torch_convert": ("python -m benchmarks.torch_convert --write", None),
    "norms": ("python -m benchmarks.norms --out benchmarks/results/norms.md", None),
    "compile_time": ("python -m benchmarks.compile_time --write", None),
}
LINKED = {
    "recognition": "what is found in exports of real architectures, beside other tools",
    "rowwise": "chains of pointwise operations and row reductions, in an earlier run",
    "torch_check": "whole models through the torch.compile backend: outputs, gradients, training",
    "recentring": "which layer normalisations become RMSNormalization, by architecture",
}
HEAD = """# Benchmarks

Made from [benchmarks/results](../benchmarks/results) by `python -m benchmarks.page`. Every table names its
command; machine and versions stand below it. A figure is a ratio of times that were measured in turns in one
run, so that what else the machine does falls on both: the time of the other in times of ours, above 1 where
ours is faster. The load of the machine is told because it was not idle; the quartiles say what that means.

## What was to be reached

Kernels. The figures were reached by hand on another processor, with AVX-512, twice the L2 and a wider path to
memory. Here a vector has eight numbers: an exponential takes .19 ns, and the two of an element of one long
row .38, beside .31 for reading it and writing past the caches and .25 for reading it once more. Of a norm the
arithmetic on a row in the nearest cache is only in part hidden behind memory.

{bars}

Whole models: no other way to run them is faster by more than 2 %. The next section says for each whether that
is so. In the plain transformers all but a few per cent of the time is in matrix products, which are the
runtime's own in every column but OpenVINO's; differences of 1 or 2 % are within the noise of a busy machine.
"""


def page() -> str:
    """The text of the page."""
    parts = [HEAD.format(bars=reached((RESULTS / "kernels.md").read_text()))]
    for name, (command, most) in SECTIONS.items():
        path = RESULTS / f"{name}.md"
        if path.exists():
            parts.append(_section(path.read_text(), command, most))
    links = [
        f"- [{name}](../benchmarks/results/{name}.md): {what}"
        for name, what in LINKED.items()
        if (RESULTS / f"{name}.md").exists()
    ]
    return "\n".join([*parts, "## Elsewhere\n", *links]) + "\n"


def _section(text: str, command: str, most: int | None) -> str:
    """A result one level further down, behind its command."""
    title, _, rest = text.strip().partition("\n")
    sections = rest.strip().split("\n## ")
    kept = sections if most is None else sections[:most]
    last = sections[-1].strip().rsplit("\n\n", 1)[-1]
    body = "\n### ".join(kept).strip()
    if most is not None and len(sections) > most:
        body += f"\n\n{last}"
    return f"#{title}\n\n`{command}`\n\n{body}\n"


def main(arguments: list[str] | None = None) -> int:
    """Writes the page, or says whether it is up to date."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.page", description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="only say whether the page is up to date")
    if not parser.parse_args(arguments).check:
        PAGE.write_text(page())
        return 0
    fresh = PAGE.exists() and PAGE.read_text() == page()
    print("up to date" if fresh else f"{PAGE.name} is older than its results", file=sys.stderr)
    return 0 if fresh else 1


if __name__ == "__main__":
    sys.exit(main())
