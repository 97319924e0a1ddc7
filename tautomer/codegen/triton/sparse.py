"""Sparse linear maps in Triton, for the few rows of h that a step of decoding has.

    y = b + sum over j with h_j != 0 of h_j * W[j, :]

W is stored [neurons, outputs], one contiguous row per neuron. Three kernels, launched one after the other:

    dots   of a gated layer: factor_j = gate_j * (x . U[j, :] + c_j) where neuron j is met, 0 elsewhere
    sums   a program takes CHUNK neurons and BLOCK outputs, and adds up the rows of W that are met
    join   adds up the sums of all chunks, in their order, and the bias

A neuron is met where one of the rows is not 0 there; NaN is not, -0.0 is. Met neurons are listed in
registers, by how many are met before them,

    neuron_k = sum of j over j that are met with k met ones before,

so that TOGETHER rows of W are asked for at once: with a tile of W that is read under a mask instead, what is
left out still costs its instructions, an eighth of the dense product's time. Nothing is added with atomic
operations, so a result does not depend on which program ends first.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache

from tautomer.patterns.sparse_linear import ROW_LIMITS

_HEAD = "import triton\nimport triton.language as tl\n\n\n"
# bytes of a row that a warp reads at once, 16 for each of 32 threads
_WARP_BYTES, _WARPS = 512, 4
_CHUNKS, _CHUNKS_OF_DOTS = (256, 128, 64, 32), (32, 16, 8)
_PROGRAMS = 2  # of the grid on each multiprocessor, at least: while one lists, another reads


@dataclass(frozen=True)
class SparseTile:
    """How a kernel is launched.

    Attributes:
        chunk: neurons of a program; for `join`, chunks that are read at once.
        together: rows of a weight that are read at once; for `join`, 1.
        block: numbers of a row.
        warps: of a program.
    """

    chunk: int
    together: int
    block: int
    warps: int = _WARPS

    def constants(self) -> dict[str, int]:
        """The compile-time constants."""
        return {"CHUNK": self.chunk, "TOGETHER": self.together, "BLOCK": self.block}


JOIN = SparseTile(32, 1, 64)


def sums_tile(neurons: int, outputs: int, itemsize: int, multiprocessors: int) -> SparseTile:
    """The tile of `sums`: a warp reads a row of it at once, and the device is full."""
    block = _WARP_BYTES // itemsize
    blocks = -(-outputs // block)
    wanted = _PROGRAMS * multiprocessors
    chunk = next((one for one in _CHUNKS if -(-neurons // one) * blocks >= wanted), _CHUNKS[-1])
    return SparseTile(chunk, 32, block)


def dots_tile(neurons: int, rows: int, itemsize: int, multiprocessors: int) -> SparseTile:
    """The tile of `dots`: all warps read a row of it at once."""
    wanted = _PROGRAMS * multiprocessors
    chunk = next((one for one in _CHUNKS_OF_DOTS if -(-neurons // one) >= wanted), _CHUNKS_OF_DOTS[-1])
    return SparseTile(chunk, 4 if rows <= 2 else 2, _WARPS * _WARP_BYTES // itemsize)


@cache
def sums(rows: int) -> tuple[str, str]:
    """(name, module) of the kernel over h or factors; launched with chunks * ceil(outputs / BLOCK) programs.

    It writes sums [chunks, rows, outputs] in float32.
    """
    lines = [
        "blocks = tl.cdiv(outputs, BLOCK)",
        "part = tl.program_id(0) // blocks",
        "output = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)",
        "inside = output < outputs",
        "first = part * CHUNK",
        *_listed("h", "neurons", rows, ["tl.load(finite_ptr) == 0"]),
        *(f"sum{r} = tl.zeros([BLOCK], tl.float32)" for r in range(rows)),
        *_each_few(
            [
                "at = weight_ptr + neuron[:, None].to(tl.int64) * outputs + output[None, :]",
                "w = tl.load(at, mask=there[:, None] & inside[None, :], other=0.0).to(tl.float32)",
                *(
                    f"sum{r} += tl.sum(w * tl.load(h_ptr + {r} * neurons + neuron, mask=there, other=0.0)"
                    ".to(tl.float32)[:, None], 0)"
                    for r in range(rows)
                ),
            ]
        ),
        *(
            f"tl.store(sums_ptr + (part * {rows} + {r}).to(tl.int64) * outputs + output, sum{r}, mask=inside)"
            for r in range(rows)
        ),
    ]
    return _module("h_ptr, weight_ptr, finite_ptr, sums_ptr, neurons, outputs", lines)


@cache
def join(biased: bool) -> tuple[str, str]:
    """(name, module) of the kernel that gives y of sums; launched with ceil(elements / BLOCK) programs."""
    lines = [
        "at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)",
        "inside = at < elements",
        "total = tl.zeros([BLOCK], tl.float32)",
        "for begin in range(0, parts, CHUNK):",
        "    part = begin + tl.arange(0, CHUNK)[:, None]",
        "    place = sums_ptr + part.to(tl.int64) * elements + at[None, :]",
        "    total += tl.sum(tl.load(place, mask=(part < parts) & inside[None, :], other=0.0), 0)",
        *(["total += tl.load(bias_ptr + at % outputs, mask=inside).to(tl.float32)"] * biased),
        "tl.store(y_ptr + at, total.to(y_ptr.dtype.element_ty), mask=inside)",
    ]
    return _module(f"sums_ptr, {'bias_ptr, ' * biased}y_ptr, parts, elements, outputs", lines)


@cache
def dots(rows: int, biased: bool, dtype: str) -> tuple[str, str]:
    """(name, module) of the kernel that gives factors; launched with ceil(neurons / CHUNK) programs.

    It writes factors [rows, neurons] in float32. A row of x whose magnitudes add up to the limit of
    `patterns.sparse_linear` or to NaN leaves nothing out.

    Args:
        rows: of x.
        biased: whether there is a c.
        dtype: what x is stored as.
    """
    reads = [f"tl.load(x_ptr + {r} * inputs + i, mask=inside, other=0.0).to(tl.float32)" for r in range(rows)]
    of_row = [f"{{0}}_ptr + {r} * neurons + {{1}}".format for r in range(rows)]
    limit = repr(ROW_LIMITS[dtype])
    everything = ["tl.load(finite_ptr) == 0", *(f"(tl.sum(size{r}, 0) < {limit}) == 0" for r in range(rows))]
    block = ["i = start + tl.arange(0, BLOCK)", "inside = i < inputs"]
    body = [
        *(f"dot{r} = tl.zeros([TOGETHER, BLOCK], tl.float32)" for r in range(rows)),
        "for start in range(0, inputs, BLOCK):",
        *(f"    {line}" for line in block),
        "    at = up_ptr + neuron[:, None].to(tl.int64) * inputs + i[None, :]",
        "    u = tl.load(at, mask=there[:, None] & inside[None, :], other=0.0).to(tl.float32)",
        *(f"    dot{r} += u * {one}[None, :]" for r, one in enumerate(reads)),
        *(["c = tl.load(up_bias_ptr + neuron, mask=there, other=0.0).to(tl.float32)"] * biased),
    ]
    for r, place in enumerate(of_row):
        dot = f"(tl.sum(dot{r}, 1){' + c' * biased})"
        gate = f"tl.load({place('gate', 'neuron')}, mask=there, other=0.0).to(tl.float32)"
        body.append(f"tl.store({place('factors', 'neuron')}, {gate} * {dot}, mask=there)")
    lines = [
        *(f"size{r} = tl.zeros([BLOCK], tl.float32)" for r in range(rows)),
        "for start in range(0, inputs, BLOCK):",
        *(f"    {line}" for line in block),
        *(f"    size{r} += tl.abs({one})" for r, one in enumerate(reads)),
        "first = tl.program_id(0) * CHUNK",
        *_listed("gate", "neurons", rows, everything),
        "nothing = tl.zeros([CHUNK], tl.float32)",
        *(
            f"tl.store({place('factors', 'first + one')}, nothing, mask=real & (met == 0))"
            for place in of_row
        ),
        *_each_few(body),
    ]
    up_bias = "up_bias_ptr, " * biased
    return _module(f"x_ptr, gate_ptr, up_ptr, {up_bias}finite_ptr, factors_ptr, inputs, neurons", lines)


def _listed(name: str, count: str, rows: int, everything: list[str]) -> list[str]:
    """Statements for which of CHUNK neurons from `first` on are met, their places, and `count`."""
    loads = [
        f"tl.load({name}_ptr + {r} * {count} + first + one, mask=real, other=0.0).to(tl.float32) != 0.0"
        for r in range(rows)
    ]
    return [
        "one = tl.arange(0, CHUNK)",
        f"real = one < {count} - first",
        f"met = real & ({' | '.join(f'({one})' for one in everything)})",
        *(f"met = met | ({load})" for load in loads),
        "place = tl.where(met, tl.cumsum(met.to(tl.int32), 0) - 1, -1)",
        "count = tl.sum(met.to(tl.int32), 0)",
    ]


def _each_few(body: list[str]) -> list[str]:
    """The loop over TOGETHER met neurons at a time; the lines know `neuron`, and which are `there`."""
    return [
        "for begin in range(0, count, TOGETHER):",
        "    k = begin + tl.arange(0, TOGETHER)",
        "    there = k < count",
        "    neuron = first + tl.sum(tl.where(place[None, :] == k[:, None], one[None, :], 0), 1)",
        *(f"    {line}" for line in body),
    ]


def _module(arguments: str, lines: list[str]) -> tuple[str, str]:
    body = "".join(f"    {line}\n" for line in lines)
    constants = "CHUNK: tl.constexpr, TOGETHER: tl.constexpr, BLOCK: tl.constexpr"
    text = f"{_HEAD}@triton.jit\ndef NAME({arguments}, {constants}):\n{body}"
    name = f"tautomer_{hashlib.sha256(text.encode()).hexdigest()[:32]}"
    return name, text.replace("NAME", name)
