"""What Tautomer offers for torch modules: `tautomer.torch.convert`.

    import tautomer.torch
    report = tautomer.torch.convert(model)

Importing this imports torch.
"""

from __future__ import annotations

from tautomer.runtime.torch.convert import Conversion, convert
from tautomer.runtime.torch.norm_modules import CRMSNorm, RMSNorm

__all__ = ["CRMSNorm", "Conversion", "RMSNorm", "convert"]
