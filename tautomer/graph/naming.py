"""What to call a node, a value or a file in a message."""

from __future__ import annotations

import onnx_ir as ir

_LONGEST = 120


def printable(text: str | bytes, longest: int = _LONGEST) -> str:
    """The text as one line that no terminal acts upon.

    Names come from files that anyone may have written: line breaks would forge messages, escape sequences
    would steer the terminal and a name of a megabyte would drown the message.
    """
    if isinstance(text, bytes):  # what protobuf gives for a string that is not UTF-8
        text = text.decode("utf-8", "backslashreplace")
    if len(text) > longest:
        text = text[: longest - 1] + "…"
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text
    )


def label_of(name: str, op_type: str, outputs: list[str]) -> str:
    """The node's own name, or its operator and the first value that it makes: `Add#hidden`."""
    return printable(name or f"{op_type}#{next(filter(None, outputs), '?')}")


def label(node: ir.Node) -> str:
    """What messages call the node; most exporters name nodes, and many do not."""
    return label_of(node.name or "", node.op_type, [value.name or "" for value in node.outputs])
