"""What Tautomer offers for torch modules: `tautomer.torch.convert`, and kernels as operators of torch.

    import tautomer.torch
    report = tautomer.torch.convert(model)
    tautomer.torch.load_kernels()  # before a graph runs that calls torch.ops.tautomer

Importing this imports torch.
"""

from __future__ import annotations

from tautomer.runtime.torch.convert import Conversion, convert
from tautomer.runtime.torch.norm_modules import CRMSNorm, RMSNorm
from tautomer.runtime.torch.ops import load_kernels

__all__ = ["CRMSNorm", "Conversion", "RMSNorm", "convert", "load_kernels"]
