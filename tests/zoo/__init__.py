"""Spellings of operations and near misses: what recognition must find, and what it must refuse."""

from . import (
    activations,
    activations_misses,
    attention,
    attention_misses,
    bounded,
    channels,
    elus,
    gelu,
    gelu_misses,
    glu,
    layer_norm,
    layer_norm_layouts,
    layer_norm_misses,
    norm_misses,
    polynomials,
    rationals,
    rectifiers,
    rectifiers_misses,
    residual,
    rms_norm,
    rms_norm_misses,
    softmax,
    softmax_misses,
    softmax_relatives,
)
from .case import NearMiss, Spelling

FAMILIES = (
    layer_norm,
    layer_norm_layouts,
    layer_norm_misses,
    rms_norm,
    rms_norm_misses,
    norm_misses,
    softmax,
    softmax_relatives,
    softmax_misses,
    gelu,
    gelu_misses,
    activations,
    activations_misses,
    rectifiers,
    elus,
    rectifiers_misses,
    polynomials,
    rationals,
    glu,
    residual,
    attention,
    attention_misses,
    channels,
    bounded,
)

SPELLINGS: tuple[Spelling, ...] = tuple(
    case for family in FAMILIES for case in getattr(family, "SPELLINGS", ())
)
NEAR_MISSES: tuple[NearMiss, ...] = tuple(
    case for family in FAMILIES for case in getattr(family, "NEAR_MISSES", ())
)
