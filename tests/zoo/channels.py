"""Operations with numbers of channels or neurons: norms of images, and Dice; and lengths of rows."""

from functools import partial

import numpy as np

from .case import Sketch
from .unary import Entry, near_misses, spellings

CHANNELS, GROUPS, SHAPE = 6, 3, (2, 6, 3, 4)
RANDOM = np.random.default_rng(3)
SCALE, BIAS, V = (RANDOM.uniform(0.5, 1.5, CHANNELS).astype("f") for _ in range(3))
MEAN, VARIANCE, ALPHA = (RANDOM.uniform(0.5, 1.5, CHANNELS).astype("f") for _ in range(3))
EPSILON, SMALL = 1e-3, 1e-5
IMAGE: dict[str, object] = {"shape": SHAPE}


def channel(values: np.ndarray) -> np.ndarray:
    return values.reshape(-1, 1, 1).astype(np.float64)


def grouped(x: np.ndarray, groups: int) -> np.ndarray:
    return x.reshape(len(x), groups, -1)


def variance(x: np.ndarray, groups: int) -> np.ndarray:
    return np.broadcast_to(grouped(x, groups).var(-1, keepdims=True), grouped(x, groups).shape).reshape(
        x.shape
    )


def centred(x: np.ndarray, groups: int) -> np.ndarray:
    rows = grouped(x, groups)
    return (rows - rows.mean(-1, keepdims=True)).reshape(x.shape)


def norm(x: np.ndarray, groups: int) -> np.ndarray:
    y = centred(x, groups) / np.sqrt(variance(x, groups) + SMALL)
    return y * channel(SCALE) + channel(BIAS)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(x, -700, 700)))


def s0(x: np.ndarray) -> np.ndarray:
    y = x * sigmoid(channel(V) * x) / np.sqrt(variance(x, GROUPS) + SMALL)
    return y * channel(SCALE) + channel(BIAS)


def b0(x: np.ndarray) -> np.ndarray:
    deviation = np.sqrt(channel(VARIANCE) + EPSILON)
    y = x / np.maximum(deviation, channel(V) * x + np.sqrt(variance(x, CHANNELS) + EPSILON))
    return y * channel(SCALE) + channel(BIAS)


def dice(x: np.ndarray) -> np.ndarray:
    p = sigmoid((x - MEAN.astype(float)) / np.sqrt(VARIANCE.astype(float) + SMALL))
    return p * x + (1 - p) * ALPHA * x


def affine(s: Sketch, y: str) -> str:
    return s.Add(s.Mul(y, s.const(SCALE.reshape(-1, 1, 1))), s.const(BIAS.reshape(-1, 1, 1)))


def deviation_of(s: Sketch, x: str, axes: list[int], epsilon: float) -> str:
    off = s.Sub(x, s.ReduceMean(x, axes=axes, keepdims=1))
    return s.Sqrt(s.Add(s.ReduceMean(s.Mul(off, off), axes=axes, keepdims=1), epsilon))


def in_groups(s: Sketch, x: str) -> str:
    return s.Reshape(x, s.const([2, GROUPS, CHANNELS // GROUPS, 3, 4]))


def group_norm(s: Sketch, x: str) -> str:
    rows = s.Reshape(x, s.const([0, GROUPS, -1]))
    ones, zeros = s.const(np.ones(GROUPS, "f")), s.const(np.zeros(GROUPS, "f"))
    y = s.InstanceNormalization(rows, ones, zeros, epsilon=SMALL)
    return affine(s, s.Reshape(y, s.const(list(SHAPE))))


def group_norm_by_means(s: Sketch, x: str) -> str:
    parts = in_groups(s, x)
    off = s.Sub(parts, s.ReduceMean(parts, axes=[2, 3, 4], keepdims=1))
    y = s.Div(off, deviation_of(s, parts, [2, 3, 4], SMALL))
    return affine(s, s.Reshape(y, s.const(list(SHAPE))))


def instance_norm(s: Sketch, x: str) -> str:
    return s.InstanceNormalization(x, s.const(SCALE), s.const(BIAS), epsilon=SMALL)


def instance_norm_by_means(s: Sketch, x: str) -> str:
    off = s.Sub(x, s.ReduceMean(x, axes=[2, 3], keepdims=1))
    return affine(s, s.Div(off, deviation_of(s, x, [2, 3], SMALL)))


def evo_norm_s0(s: Sketch, x: str, epsilon: float = SMALL) -> str:
    root = deviation_of(s, in_groups(s, x), [2, 3, 4], epsilon)
    wide = s.Expand(root, s.const([2, GROUPS, CHANNELS // GROUPS, 3, 4]))
    gate = s.Sigmoid(s.Mul(x, s.const(V.reshape(1, -1, 1, 1))))
    return affine(s, s.Div(s.Mul(x, gate), s.Reshape(wide, s.const(list(SHAPE)))))


def evo_norm_b0(s: Sketch, x: str) -> str:
    stored = s.const(np.sqrt(VARIANCE.astype(float) + EPSILON).reshape(-1, 1, 1))
    right = s.Add(s.Mul(x, s.const(V.reshape(-1, 1, 1))), deviation_of(s, x, [2, 3], EPSILON))
    return affine(s, s.Div(x, s.Max(stored, right)))


def mixed(s: Sketch, x: str, p: str) -> str:
    return s.Add(s.Mul(s.Mul(s.const(ALPHA), s.Sub(1.0, p)), x), s.Mul(p, x))


def dice_of_statistics(s: Sketch, x: str) -> str:
    ones, zeros = s.const(np.ones(CHANNELS, "f")), s.const(np.zeros(CHANNELS, "f"))
    normal = s.BatchNormalization(x, ones, zeros, s.const(MEAN), s.const(VARIANCE), epsilon=SMALL)
    return mixed(s, x, s.Sigmoid(normal))


def dice_folded(s: Sketch, x: str) -> str:
    factor = 1 / np.sqrt(VARIANCE.astype(float) + SMALL)
    return mixed(s, x, s.Sigmoid(s.Add(s.Mul(x, s.const(factor)), s.const(-MEAN * factor))))


def l2(s: Sketch, x: str) -> str:
    length = s.ReduceL2(x, axes=[-1], keepdims=1)
    return s.Div(x, s.Expand(s.Clip(length, 1e-12), s.const([4, 6])))


def l2_by_squares(s: Sketch, x: str) -> str:
    return s.Div(x, s.Max(s.Sqrt(s.ReduceSum(s.Mul(x, x), s.const([-1]), keepdims=1)), 1e-12))


def normalised(x: np.ndarray) -> np.ndarray:
    return x / np.maximum(np.sqrt((x * x).sum(-1, keepdims=True)), 1e-12)


GROUP: dict[str, Entry] = {"instance_of_groups": group_norm, "means": group_norm_by_means}
INSTANCE: dict[str, Entry] = {"node": instance_norm, "means": instance_norm_by_means}
DICE: dict[str, Entry] = {"statistics": dice_of_statistics, "folded": dice_folded}
SPELLINGS = [
    *spellings(
        "GroupNormalization",
        "group_norm",
        partial(norm, groups=GROUPS),
        GROUP,
        {"epsilon": SMALL, "num_groups": GROUPS},
        **IMAGE,
    ),
    *spellings(
        "InstanceNormalization",
        "instance_norm",
        partial(norm, groups=CHANNELS),
        INSTANCE,
        {"epsilon": SMALL},
        **IMAGE,
    ),
    *spellings(
        "EvoNormS0", "evo_norm_s0", s0, {"timm": evo_norm_s0}, {"epsilon": SMALL, "num_groups": 3}, **IMAGE
    ),
    *spellings("EvoNormB0", "evo_norm_b0", b0, {"timm": evo_norm_b0}, {"epsilon": EPSILON}, **IMAGE),
    *spellings("Dice", "dice", dice, DICE),
    *spellings("L2Normalization", "l2_norm", normalised, {"clip": l2, "squares": l2_by_squares}),
]


def interleaved_groups(s: Sketch, x: str) -> str:
    parts = s.Transpose(s.Reshape(x, s.const([2, 2, GROUPS, 3, 4])), perm=[0, 2, 1, 3, 4])
    root = deviation_of(s, parts, [2, 3, 4], SMALL)
    off = s.Sub(parts, s.ReduceMean(parts, axes=[2, 3, 4], keepdims=1))
    back = s.Transpose(s.Div(off, root), perm=[0, 2, 1, 3, 4])
    return affine(s, s.Reshape(back, s.const(list(SHAPE))))


def b0_of_the_smaller(s: Sketch, x: str) -> str:
    stored = s.const(np.sqrt(VARIANCE.astype(float) + EPSILON).reshape(-1, 1, 1))
    right = s.Add(s.Mul(x, s.const(V.reshape(-1, 1, 1))), deviation_of(s, x, [2, 3], EPSILON))
    return s.Div(x, s.Min(stored, right))


def s0_beside_the_root(s: Sketch, x: str) -> str:
    root = s.Add(deviation_of(s, in_groups(s, x), [2, 3, 4], 0.0), 0.1)
    wide = s.Expand(root, s.const([2, GROUPS, CHANNELS // GROUPS, 3, 4]))
    gate = s.Sigmoid(s.Mul(x, s.const(V.reshape(1, -1, 1, 1))))
    return s.Div(s.Mul(x, gate), s.Reshape(wide, s.const(list(SHAPE))))


def dice_mixed_up(s: Sketch, x: str) -> str:
    normal = s.BatchNormalization(x, *(s.const(one) for one in (SCALE, BIAS, MEAN, VARIANCE)), epsilon=SMALL)
    return mixed(s, x, s.Sub(1.0, s.Sigmoid(normal)))


def longer_than(s: Sketch, x: str) -> str:
    length = s.ReduceL2(x, axes=[-1], keepdims=1)
    return s.Div(x, s.Add(length, 1e-12))


def gained_by_places(s: Sketch, x: str) -> str:
    off = s.Sub(x, s.ReduceMean(x, axes=[2, 3], keepdims=1))
    gain = np.linspace(0.5, 1.5, 12).reshape(3, 4)
    return s.Mul(s.Div(off, deviation_of(s, x, [2, 3], SMALL)), s.const(np.stack([gain] * CHANNELS)))


NEAR_MISSES = [
    *near_misses(
        "InstanceNormalization",
        "instance_norm",
        {"gained_by_places": (gained_by_places, "each place has a gain of its own", IMAGE)},
    ),
    *near_misses(
        "GroupNormalization",
        "group_norm",
        {"every_third": (interleaved_groups, "a group is every third channel", IMAGE)},
    ),
    *near_misses(
        "EvoNormB0", "evo_norm_b0", {"smaller": (b0_of_the_smaller, "it divides by the smaller one", IMAGE)}
    ),
    *near_misses(
        "EvoNormS0",
        "evo_norm_s0",
        {"beside": (s0_beside_the_root, "epsilon is added to the root", {**IMAGE, "allowed": ("GLU",)})},
    ),
    *near_misses("Dice", "dice", {"mixed_up": (dice_mixed_up, "alpha goes with the wrong side")}),
    *near_misses("L2Normalization", "l2_norm", {"beside": (longer_than, "epsilon is added to the length")}),
]
