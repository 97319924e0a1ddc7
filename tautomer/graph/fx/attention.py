"""Attention that torch has as one operator."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from tautomer.graph.fx.site import Opaque, Site
from tautomer.graph.fx.table import reads


@reads("aten.scaled_dot_product_attention.default")
def scaled_dot_product_attention(site: Site) -> ir.Value:
    """softmax(scale q k^T + mask) v; a query without keys gives 0, in ONNX's operator as in torch's."""
    site.of_one_type("query", "key", "value")
    q, k, v = (site.meta(name).shape for name in ("query", "key", "value"))
    if any(len(shape) != 4 for shape in (q, k, v)):
        raise Opaque("q, k and v do not have four axes")
    if site.number("dropout_p") != 0.0:
        raise Opaque("it drops weights in training")
    if k[0] != q[0] or v[0] != q[0] or (k[1] != q[1] and not site.number("enable_gqa")) or k[1] != v[1]:
        raise Opaque("sequences or heads are broadcast")
    mask = site.optional("attn_mask")
    attributes: dict[str, Any] = {"is_causal": int(site.number("is_causal"))}
    if site.number("scale") is not None:
        attributes["scale"] = float(site.number("scale"))
    inputs = [site.tensor(name) for name in ("query", "key", "value")]
    return site.op("Attention", *inputs, *([] if mask is None else [mask]), **attributes)
