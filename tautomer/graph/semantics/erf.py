"""The error function in double precision, vectorised: numpy has none, and scipy is not a dependency.

The rational approximations are those of fdlibm's s_erf.c:
    Copyright (C) 1993 by Sun Microsystems, Inc. All rights reserved. Developed at SunPro, a Sun Microsystems,
    Inc. business. Permission to use, copy, modify, and distribute this software is freely granted, provided
    that this notice is preserved.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]

_AT_ONE = 8.45062911510467529297e-01  # erf(1), cut to single precision
# fmt: off
_P = (1.28379167095512558561e-01, -3.25042107247001499370e-01, -2.84817495755985104766e-02,
      -5.77027029648944159157e-03, -2.37630166566501626084e-05)
_Q = (1.0, 3.97917223959155352819e-01, 6.50222499887672944485e-02, 5.08130628187576562776e-03,
      1.32494738004321644526e-04, -3.96022827877536812320e-06)
_PA = (-2.36211856075265944077e-03, 4.14856118683748331666e-01, -3.72207876035701323847e-01,
       3.18346619901161753674e-01, -1.10894694282396677476e-01, 3.54783043256182359371e-02,
       -2.16637559486879084300e-03)
_QA = (1.0, 1.06420880400844228286e-01, 5.40397917702171048937e-01, 7.18286544141962662868e-02,
       1.26171219808761642112e-01, 1.36370839120290507362e-02, 1.19844998467991074170e-02)
_RA = (-9.86494403484714822705e-03, -6.93858572707181764372e-01, -1.05586262253232909814e+01,
       -6.23753324503260060396e+01, -1.62396669462573470355e+02, -1.84605092906711035994e+02,
       -8.12874355063065934246e+01, -9.81432934416914548592e+00)
_SA = (1.0, 1.96512716674392571292e+01, 1.37657754143519042600e+02, 4.34565877475229228821e+02,
       6.45387271733267880336e+02, 4.29008140027567833386e+02, 1.08635005541779435134e+02,
       6.57024977031928170135e+00, -6.04244152148580987438e-02)
_RB = (-9.86494292470009928597e-03, -7.99283237680523006574e-01, -1.77579549177547519889e+01,
       -1.60636384855821916062e+02, -6.37566443368389627722e+02, -1.02509513161107724954e+03,
       -4.83519191608651397019e+02)
_SB = (1.0, 3.03380607434824582924e+01, 3.25792512996573918826e+02, 1.53672958608443695994e+03,
       3.19985821950859553908e+03, 2.55305040643316442583e+03, 4.74528541206955367215e+02,
       -2.24409524465858183362e+01)
# fmt: on


def _polynomial(coefficients: tuple[float, ...], x: Doubles) -> Doubles:
    total = np.full_like(x, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        total = total * x + coefficient
    return total


def _small(x: Doubles) -> Doubles:
    z = x * x
    return x + x * (_polynomial(_P, z) / _polynomial(_Q, z))


def _near_one(x: Doubles) -> Doubles:
    s = x - 1.0
    return _AT_ONE + _polynomial(_PA, s) / _polynomial(_QA, s)


def _tail(x: Doubles, upper: tuple[float, ...], lower: tuple[float, ...]) -> Doubles:
    s = 1.0 / (x * x)
    # erfc is below 0.08 here, so the rounding of its exponent does not reach the last digit of 1 - erfc
    return 1.0 - np.exp(-x * x - 0.5625 + _polynomial(upper, s) / _polynomial(lower, s)) / x


def erf(x: Doubles) -> Doubles:
    """2 / sqrt(pi) times the integral of exp(-t^2) from 0 to x, within one unit in the last place."""
    size = np.abs(x)
    result = np.where(np.isnan(x), x, 1.0)
    for low, high, piece in (
        (0.0, 0.84375, _small),
        (0.84375, 1.25, _near_one),
        (1.25, 1.0 / 0.35, lambda t: _tail(t, _RA, _SA)),
        (1.0 / 0.35, 6.0, lambda t: _tail(t, _RB, _SB)),
    ):
        inside = (size >= low) & (size < high)
        if inside.any():
            result[inside] = piece(size[inside])
    return np.copysign(result, x)
