"""The table of operations in the documentation, made from the definitions."""

from __future__ import annotations

from tautomer.patterns import expert_gate
from tautomer.patterns.attention.recognise import DEFINITION as SCORE_ATTENTION
from tautomer.patterns.exact_zeros import has_exact_zeros
from tautomer.patterns.operation import Definition, definitions
from tautomer.patterns.sparse_linear import FORMULAS, INPUTS, SOURCE

_ROWS = {
    "": "element",
    "trailing": "row over the last axes",
    "axis": "row along one axis",
    "folded": "number per row",
    "channels": "channel of an image",
    "channel groups": "group of channels of an image",
}


def operations_table() -> str:
    """All operations as a Markdown table: name, formula, operands, exact zeros, source."""
    lines = [
        "| operation | formula | works on | operands | parameters | exact zeros | source |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        _line(definition) for definition in sorted((*definitions(), SCORE_ATTENTION), key=lambda d: d.key)
    ]
    lines += [
        f"| `tautomer.{op}` | `{formula}` | matrix product | {', '.join(INPUTS[op][1:])} | - | - | {SOURCE} |"
        for op, formula in FORMULAS.items()
    ]
    lines += [
        f"| `tautomer.{op}` | `{formula}` | row over the last axis | k | - | - | {expert_gate.SOURCE} |"
        for op, formula in expert_gate.FORMULAS.items()
    ]
    return "\n".join(lines) + "\n"


def _line(definition: Definition) -> str:
    name = (
        f"`tautomer.{definition.op}`"
        if definition.domain
        else f"`{definition.op}` (opset {definition.since})"
    )
    variant = ", ".join(f"{key}={value}" for key, value in definition.attributes.items())
    kind = "two matrix products" if definition is SCORE_ATTENTION else _ROWS[definition.rows]
    cells = (
        f"{name} {variant}".strip(),
        f"`{definition.formula.rstrip('.')}`".replace("|", "\\|"),
        kind,
        ", ".join(definition.operands) or "-",
        ", ".join(definition.parameters) or "-",
        "yes" if has_exact_zeros(definition) else "-",
        definition.source or "-",
    )
    return "| " + " | ".join(cells) + " |"
