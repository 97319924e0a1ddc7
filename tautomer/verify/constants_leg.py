"""The constants leg: what a rewrite stored is the correct rounding of the expression it stands for."""

from __future__ import annotations

from functools import partial

import numpy as np
import onnx_ir as ir

from tautomer.verify.ball import Ball
from tautomer.verify.constants import check_constant
from tautomer.verify.provenance import Provenance, folded
from tautomer.verify.verdict import Leg


def constants_leg(original: ir.Model, other: ir.Model, provenance: Provenance) -> Leg | None:
    """Checks each constant that a rewrite made; None when it made none.

    Args:
        original: holds the sources.
        other: holds the constants.
        provenance: what they stand for.
    """
    domain = Ball(256, read=True)
    worst, checked = 0.0, 0
    for name, origin in provenance.items():
        value = other.graph.initializers.get(name)
        if value is None or value.const_value is None:
            continue  # a constant of a rewrite that another one has overtaken
        source = None
        if origin.source is not None:
            given = original.graph.initializers.get(origin.source)
            if given is None or given.const_value is None:
                return Leg(
                    False, {"reason": f"'{name}' is said to come from '{origin.source}', which is not there"}
                )
            source = np.asarray(given.const_value.numpy())
        stored = np.asarray(value.const_value.numpy())
        found = check_constant(stored, partial(folded, domain, stored, source, origin.factor, None))
        checked += 1
        worst = max(worst, found.max_ulp)
        if not found.ok:
            reason = f"'{name}' is off by {found.max_ulp:.3g} ulp from the expression it stands for"
            return Leg(False, {"reason": reason, "checked": checked, "max_ulp": worst})
    if not checked:
        return None
    return Leg(True, {"checked": checked, "max_ulp": float(f"{worst:.3g}"), "limit": 0.5})
