"""The steps of a norm, each in the ways that people and exporters write it."""

from collections.abc import Sequence

import numpy as np

from .sketch import Sketch

WIDTH = 12
SHAPE = (2, 5, WIDTH)
LAST = (-1,)
GAMMA = 1 + 0.125 * (7 * np.arange(WIDTH) % 5 - 2)
BETA = 0.0625 * (5 * np.arange(WIDTH) % 7 - 3)


def square(s: Sketch, x: str, how: str) -> str:
    match how:
        case "mul":
            return s.Mul(x, x)
        case "pow":
            return s.Pow(x, 2.0)
        case "pow_int":
            return s.Pow(x, s.const(2, "int64"))
        case "pow_vector":
            return s.Pow(x, s.const([2.0]))
        case "abs":
            return s.Pow(s.Abs(x), 2.0)
        case "neg":
            return s.Neg(s.Mul(x, s.Neg(x)))
    raise ValueError(how)


def average(s: Sketch, x: str, how: str, axes: Sequence[int] = LAST, count: int = WIDTH) -> str:
    match how:
        case "reduce_mean":
            return s.ReduceMean(x, axes=axes)
        case "squeezed":
            return s.Unsqueeze(s.ReduceMean(x, axes=axes, keepdims=0), axes=axes)
        case "sum_div":
            return s.Div(s.ReduceSum(x, axes=axes), float(count))
        case "sum_mul":
            return s.Mul(s.ReduceSum(x, axes=axes), 1 / count)
        case "mul_sum":
            return s.Mul(1 / count, s.ReduceSum(x, axes=axes))
        case "scaled_sum":
            return s.ReduceSum(s.Mul(x, 1 / count), axes=axes)
        case "sum_by_shape":
            size = s.Gather(s.Shape(x), s.const(-1, "int64"), axis=0)
            return s.Div(s.ReduceSum(x, axes=axes), s.Cast(size, to=s.dtype))
        case "product":
            return s.MatMul(x, s.const(np.full((count, 1), 1 / count)))
    raise ValueError(how)


def mean_square(
    s: Sketch, x: str, how: str, averaged: str, axes: Sequence[int] = LAST, count: int = WIDTH
) -> str:
    match how:
        case "sum_square":
            return s.Div(s.ReduceSumSquare(x, axes=axes), float(count))
        case "norm":
            return s.Div(s.Pow(s.ReduceL2(x, axes=axes), 2.0), float(count))
        case "scaled_norm":
            root = s.Mul(s.ReduceL2(x, axes=axes), count**-0.5)
            return s.Mul(root, root)
    return average(s, square(s, x, how), averaged, axes, count)


def quotient(s: Sketch, x: str, power: str, how: str) -> str:
    """x / sqrt(power)."""
    match how:
        case "sqrt_div":
            return s.Div(x, s.Sqrt(power))
        case "reciprocal_of_root":
            return s.Mul(x, s.Reciprocal(s.Sqrt(power)))
        case "root_of_reciprocal":
            return s.Mul(s.Sqrt(s.Reciprocal(power)), x)
        case "one_over_root":
            return s.Mul(s.Div(1.0, s.Sqrt(power)), x)
        case "half_power":
            return s.Div(x, s.Pow(power, 0.5))
        case "minus_half_power":
            return s.Mul(x, s.Pow(power, -0.5))
        case "exp_log":
            return s.Mul(x, s.Exp(s.Mul(s.Log(power), -0.5)))
        case "div_by_reciprocal":
            return s.Div(x, s.Reciprocal(s.Pow(power, -0.5)))
    raise ValueError(how)


def affine(s: Sketch, x: str, how: str, gamma: str | None, beta: str | None) -> str:
    """x * gamma + beta, with the result named y."""
    left = how == "left"
    if gamma is not None:
        name = "y" if beta is None else None
        x = s.op("Mul", *((gamma, x) if left else (x, gamma)), name=name)
    if beta is not None:
        x = s.op("Add", *((beta, x) if left else (x, beta)), name="y")
    return x if gamma or beta else s.Identity(x, name="y")
