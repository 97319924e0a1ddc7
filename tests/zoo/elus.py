"""x above 0 and alpha (exp(x) - 1) below: Elu, and its scaled and continuously differentiable forms."""

from functools import partial

from . import references as ref
from .case import Sketch
from .rectifiers import positive
from .references import SELU_ALPHA, SELU_GAMMA
from .unary import Entry, spellings


def minus_one(s: Sketch, x: str) -> str:
    """exp(x) - 1."""
    return s.Sub(s.Exp(x), 1.0)


def elu(s: Sketch, x: str, alpha: float = 1.0) -> str:
    return s.Where(positive(s, x), x, s.Mul(alpha, minus_one(s, x)))


def elu_by_parts(s: Sketch, x: str, alpha: float = 1.0) -> str:
    return s.Add(s.Relu(x), s.Mul(minus_one(s, s.Min(x, 0.0)), alpha))


def selu_by_parts(s: Sketch, x: str) -> str:
    below = s.Mul(SELU_ALPHA, minus_one(s, s.Min(x, 0.0)))
    return s.Mul(SELU_GAMMA, s.Add(s.Max(x, 0.0), below))


def selu_by_folded_constants(s: Sketch, x: str) -> str:
    below = s.Mul(minus_one(s, x), SELU_ALPHA * SELU_GAMMA)
    return s.Where(positive(s, x), s.Mul(x, SELU_GAMMA), below)


def selu_off(s: Sketch, x: str) -> str:
    """A Selu with constants of its own."""
    return s.Where(positive(s, x), s.Mul(x, 1.0509), s.Mul(1.0509 * 1.6738, minus_one(s, x)))


def celu(s: Sketch, x: str, alpha: float) -> str:
    below = s.Mul(alpha, minus_one(s, s.Div(x, alpha)))
    return s.Add(s.Max(x, 0.0), s.Min(below, 0.0))


ELU: dict[str, Entry] = {
    "where": elu,
    "where_opset_11": (elu, {"opset": 11}),
    "by_parts": elu_by_parts,
    "limits": (
        lambda s, x: s.Add(s.Max(x, 0.0), s.Min(minus_one(s, x), 0.0)),
        {"may_decline": True},
    ),
    "as_one_node": lambda s, x: s.Elu(x),
}

ELU_HALF: dict[str, Entry] = {
    "alpha_half": partial(elu, alpha=0.5),
    "alpha_half_by_parts": partial(elu_by_parts, alpha=0.5),
    "alpha_half_as_one_node": lambda s, x: s.Elu(x, alpha=0.5),
}

SELU: dict[str, Entry] = {
    "by_parts": selu_by_parts,
    "by_parts_opset_11": (selu_by_parts, {"opset": 11}),
    "where": lambda s, x: s.Mul(elu(s, x, SELU_ALPHA), SELU_GAMMA),
    "by_elu": lambda s, x: s.Mul(SELU_GAMMA, s.Elu(x, alpha=SELU_ALPHA)),
    "folded_constants": selu_by_folded_constants,
    "as_one_node": lambda s, x: s.Selu(x),
}

OWN_SELU: dict[str, Entry] = {"constants_of_its_own": selu_off}

CELU: dict[str, Entry] = {
    "alpha_two": partial(celu, alpha=2.0),
    "alpha_two_opset_18": (partial(celu, alpha=2.0), {"opset": 18}),
    "alpha_two_by_where": lambda s, x: s.Where(positive(s, x), x, s.Mul(minus_one(s, s.Mul(x, 0.5)), 2.0)),
    "alpha_two_as_one_node": lambda s, x: s.Celu(x, alpha=2.0),
}

HALF, TWO = {"alpha": 0.5}, {"alpha": 2.0}
OWN = {"alpha": 1.6738, "gamma": 1.0509}

SPELLINGS = [
    *spellings("Elu", "elu", ref.elu, ELU, {"alpha": 1.0}),
    *spellings("Elu", "elu", partial(ref.elu, **HALF), ELU_HALF, HALF),
    *spellings("Selu", "selu", ref.selu, SELU),
    *spellings("Selu", "selu", partial(ref.selu, **OWN), OWN_SELU, OWN, may_decline=True),
    *spellings("Celu", "celu", partial(ref.celu, **TWO), CELU, TWO),
]
