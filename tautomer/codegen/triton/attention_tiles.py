"""Tiles of attention in Triton: how a kernel is cut up, and how it reads rows of q, k and v.

A tile is read through pointers, which works with any strides, or through a tensor descriptor, by the copy
unit of a Hopper or later: no address arithmetic, and rows beyond the end come as zeros. A descriptor is made
by each program ("descriptors"), or once for the launch ("parameters"). Triton 3.6 can let a group of warps do
nothing but copy on a Hopper; what that computed on one was wrong, and is not used.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

from tautomer.codegen.triton.attention_scores import Scores

Loads = Literal["pointers", "descriptors", "parameters"]

HEADER = """\
import triton
import triton.language as tl


@triton.jit
def load_tile(
    rows_at, start, end, stride, step,
    COUNT: tl.constexpr, WIDTH: tl.constexpr, PADDED: tl.constexpr, INSIDE: tl.constexpr,
):
    row = tl.arange(0, COUNT)
    column = tl.arange(0, PADDED)
    at = rows_at + tl.cast(start, tl.int64) * stride + row[:, None] * stride + column[None, :] * step
    if INSIDE and WIDTH == PADDED:
        return tl.load(at)
    if INSIDE:
        return tl.load(at, mask=column[None, :] < WIDTH, other=0.0)
    if WIDTH == PADDED:
        return tl.load(at, mask=row[:, None] < end - start, other=0.0)
    return tl.load(at, mask=(row[:, None] < end - start) & (column[None, :] < WIDTH), other=0.0)


@triton.jit
def store_tile(
    rows_at, tile, start, end, stride, step,
    COUNT: tl.constexpr, WIDTH: tl.constexpr, PADDED: tl.constexpr,
):
    row = tl.arange(0, COUNT)
    column = tl.arange(0, PADDED)
    at = rows_at + tl.cast(start, tl.int64) * stride + row[:, None] * stride + column[None, :] * step
    inside = row[:, None] < end - start
    if WIDTH != PADDED:
        inside = inside & (column[None, :] < WIDTH)
    tl.store(at, tile.to(rows_at.dtype.element_ty), mask=inside)
"""


@dataclass(frozen=True)
class Tiling:
    """How a kernel is cut up; what is tuned.

    Attributes:
        rows: queries of a tile, a power of two, at least 16.
        keys: keys of a tile, the same.
        warps: of a program.
        stages: how many tiles are under way.
        loads: see above.
        sigmoid: a name in `triton_sigmoid.SIGMOIDS`.
        products: how float32 is multiplied: "ieee", or "tf32x3", by the matrix units in three parts, which
            loses about as much as a float32 sum does.
        registers: of a thread at most, so that programs share a multiprocessor; 0 for as many as it takes.
    """

    rows: int
    keys: int
    warps: int
    stages: int
    loads: Loads = "pointers"
    sigmoid: str = "division"
    registers: int = 0
    products: Literal["ieee", "tf32x3"] = "ieee"

    def constants(self, head: int, value_head: int) -> dict[str, int]:
        """The compile-time constants of a kernel."""
        return {
            "ROWS": self.rows,
            "KEYS": self.keys,
            "HEAD": head,
            "VALUE": value_head,
            "HEAD_PADDED": padded(head),
            "VALUE_PADDED": padded(value_head),
            "STAGES": self.stages,
        }


def padded(width: int) -> int:
    """A head dimension as matrix units take it: a power of two, at least 16."""
    return max(16, 1 << (width - 1).bit_length())


CONSTANTS = ("ROWS", "KEYS", "HEAD", "VALUE", "HEAD_PADDED", "VALUE_PADDED", "STAGES")
# tensors with rows of their own, by name: how many rows there are, which head they belong to, and their width
_TENSORS = {
    "q": ("N", "head", "HEAD"),
    "k": ("M", "kv_head", "HEAD"),
    "v": ("M", "kv_head", "VALUE"),
    "y": ("N", "head", "VALUE"),
    "dy": ("N", "head", "VALUE"),
    "dq": ("N", "head", "HEAD"),
    "dk": ("M", "kv_head", "HEAD"),
    "dv": ("M", "kv_head", "VALUE"),
}


@cache
def strides(name: str) -> tuple[str, ...]:
    """The names of a tensor's strides: of a batch, a head, a row, and an element."""
    return tuple(f"{name}_{axis}" for axis in ("batch", "head", "row", "step"))


def located(name: str) -> str:
    """The statement for where the rows of a tensor begin."""
    head = _TENSORS[name][1]
    return f"{name}_rows = {name} + batch.to(tl.int64) * {name}_batch + {head}.to(tl.int64) * {name}_head"


def described(name: str, block: str, end: str) -> str:
    """The statement that makes a descriptor of tiles of a tensor's rows."""
    width = _TENSORS[name][2]
    return (
        f"{name}_tiles = tl.make_tensor_descriptor({name}_rows, shape=[{end}, {width}], "
        f"strides=[{name}_row, 1], block_shape=[{block}, {width}_PADDED])"
    )


def loaded(name: str, block: str, start: str, end: str, inside: bool, loads: Loads) -> str:
    """The text of a tile."""
    _, head, width = _TENSORS[name]
    if loads == "descriptors":
        return f"{name}_tiles.load([{start}, 0])"
    if loads == "parameters":
        return f"{name}_tiles.load([batch, {head}, {start}, 0]).reshape({block}, {width}_PADDED)"
    return (
        f"load_tile({name}_rows, {start}, {end}, {name}_row, {name}_step, {block}, {width}, "
        f"{width}_PADDED, {inside})"
    )


def stored(name: str, tile: str, block: str, start: str, end: str) -> str:
    """The statement that stores a tile."""
    width = _TENSORS[name][2]
    return (
        f"store_tile({name}_rows, {tile}, {start}, {end}, {name}_row, {name}_step, {block}, {width}, "
        f"{width}_PADDED)"
    )


def tiles_of(names: tuple[str, ...], tiling: Tiling) -> tuple[tuple[str, str], ...]:
    """The arguments that are descriptors: (name, which size of the tiling its tiles have and which width)."""
    if tiling.loads != "parameters":
        return ()
    size = {"N": "rows", "M": "keys"}
    return tuple((f"{name}_tiles", f"{size[_TENSORS[name][0]]} {_TENSORS[name][2]}") for name in names)


def operands(scores: Scores) -> tuple[tuple[str, str], ...]:
    """The arguments for what stands between the products: (name, type)."""
    form = scores.form
    found = [("scale", "fp32"), ("bias", "fp32")]
    if form.softcap:
        found.append(("softcap", "fp32"))
    if form.mask:
        kind = "i1" if form.mask == "boolean" else TYPES[form.dtype]
        found += [
            ("mask", f"*{kind}"),
            *((f"mask_{axis}", "i32") for axis in ("batch", "head", "row", "key")),
        ]
    if form.window:
        found.append(("window", "i32"))
    if form.lengths:
        found.append(("lengths", "*i32"))
    if form.alibi:
        found.append(("slopes", "*fp32"))
    if form.sink:
        found.append(("sinks", "*fp32"))
    if form.power:
        found.append(("free", "i32"))
    return tuple(found)


TYPES = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}


def limit(scores: Scores) -> str:
    """The statement for how many keys there are."""
    if scores.form.lengths:
        return "limit = tl.minimum(tl.load(lengths + batch), M)"
    return "limit = M"


def positions(scores: Scores, hidden: bool, transposed: bool = False) -> list[str]:
    """Statements for i, j, what is seen, and the mask, of the tile at `row` and `key`, as far as needed."""
    form = scores.form
    lines = []
    if hidden or form.alibi or form.mask:
        across, down = ("[:, None]", "[None, :]") if transposed else ("[None, :]", "[:, None]")
        lines += [f"i = (row + tl.arange(0, ROWS)){down}", f"j = (key + tl.arange(0, KEYS)){across}"]
    if hidden:
        # beyond the last key v is 0, and what dk and dv have there is left out when they are stored; and the
        # last query sees the last key
        ends = scores.divided and not transposed and (form.causal != "end" or form.lengths)
        parts = ["(j < limit)"] if ends else []
        if form.causal:
            parts.append("(j <= i + shift)")
        if form.window:
            parts.append("(j > i + (shift - window))")
        lines.append(f"seen = {' & '.join(parts)}")
    if form.mask:
        at = "mask_rows + tl.minimum(i, N - 1).to(tl.int64) * mask_row + tl.minimum(j, M - 1) * mask_key"
        lines.append(f"masked = tl.load({at})")
    return lines


def mask_located() -> str:
    """The statement for where the mask of a head begins."""
    return "mask_rows = mask + batch.to(tl.int64) * mask_batch + head.to(tl.int64) * mask_head"


def indented(lines: list[str], depth: int = 1) -> list[str]:
    """Lines of an inner block."""
    return ["    " * depth + line for line in lines]
