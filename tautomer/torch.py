"""What Tautomer offers for torch modules: `tautomer.torch.convert`, and kernels as operators of torch.

    import tautomer.torch
    report = tautomer.torch.convert(model)
    tautomer.torch.load_kernels()  # before a graph runs that calls torch.ops.tautomer
    tautomer.torch.export_onnx(module, (x,), "model.onnx")  # with the functions of operators of ours
    loss = tautomer.torch.linear_cross_entropy(x, weight, target)  # without the logits, forward and backward
    tautomer.torch.refresh()  # after writing to the data of a weight of a model compiled with our backend

Importing this imports torch.
"""

from __future__ import annotations

from tautomer.runtime.torch.attention import load_attention, score_attention
from tautomer.runtime.torch.convert import Conversion, convert
from tautomer.runtime.torch.linear_cross_entropy import linear_cross_entropy
from tautomer.runtime.torch.norm_modules import CRMSNorm, RMSNorm
from tautomer.runtime.torch.onnx_export import export_onnx, onnx_translations, with_bodies
from tautomer.runtime.torch.ops import load_kernels
from tautomer.runtime.torch.prologue import refresh

__all__ = [
    "CRMSNorm",
    "Conversion",
    "RMSNorm",
    "convert",
    "export_onnx",
    "linear_cross_entropy",
    "load_attention",
    "load_kernels",
    "onnx_translations",
    "refresh",
    "score_attention",
    "with_bodies",
]
