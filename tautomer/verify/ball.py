"""Real arithmetic with proven error bounds: every number is a ball [centre - radius, centre + radius].

An operation on balls gives a ball that contains the result for every choice of numbers inside its operands
(python-flint's `arb`). Two disjoint balls are therefore a proof that two numbers differ, and two balls that
overlap with radii near 2^-250 are evidence that they are one number. Minus infinity stands for itself, since
masks are made of it; anything else without a value (1/0, -inf + inf, the root of -1) becomes a ball that
contains everything, which never proves and never agrees.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from operator import methodcaller
from typing import Any

import numpy as np

from tautomer.graph.semantics.domain import Array, Axes, Unsupported
from tautomer.verify.field.comparison import Comparison
from tautomer.verify.field.numbers import Reader
from tautomer.verify.flint_library import flint

__all__ = ["Ball", "Balls", "Comparison", "Undecided", "agree", "exact"]

_CONCRETE_BITS = 60  # a ball is said as a float64 only when it is known better than that
_TINY = 1e-300  # what is known so well is known in float64


class Undecided(Unsupported):
    """A question about numbers whose balls are too wide to answer it."""


class Balls:
    """A tensor of balls, with the arithmetic of Python's operators.

    Args:
        array: the balls, an object array of `arb`; one `arb` is a tensor of rank 0.
        domain: the domain that it is a value of, which knows the precision and reads constants.
    """

    __array_ufunc__ = None  # numpy's arrays and numbers leave mixed arithmetic to us
    __slots__ = ("array", "domain")

    def __init__(self, array: Any, domain: Ball) -> None:
        self.array: Array = np.asarray(array, dtype=object)
        self.domain = domain

    def __repr__(self) -> str:
        return f"Balls({self.array!r})"

    def _with(self, f: Callable[[Any, Any], Any], other: Any) -> Balls:
        with flint.ctx.workprec(self.domain.bits):
            return Balls(f(self.array, self.domain.balls(other)), self.domain)

    def __add__(self, other: Any) -> Balls:
        return self._with(lambda a, b: a + b, other)

    def __sub__(self, other: Any) -> Balls:
        return self._with(lambda a, b: a - b, other)

    def __rsub__(self, other: Any) -> Balls:
        return self._with(lambda a, b: b - a, other)

    def __mul__(self, other: Any) -> Balls:
        return self._with(lambda a, b: a * b, other)

    def __truediv__(self, other: Any) -> Balls:
        return self._with(lambda a, b: a / b, other)

    def __rtruediv__(self, other: Any) -> Balls:
        return self._with(lambda a, b: b / a, other)

    __radd__, __rmul__ = __add__, __mul__

    def __neg__(self) -> Balls:
        with flint.ctx.workprec(self.domain.bits):
            return Balls(-self.array, self.domain)


def exact(x: Any) -> Array:
    """A concrete array or number of any kind as balls of radius 0; also what has more bits than float64.

    Raises:
        Unsupported: nan is among the numbers.
    """
    array = np.asarray(x)
    if array.dtype.kind in "bui":
        return _balls(array.shape, [flint.arb(int(i)) for i in array.reshape(-1).tolist()])
    numbers = array.astype(np.float64)  # exact for every float type of ONNX
    if np.isnan(numbers).any():
        raise Unsupported("constant", "nan is not a real number")
    return _balls(array.shape, [flint.arb(value) for value in numbers.reshape(-1).tolist()])


def _balls(shape: tuple[int, ...], flat: list[Any]) -> Array:
    out = np.empty(len(flat), dtype=object)
    out[:] = flat
    return out.reshape(shape)


def _power(x: Any, y: Any) -> Any:
    """x to the power y; of powers that are no single numbers flint does not know that 0 to them is 0."""
    return x if x == 0 and y > 0 else x**y


def _elementwise(f: Callable[..., Any], arity: int) -> Callable[..., Any]:
    vectorised = np.frompyfunc(f, arity, 1)

    def apply(self: Ball, *xs: Any) -> Balls:
        with flint.ctx.workprec(self.bits):
            return Balls(vectorised(*(self.balls(x) for x in xs)), self)

    return apply


def _rint(x: Any) -> Any:
    """To the nearest whole number, ties to even; a ball that holds a tie gives both neighbours."""
    half_up = (x + 0.5).floor()
    tie = x.is_exact() and half_up.is_exact() and x + 0.5 == half_up
    return half_up - 1 if tie and not (half_up / 2).is_integer() else half_up


def _log(x: Any) -> Any:
    """The natural logarithm; of the number 0 it is -inf."""
    return flint.arb.neg_inf() if x.is_zero() else x.log()


def _sigmoid(x: Any) -> Any:
    """1 / (1 + e^-x)."""
    return 1 / (1 + (-x).exp())


def _larger(x: Any, y: Any) -> Any:
    """The maximum; of balls that overlap, the hull."""
    return x.max(y)


def _smaller(x: Any, y: Any) -> Any:
    """The minimum; of balls that overlap, the hull."""
    return x.min(y)


class Ball:
    """The domain of real numbers known to within a ball.

    Args:
        bits: the working precision.
        read: take a stored scalar for the number it is a rounding of, where there is one (0.70710677 for
            1/sqrt(2)); each such reading is added to `assumptions`.

    Attributes:
        assumptions: what was read as something else than its exact value, in words.
    """

    def __init__(self, bits: int = 256, *, read: bool = False) -> None:
        self.bits = bits
        self._reader = Reader() if read else None

    @property
    def assumptions(self) -> list[str]:
        """The readings of constants so far."""
        return [] if self._reader is None else self._reader.assumptions

    def constant(self, x: Any) -> Balls:
        """The numbers themselves, without rounding."""
        if self._reader is not None and (number := self._reader.read(x)) is not None:
            with flint.ctx.workprec(self.bits):
                return Balls(np.full(np.shape(x), number.evaluate(_Numbers()), dtype=object), self)
        return Balls(exact(x), self)

    def balls(self, x: Any) -> Array:
        """The object array of a tensor, or of a concrete array or number."""
        return x.array if isinstance(x, Balls) else self.constant(x).array

    def is_value(self, x: Any) -> bool:
        """True for tensors of balls."""
        return isinstance(x, Balls)

    def shape(self, x: Any) -> tuple[int, ...]:
        """The shape."""
        return self.balls(x).shape

    def concrete(self, x: Any) -> Array:
        """The float64 beside the centre of each ball.

        Raises:
            Undecided: a ball is wide, or is a whole number only up to its radius.
        """
        array = self.balls(x)
        return np.asarray(np.frompyfunc(_float, 1, 1)(array), dtype=np.float64).reshape(array.shape)

    def nearest(self, x: Any) -> Array:
        """The same of real numbers, whether or not one of them is whole.

        Raises:
            Undecided: a ball is wide.
        """
        array = self.balls(x)
        return np.asarray(np.frompyfunc(_nearest, 1, 1)(array), dtype=np.float64).reshape(array.shape)

    def move(self, f: Callable[..., Any], *xs: Any) -> Balls:
        """Moves elements."""
        return Balls(f(*(self.balls(x) for x in xs)), self)

    exp, log = _elementwise(methodcaller("exp"), 1), _elementwise(_log, 1)
    expm1, log1p = _elementwise(methodcaller("expm1"), 1), _elementwise(methodcaller("log1p"), 1)
    sqrt, rsqrt = _elementwise(methodcaller("sqrt"), 1), _elementwise(methodcaller("rsqrt"), 1)
    reciprocal = _elementwise(lambda x: 1 / x, 1)
    erf, tanh = _elementwise(methodcaller("erf"), 1), _elementwise(methodcaller("tanh"), 1)
    sigmoid = _elementwise(_sigmoid, 1)
    sin, cos = _elementwise(methodcaller("sin"), 1), _elementwise(methodcaller("cos"), 1)
    acos, atan = _elementwise(methodcaller("acos"), 1), _elementwise(methodcaller("atan"), 1)
    abs, sign = _elementwise(abs, 1), _elementwise(methodcaller("sgn"), 1)
    floor, ceil = _elementwise(methodcaller("floor"), 1), _elementwise(methodcaller("ceil"), 1)
    round = _elementwise(_rint, 1)
    power = _elementwise(_power, 2)
    maximum, minimum = _elementwise(_larger, 2), _elementwise(_smaller, 2)

    def where(self, condition: Array, a: Any, b: Any) -> Balls:
        """a where the condition holds, else b."""
        return Balls(np.where(condition, self.balls(a), self.balls(b)), self)

    def compare(self, op: str, a: Any, b: Any) -> Array:
        """The boolean array of a op b.

        Raises:
            Undecided: two balls overlap and are not the same single number.
        """
        decided = np.frompyfunc(_COMPARISONS[op], 2, 1)(self.balls(a), self.balls(b))
        return np.asarray(decided, dtype=bool)

    def isnan(self, x: Any) -> Array:
        """False everywhere; a ball that contains everything is Undecided."""
        return self.isinf(x) & False

    def isinf(self, x: Any) -> Array:
        """Where x is infinite; a ball that contains everything is Undecided."""
        return np.asarray(np.frompyfunc(_infinite, 1, 1)(self.balls(x)), dtype=bool)

    def sum(self, x: Any, axes: Axes, keepdims: bool) -> Balls:
        """The sum."""
        return self._reduced(np.add, self.balls(x), axes, keepdims, flint.arb(0))

    def prod(self, x: Any, axes: Axes, keepdims: bool) -> Balls:
        """The product."""
        return self._reduced(np.multiply, self.balls(x), axes, keepdims, flint.arb(1))

    def mean(self, x: Any, axes: Axes, keepdims: bool) -> Balls:
        """The arithmetic mean."""
        return self.sum(x, axes, keepdims) / math.prod(self.shape(x)[axis] for axis in axes)

    def amax(self, x: Any, axes: Axes, keepdims: bool) -> Balls:
        """The maximum; of balls that overlap, the hull."""
        return self._reduced(np.frompyfunc(_larger, 2, 1), self.balls(x), axes, keepdims, flint.arb.neg_inf())

    def amin(self, x: Any, axes: Axes, keepdims: bool) -> Balls:
        """The minimum; of balls that overlap, the hull."""
        return self._reduced(
            np.frompyfunc(_smaller, 2, 1), self.balls(x), axes, keepdims, flint.arb.pos_inf()
        )

    def _reduced(self, f: np.ufunc, x: Array, axes: Axes, keepdims: bool, start: Any) -> Balls:
        kept = [axis for axis in range(x.ndim) if axis not in axes]
        rows = x.transpose(kept + list(axes)).reshape(
            [x.shape[axis] for axis in kept] + [-1 if x.size else 0]
        )
        with flint.ctx.workprec(self.bits):
            out = np.asarray(f.reduce(rows, axis=-1, initial=start), dtype=object)
        shape = [1 if axis in axes else size for axis, size in enumerate(x.shape)]
        return Balls(out.reshape(shape) if keepdims else out, self)

    def matmul(self, a: Any, b: Any) -> Balls:
        """The matrix product, through `arb_mat`, whose error bounds are those of a dot product."""
        left, right = self.balls(a), self.balls(b)
        shape = np.matmul(np.empty(left.shape, np.bool_), np.empty(right.shape, np.bool_)).shape
        left = left[None, :] if left.ndim == 1 else left
        right = right[:, None] if right.ndim == 1 else right
        if right.ndim == 2:  # one matrix for all: the rows of a whole batch are rows of one product
            left = left.reshape(1, -1, left.shape[-1]) if left.size else left
        batch = np.broadcast_shapes(left.shape[:-2], right.shape[:-2])
        rows = np.broadcast_to(left, batch + left.shape[-2:])
        columns = np.broadcast_to(right, batch + right.shape[-2:])
        with flint.ctx.workprec(self.bits):
            flat = [
                entry
                for place in np.ndindex(*batch)
                for entry in (_matrix(rows[place]) * _matrix(columns[place])).entries()
            ]
        return Balls(_balls(shape, flat), self)


def _matrix(x: Array) -> Any:
    rows, columns = x.shape
    return flint.arb_mat(rows, columns, x.reshape(-1).tolist())


class _Numbers:
    """The numbers that readings are made of, as balls at the precision in force."""

    def rational(self, x: Fraction) -> Any:
        return flint.arb(flint.fmpq(x.numerator, x.denominator))

    def sqrt(self, x: Any) -> Any:
        return x.sqrt()

    def named(self, name: str) -> Any:
        constants: dict[str, Callable[[], Any]] = {
            "sqrt(2/pi)": lambda: (2 / flint.arb.pi()).sqrt(),
            "log2(e)": lambda: 1 / flint.arb.const_log2(),
            "e": flint.arb.const_e,
        }
        return constants[name]()


def _less(a: Any, b: Any) -> bool:
    if a < b:
        return True
    if a >= b:
        return False
    raise Undecided("compare", "two numbers are equal up to the width of their balls")


def _equal(a: Any, b: Any) -> bool:
    if a == b:
        return True
    if a != b:
        return False
    raise Undecided("compare", "two numbers are equal up to the width of their balls")


_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "<": _less,
    "<=": lambda a, b: not _less(b, a),
    ">": lambda a, b: _less(b, a),
    ">=": lambda a, b: not _less(a, b),
    "==": _equal,
}


def _infinite(x: Any) -> bool:
    if x.is_finite():
        return False
    if x == flint.arb.neg_inf() or x == flint.arb.pos_inf():
        return True
    raise Undecided("isinf", "nothing is known of a number")


def _float(x: Any) -> float:
    if not x.is_finite():
        _infinite(x)
        return float(x)
    value = float(x.mid())
    if not x.is_exact() and (x.rel_accuracy_bits() < _CONCRETE_BITS or value == round(value)):
        raise Undecided("concrete", f"a number is {value:g} only up to the width of its ball")
    return value


def _nearest(x: Any) -> float:
    if not x.is_finite():
        _infinite(x)
        return float(x)
    known = x.is_exact() or x.rel_accuracy_bits() >= _CONCRETE_BITS or float(x.rad()) < _TINY
    if not known:
        raise Undecided("nearest", f"a number is {float(x.mid()):g} only up to the width of its ball")
    return float(x.mid())


def agree(a: Balls, b: Balls, bits: int = 200) -> Comparison:
    """Compares element by element.

    Args:
        a: a tensor.
        b: another of the same shape.
        bits: overlapping balls are the same number when both radii are at most 2^-bits * max(1, |a|, |b|).

    Raises:
        ValueError: the shapes differ.
    """
    if a.array.shape != b.array.shape:
        raise ValueError(f"shapes {a.array.shape} and {b.array.shape}")
    with flint.ctx.workprec(max(a.domain.bits, b.domain.bits)):
        scale = flint.arb(2) ** -bits
        kinds = np.asarray(
            np.frompyfunc(lambda x, y: _relation(x, y, scale), 2, 1)(a.array, b.array), dtype=np.int64
        )
    return Comparison.of(kinds == 0, kinds == 2)


def _relation(x: Any, y: Any, scale: Any) -> int:
    """0 for disjoint, 1 for the same number, 2 for undecided."""
    if x == y:
        return 1
    if x.is_nan() or y.is_nan():
        return 2
    if x != y:
        return 0
    radius = max(x.rad(), y.rad())
    # most numbers are known to the scale itself, and need no product
    return 1 if radius <= scale or radius <= scale * max(1, abs(x.mid()), abs(y.mid())) else 2
