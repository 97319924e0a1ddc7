"""Which ONNX versions are read: those that the installed onnx knows, and any of a domain it does not know."""

from __future__ import annotations

from collections.abc import Iterable

import onnx
import onnx.defs
import onnx.helper

from tautomer.errors import BadModelError

_FIRST_IR_WITH_OPSETS = 3


def check_versions(model: onnx.ModelProto) -> None:
    """Refuses a model from the future, or one that does not say which operators it means."""
    if model.ir_version < 1:
        raise BadModelError("the model has no IR version", remedy="export it again")
    if model.ir_version > onnx.IR_VERSION:
        raise _too_new("IR version", model.ir_version, onnx.IR_VERSION)
    if model.training_info:
        raise BadModelError(
            "the model carries training graphs, which a rewrite would break", remedy="export it for inference"
        )
    newest = {"": onnx.defs.onnx_opset_version()}
    for row in onnx.helper.VERSION_TABLE:
        newest["ai.onnx.ml"] = max(row[3], newest.get("ai.onnx.ml", 0))
        if len(row) > 4:
            newest["ai.onnx.preview.training"] = max(row[4], newest.get("ai.onnx.preview.training", 0))
    _check_imports(model.opset_import, newest, "")
    for function in model.functions:
        _check_imports(function.opset_import, newest, f"function {function.name}")
    if not any(entry.domain in ("", "ai.onnx") for entry in model.opset_import):
        if model.ir_version < _FIRST_IR_WITH_OPSETS:
            model.opset_import.add(domain="", version=1)  # what the specification says of these old files
        elif any(node.domain in ("", "ai.onnx") for node in model.graph.node):
            raise BadModelError("the model does not say which opset it uses", remedy="export it again")


def _check_imports(imports: Iterable[onnx.OperatorSetIdProto], newest: dict[str, int], where: str) -> None:
    """Checks one list of opset imports."""
    seen: dict[str, int] = {}
    for entry in imports:
        domain = "" if entry.domain == "ai.onnx" else entry.domain
        if seen.setdefault(domain, entry.version) != entry.version:
            raise BadModelError(
                "an opset is imported in two versions", where=where, remedy="export the model again"
            )
        if entry.version < 1:
            raise BadModelError(
                f"opset {entry.version} does not exist", where=where, remedy="export the model again"
            )
        if entry.version > newest.get(domain, entry.version):
            raise _too_new(f"opset {domain or 'ai.onnx'}", entry.version, newest[domain], where)


def _too_new(what: str, found: int, known: int, where: str = "") -> BadModelError:
    return BadModelError(
        f"{what} {found} is newer than the installed onnx {onnx.__version__} knows ({known})",
        where=where,
        remedy="upgrade onnx, or export the model for an older opset",
    )
