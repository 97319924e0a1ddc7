"""Shifts through operators that move elements: what stays together along the channel stays a shift."""

from __future__ import annotations

from tautomer.graph.digits import Digits, Local
from tautomer.graph.fact import elements
from tautomer.graph.semantics.movement import blocks as blocks_of
from tautomer.graph.semantics.selection import paddings
from tautomer.graph.shape_rules import Unknown, given, numbers
from tautomer.passes.streams.shift_carriers import Carriers, Site, Stop, Through, carrier

_SEPARATES = "it separates channels"


@carrier("Reshape", "Flatten", "Squeeze", "Unsqueeze")
def reshape(site: Site) -> Through:
    """No element moves in the flat index."""
    if elements(site.shape(0)) != elements(site.out):
        raise Unknown
    return {0: site.wanted}


@carrier("Transpose")
def transpose(site: Site) -> Through:
    """Digits move with their axes."""
    rank = len(site.out)
    order = site.call.get("perm") or list(range(rank))[::-1]
    if sorted(order) != list(range(rank)):
        raise Unknown
    back = sorted(range(rank), key=lambda axis: int(order[axis]))
    return {0: site.digits(0, [site.cut[axis] for axis in back])}


@carrier("DepthToSpace", "SpaceToDepth")
def blocks(site: Site) -> Through:
    """A reshape, a transpose and a reshape: the digits of the transpose move."""
    split, order = blocks_of(site.call, site.shape(0))
    back = sorted(range(len(order)), key=lambda axis: order[axis])
    digits = site.wanted.transposed(tuple(split[axis] for axis in order), back)
    if digits is None:
        raise Stop("its axes cut through groups of channels")
    return {0: digits}


@carrier("Expand")
def expand(site: Site) -> Through:
    """Copies along the axes that it lacked."""
    return {0: site.broadcast(0)}


@carrier("Tile")
def tile(site: Site) -> Through:
    """Copies along axes without wanted digits."""
    shape = site.shape(0)
    if len(shape) != len(site.out):
        raise Unknown
    site.untouched([i for i, n in enumerate(shape) if n != site.out[i]], "it repeats channels")
    return {0: site.digits(0, site.cut)}


@carrier("Concat")
def concatenate(site: Site) -> Through:
    """Each part carries its own positions."""
    axis = int(site.call.get("axis", 1)) % len(site.out)
    site.untouched([axis], "it joins channels")
    return {i: site.digits(i, site.cut) for i in range(len(site.inputs))}


@carrier("Split")
def split(site: Site) -> Through:
    """A part of the positions."""
    axis = int(site.call.get("axis", 0)) % len(site.out)
    site.untouched([axis], _SEPARATES)
    return {0: site.digits(0, site.cut)}


@carrier("Slice")
def cut(site: Site) -> Through:
    """A part of the positions, or all of an axis in its order."""
    call, x = site.call, site.inputs
    rank, before = len(site.out), site.shape(0)
    axes = numbers(call, x, "axes", 3)
    if axes is None:
        axes = list(range(len(call.get("starts") or range(site.shape(1)[0]))))
    steps = numbers(call, x, "steps", 4) or [1] * len(axes)
    for axis, step in zip(axes, steps, strict=True):
        if step < 0 or before[axis] != site.out[axis]:
            site.untouched([axis % rank], _SEPARATES)
    return {0: site.digits(0, site.cut)}


@carrier("Gather")
def gather(site: Site) -> Through:
    """Whole rows, from any position."""
    axis = int(site.call.get("axis", 0)) % len(site.shape(0))
    after = axis + len(site.shape(1))
    site.untouched(range(axis, after), "it picks channels")
    return {0: site.digits(0, [*site.cut[:axis], (), *site.cut[after:]])}


@carrier("GatherND")
def gather_nd(site: Site) -> Through:
    """Whole slices at coordinates."""
    shape, where = site.shape(0), site.shape(1)
    window = len(shape) - int(site.call.get("batch_dims", 0)) - where[-1]
    first = len(site.out) - window
    site.untouched(range(first), "it picks channels")
    return {0: site.digits(0, [*[()] * (len(shape) - window), *site.cut[first:]])}


@carrier("ScatterND")
def scatter_nd(site: Site) -> Through:
    """Whole slices put at coordinates, or added there."""
    if site.call.get("reduction", "none") not in ("none", "add"):
        raise Stop("it compares or multiplies what it scatters")
    addressed, updates = site.shape(1)[-1], site.shape(2)
    site.untouched(range(addressed), "it replaces channels")
    window = site.cut[addressed:]
    lead: list[Local] = [()] * (len(updates) - len(window))
    return {0: site.digits(0, site.cut), 2: site.digits(2, [*lead, *window])}


@carrier("Pad")
def pad(site: Site) -> Through:
    """More positions: copies of others, or one number, which no reader along J sees and which has to be 0."""
    call, rank = site.call, len(site.out)
    pads = numbers(call, site.inputs, "pads" if call.get("paddings") is None else "paddings", 1)
    if pads is None:
        raise Unknown
    axes = numbers(call, site.inputs, "axes", 3) if given(site.inputs, 3) else None
    widths = paddings(call, rank, pads, axes)
    site.untouched([axis for axis in range(rank) if widths[axis] != (0, 0)], "it adds channels")
    through = {0: site.digits(0, site.cut)}
    if call.get("mode", "constant") == "constant":
        if call.get("value", 0.0) != 0.0:
            raise Stop("it pads with a number that is not 0")
        if given(site.inputs, 2):
            through[2] = Digits.EMPTY
    return through


@carrier("Resize")
def resize(site: Site) -> Carriers:
    """Positions in between others, along axes without wanted digits."""
    call, before = site.call, site.shape(0)
    if call.get("coordinate_transformation_mode", "half_pixel") not in _PLACES:
        raise Stop("it resizes a region")
    if call.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise Stop("it chooses the size itself")
    scales = 1 if call.version < 11 else 2
    axes = call.get("axes") or range(len(before))
    if given(site.inputs, scales) and site.shape(scales) != (0,):
        fact = site.inputs[scales]
        if fact is None or fact.array is None:
            raise Unknown
        scaled = [axis for axis, scale in zip(axes, fact.array.reshape(-1), strict=True) if scale != 1]
    else:
        scaled = [axis for axis in range(len(before)) if before[axis] != site.out[axis]]
    site.untouched(scaled, "it resizes them")
    return Carriers({0: site.digits(0, site.cut)})


# Where an axis of unchanged size keeps its elements in their places.
_PLACES = frozenset(
    ["half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric"]
)
