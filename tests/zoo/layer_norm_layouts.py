"""Layer norms in other layouts: over two axes, channel first, between transposes, flattened."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import onnx

from .case import Feeds, Sketch, Spelling
from .layer_norm_settings import EPSILON, normalised, plain, scaled, spelling
from .norm_parts import BETA, GAMMA, SHAPE, WIDTH
from .references import layer_norm


def over_two_axes(axes: Sequence[int], opset: int) -> onnx.ModelProto:
    s = Sketch()
    x = s.input("x", (6, 4, 3))
    table = (4, 3)
    return s.model(scaled(s, normalised(s, x, axes), GAMMA.reshape(table), BETA.reshape(table)), opset)


def channel_first(axis: int, shape: Sequence[int], gamma_shape: Sequence[int]) -> onnx.ModelProto:
    s = Sketch()
    x = s.input("x", shape)
    return s.model(scaled(s, normalised(s, x, [axis]), GAMMA.reshape(gamma_shape), BETA.reshape(gamma_shape)))


def between_transposes() -> onnx.ModelProto:
    s = Sketch()
    last = s.Transpose(s.input("x", (2, WIDTH, 3, 4)), perm=[0, 2, 3, 1], name="last")
    y = scaled(s, normalised(s, last))
    return s.model(s.Transpose(y, perm=[0, 3, 1, 2], name="first"))


def flattened(inner: Callable[[Sketch, str], str]) -> onnx.ModelProto:
    """The batch and the sequence as one axis, by Flatten or Reshape, and back."""
    s = Sketch()
    x = s.input("x", SHAPE)
    y = scaled(s, normalised(s, inner(s, x)))
    return s.model(s.Reshape(y, s.const(list(SHAPE)), name="back"))


def reshaped(shape: tuple[int, ...], axis: int | tuple[int, ...]) -> Callable[[Feeds], np.ndarray]:
    gamma, beta = GAMMA.reshape(shape), BETA.reshape(shape)
    return lambda fed: layer_norm(fed["x"], gamma, beta, axis=axis, epsilon=EPSILON)


def first(fed: Feeds) -> np.ndarray:
    return layer_norm(
        fed["x"], GAMMA.reshape(WIDTH, 1, 1), BETA.reshape(WIDTH, 1, 1), axis=1, epsilon=EPSILON
    )


def moved(fed: Feeds) -> np.ndarray:
    return plain({"x": fed["x"].transpose(0, 2, 3, 1)})


TWO = {"attributes": {"axis": -2, "epsilon": EPSILON}, "wanted": reshaped((4, 3), (-2, -1))}
BACK = {"output": "y", "also": ("back",), "wanted": lambda fed: plain({"x": fed["x"].reshape(-1, WIDTH)})}

SPELLINGS: list[Spelling] = [
    spelling("over_two_axes", partial(over_two_axes, [-2, -1], 17), **TWO),
    spelling("over_two_axes_counted_from_the_front", partial(over_two_axes, [1, 2], 18), **TWO),
    spelling("over_two_axes_in_reverse", partial(over_two_axes, [2, 1], 11), **TWO),
    spelling(
        "channel_first",
        partial(channel_first, 1, (2, WIDTH, 3, 4), (WIDTH, 1, 1)),
        attributes={},
        wanted=first,
    ),
    spelling(
        "channel_first_gamma_of_rank_4",
        partial(channel_first, -3, (2, WIDTH, 3, 4), (1, WIDTH, 1, 1)),
        attributes={},
        wanted=first,
    ),
    spelling(
        "channel_first_in_one_dimension",
        partial(channel_first, 1, (3, WIDTH, 5), (WIDTH, 1)),
        attributes={},
        wanted=reshaped((WIDTH, 1), 1),
    ),
    spelling("between_transposes", between_transposes, output="y", also=("first",), wanted=moved),
    spelling("flattened", partial(flattened, lambda s, x: s.Flatten(x, axis=2)), **BACK),
    spelling("reshaped", partial(flattened, lambda s, x: s.Reshape(x, s.const([-1, WIDTH]))), **BACK),
]
