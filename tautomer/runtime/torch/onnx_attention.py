"""Calls of attention in a torch module as nodes of ONNX: `tautomer.ScoreAttention_<form>_hhhh`."""

from __future__ import annotations

from typing import Any

import onnx

from tautomer.errors import InputError
from tautomer.patterns.attention.operators import AttentionOperator, form_named
from tautomer.patterns.onnx_body import DOMAIN, DOMAIN_VERSION
from tautomer.runtime.torch.compat import onnx_recorder

_FLOATS = ["tensor(float)", "tensor(float16)", "tensor(bfloat16)"]
_TYPES = {"lengths": ["tensor(int64)"], "slopes": ["tensor(float)"], "sink": ["tensor(float)"]}


def translate_attention(
    q: Any,
    k: Any,
    v: Any,
    mask: Any,
    lengths: Any,
    slopes: Any,
    sink: Any,
    form: str,
    scale: float,
    bias: float,
    softcap: float,
    window: int,
    free: int,
) -> Any:
    """Writes the node of one call, in the exporter's evaluator.

    Raises:
        InputError: the text is no form of attention.
    """
    found = form_named(form)
    if found is None:
        raise InputError(f"'{form}' is no form of attention", where="torch.onnx.export")
    operator = AttentionOperator(found)
    tensors = {"q": q, "k": k, "v": v, "mask": mask, "lengths": lengths, "slopes": slopes, "sink": sink}
    numbers = {"scale": scale, "bias": bias, "softcap": softcap, "window": window, "free": free}
    attributes = {name: kind(numbers[name]) for name, kind in operator.attributes.items()}
    inputs = tuple(tensors[name] for name in operator.inputs)
    return onnx_recorder().eval(_schema(operator), inputs, attributes)


def _schema(operator: AttentionOperator) -> onnx.defs.OpSchema:
    """The operator as the exporter wants to know it."""
    defs = onnx.defs.OpSchema
    kinds = {float: defs.AttrType.FLOAT, int: defs.AttrType.INT}
    mask = ["tensor(bool)"] if operator.form.mask == "boolean" else _FLOATS
    own = {**_TYPES, "mask": mask}
    return defs(
        operator.name,
        DOMAIN,
        DOMAIN_VERSION,
        inputs=[defs.FormalParameter(name, f"T_{name}" if name in own else "T") for name in operator.inputs],
        outputs=[defs.FormalParameter("y", "T")],
        type_constraints=[
            ("T", _FLOATS, ""),
            *((f"T_{name}", own[name], "") for name in operator.inputs if name in own),
        ],
        attributes=[
            defs.Attribute(name, kinds[kind], "", required=True) for name, kind in operator.attributes.items()
        ],
    )
