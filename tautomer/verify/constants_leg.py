"""The constants leg: what a rewrite stored is the correct rounding of the expression it stands for.

Of the stored numbers: 0.6665 in a float16 is that here, and not 2/3, as folding computes with no other.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import onnx_ir as ir

from tautomer.graph.semantics.mathematics import Float64, Mathematics
from tautomer.verify.ball import Ball
from tautomer.verify.constants import check_constant
from tautomer.verify.provenance import Provenance, reader, sources_of
from tautomer.verify.verdict import Leg

_BALLS = 1 << 12  # elements; above, float64 is the oracle: it is 2^29 times finer than float32


def constants_leg(original: ir.Model, other: ir.Model, provenance: Provenance) -> Leg | None:
    """Checks each constant that a rewrite made; None when it made none.

    Args:
        original: holds the sources.
        other: holds the constants.
        provenance: what they stand for.
    """
    sources = sources_of(original)
    made = sources_of(other)
    worst, checked = 0.0, 0
    for name, expression in provenance.items():
        tensor = made.get(name)
        if tensor is None:
            continue  # a constant of a rewrite that another one has overtaken
        missing = [source for source in expression.sources if source not in sources]
        if missing:
            return Leg(False, {"reason": f"'{name}' is said to come from '{missing[0]}', which is not there"})
        stored = np.asarray(tensor.numpy())
        elements = max([tensor.size, *(sources[source].size for source in expression.sources)])
        wide = stored.dtype == np.float64 or elements <= _BALLS
        domain: Mathematics = Ball(256) if wide else Float64()
        found = check_constant(stored, partial(expression.value, domain, reader(domain, sources, None)))
        checked += 1
        worst = max(worst, found.max_ulp)
        if not found.ok:
            reason = f"'{name}' is off by {found.max_ulp:.3g} ulp from the expression it stands for"
            return Leg(False, {"reason": reason, "checked": checked, "max_ulp": worst})
    if not checked:
        return None
    return Leg(True, {"checked": checked, "max_ulp": float(f"{worst:.3g}"), "limit": 0.5})
