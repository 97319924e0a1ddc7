"""Shape rules of operators that move elements or make tensors from shapes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tautomer.graph.call import Call
from tautomer.graph.fact import Shape, elements
from tautomer.graph.semantics.movement import parts, reshaped, squeezed, unsqueezed
from tautomer.graph.semantics.selection import paddings, slices
from tautomer.graph.shape_rules import Inputs, Unknown, broadcast, given, known, numbers, shape_rule

Shapes = Sequence[Shape | None]


def _list(call: Call, x: Inputs, name: str, i: int) -> list[int]:
    found = numbers(call, x, name, i)
    if found is None:
        raise Unknown
    return found


@shape_rule("Reshape")
def reshape(call: Call, x: Inputs) -> Shapes:
    """The wanted shape, 0 and -1 filled in."""
    return [reshaped(known(x, 0), _list(call, x, "shape", 1), bool(call.get("allowzero", 0)))]


@shape_rule("Flatten")
def flatten(call: Call, x: Inputs) -> Shapes:
    """The axes before and from `axis` on."""
    shape = known(x, 0)
    axis = int(call.get("axis", 1))
    axis = axis + len(shape) if axis < 0 else axis
    return [(elements(shape[:axis]), elements(shape[axis:]))]


@shape_rule("Squeeze")
def squeeze(call: Call, x: Inputs) -> Shapes:
    """Without axes of size 1."""
    return [squeezed(known(x, 0), numbers(call, x, "axes", 1))]


@shape_rule("Unsqueeze")
def unsqueeze(call: Call, x: Inputs) -> Shapes:
    """With axes of size 1."""
    return [unsqueezed(known(x, 0), _list(call, x, "axes", 1))]


@shape_rule("Transpose")
def transpose(call: Call, x: Inputs) -> Shapes:
    """The sizes in another order."""
    shape = known(x, 0)
    order = call.get("perm")
    return [shape[::-1] if order is None else tuple(shape[i] for i in order)]


@shape_rule("Expand")
def expand(call: Call, x: Inputs) -> Shapes:
    """Broadcast with a shape."""
    return [broadcast(known(x, 0), tuple(_list(call, x, "shape", 1)))]


@shape_rule("Tile")
def tile(call: Call, x: Inputs) -> Shapes:
    """Each size times its count."""
    if 0 < call.version < 6:
        raise Unknown
    return [tuple(n * count for n, count in zip(known(x, 0), _list(call, x, "repeats", 1), strict=True))]


@shape_rule("Concat")
def concatenate(call: Call, x: Inputs) -> Shapes:
    """The sizes along the axis add up."""
    shapes = [known(x, i) for i in range(len(x))]
    axis = int(call.get("axis", 1)) % len(shapes[0])
    rest = {(*shape[:axis], *shape[axis + 1 :]) for shape in shapes}
    if len(rest) > 1:
        raise ValueError(f"{shapes} do not concatenate along {axis}")
    first = shapes[0]
    return [(*first[:axis], sum(shape[axis] for shape in shapes), *first[axis + 1 :])]


@shape_rule("Split")
def split(call: Call, x: Inputs) -> Shapes:
    """Cut along the axis."""
    shape = known(x, 0)
    axis = int(call.get("axis", 0)) % len(shape)
    sizes = parts(call, shape[axis], numbers(call, x, "split", 1))
    return [(*shape[:axis], size, *shape[axis + 1 :]) for size in sizes]


@shape_rule("Slice")
def cut(call: Call, x: Inputs) -> Shapes:
    """What lies between start and end."""
    shape = known(x, 0)
    starts, ends = _list(call, x, "starts", 1), _list(call, x, "ends", 2)
    axes, steps = numbers(call, x, "axes", 3), numbers(call, x, "steps", 4)
    where = slices(len(shape), starts, ends, axes, steps)
    return [tuple(len(range(*cut.indices(size))) for cut, size in zip(where, shape, strict=True))]


@shape_rule("Gather")
def gather(call: Call, x: Inputs) -> Shapes:
    """The axis gives way to the indices' shape."""
    shape = known(x, 0)
    axis = int(call.get("axis", 0)) % len(shape)
    return [shape[:axis] + known(x, 1) + shape[axis + 1 :]]


@shape_rule("GatherElements")
def gather_elements(call: Call, x: Inputs) -> Shapes:
    """The shape of the indices."""
    return [known(x, 1)]


@shape_rule("GatherND")
def gather_nd(call: Call, x: Inputs) -> Shapes:
    """The indices but their last axis, then what the coordinates leave open."""
    shape, where = known(x, 0), known(x, 1)
    return [where[:-1] + shape[int(call.get("batch_dims", 0)) + where[-1] :]]


@shape_rule("Pad")
def pad(call: Call, x: Inputs) -> Shapes:
    """What is added before and after."""
    shape = known(x, 0)
    axes = numbers(call, x, "axes", 3) if given(x, 3) else None
    name = "pads" if call.get("paddings") is None else "paddings"
    widths = paddings(call, len(shape), _list(call, x, name, 1), axes)
    return [tuple(low + size + high for size, (low, high) in zip(shape, widths, strict=True))]


@shape_rule("DepthToSpace", "SpaceToDepth")
def blocks(call: Call, x: Inputs) -> Shapes:
    """Channels into pixels, or back."""
    n, c, h, w = known(x, 0)
    b = int(call.attributes["blocksize"])
    return [
        (n, c // (b * b), h * b, w * b) if call.op_type == "DepthToSpace" else (n, c * b * b, h // b, w // b)
    ]


@shape_rule("Shape")
def shape(call: Call, x: Inputs) -> Shapes:
    """As many sizes as there are axes in between."""
    return [(len(known(x, 0)[call.get("start", 0) : call.get("end")]),)]


@shape_rule("Size")
def size(call: Call, x: Inputs) -> Shapes:
    """A scalar."""
    return [()]


@shape_rule("ConstantOfShape")
def constant_of_shape(call: Call, x: Inputs) -> Shapes:
    """What the input says."""
    return [tuple(_list(call, x, "", 0))]


@shape_rule("RandomNormal", "RandomUniform")
def random(call: Call, x: Inputs) -> Shapes:
    """What the attribute says."""
    return [tuple(call.attributes["shape"])]


@shape_rule("Range")
def progression(call: Call, x: Inputs) -> Shapes:
    """As many steps as fit."""
    arrays = [fact.array for fact in x if fact is not None]
    start, limit, delta = (float(array.item()) if array is not None else math.nan for array in arrays)
    return [(max(math.ceil((limit - start) / delta), 0),)]


@shape_rule("NonZero")
def nonzero(call: Call, x: Inputs) -> Shapes:
    """A column per element that is not zero."""
    if x[0] is None or x[0].array is None:
        raise Unknown
    return [(x[0].array.ndim, int(np.count_nonzero(x[0].array)))]


@shape_rule("Compress")
def compress(call: Call, x: Inputs) -> Shapes:
    """As many along the axis, or altogether, as the condition says."""
    shape, condition = known(x, 0), x[1]
    if condition is None or condition.array is None:
        raise Unknown
    count = int(np.count_nonzero(condition.array))
    axis = call.get("axis")
    return [(count,) if axis is None else (*shape[:axis], count, *shape[axis % len(shape) + 1 :])]


@shape_rule("OneHot")
def one_hot(call: Call, x: Inputs) -> Shapes:
    """The indices' shape with an axis put in."""
    shape = known(x, 0)
    axis = int(call.get("axis", -1)) % (len(shape) + 1)
    return [(*shape[:axis], _list(call, x, "", 1)[0], *shape[axis:])]


@shape_rule("TopK")
def top_k(call: Call, x: Inputs) -> Shapes:
    """k along the axis."""
    shape = known(x, 0)
    axis = int(call.get("axis", -1)) % len(shape)
    count = int(call.attributes["k"]) if "k" in call.attributes else _list(call, x, "", 1)[0]
    return [(*shape[:axis], count, *shape[axis + 1 :])] * 2
