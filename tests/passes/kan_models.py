"""KAN layers in the notation of onnx.parser, as exporters write them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

GRID, DEGREE, IN, OUT = 2, 3, 3, 4
WIDTH = GRID + DEGREE


def knots(width: int = IN, *, lo: float = -1.0, hi: float = 1.0, coincide: bool = False) -> np.ndarray:
    """[in, G + 2 k + 1], not uniform after an update of the grid; float32."""
    step = (hi - lo) / GRID
    grid = np.arange(-DEGREE, GRID + DEGREE + 1) * step + lo
    each = np.tile(grid, (width, 1)) + np.random.default_rng(0).uniform(-0.1, 0.1, (width, grid.size)) * step
    if coincide:
        each[0, 2] = each[0, 1]
    return each.astype(np.float32)


def cut(name: str, source: str, start: int, stop: int) -> str:
    return f"{name} = Slice ({source}, at{start}, to{stop}, last)\n"


def b_spline(source: str = "x", grid: str = "grid") -> str:
    """B [batch, in, G + k] of x [batch, in], as efficient-kan computes it."""
    total = GRID + 2 * DEGREE + 1
    body = f"u = Unsqueeze ({source}, last)\n"
    body += cut("l0", grid, 0, total - 1) + cut("r0", grid, 1, total)
    body += "ge = GreaterOrEqual (u, l0)\n lt = Less (u, r0)\n both = And (ge, lt)\n"
    body += "b0 = Cast <to = 1> (both)\n"
    for k in range(1, DEGREE + 1):
        size = total - 1 - k
        body += cut(f"l{k}", grid, 0, size) + cut(f"m{k}", grid, k, total - 1)
        body += cut(f"n{k}", grid, 1, total - k) + cut(f"r{k}", grid, k + 1, total)
        body += f"du{k} = Sub (u, l{k})\n dl{k} = Sub (m{k}, l{k})\n ql{k} = Div (du{k}, dl{k})\n"
        body += cut(f"f{k}", f"b{k - 1}", 0, size) + cut(f"s{k}", f"b{k - 1}", 1, size + 1)
        body += f"left{k} = Mul (ql{k}, f{k})\n ud{k} = Sub (r{k}, u)\n dr{k} = Sub (r{k}, n{k})\n"
        body += (
            f"qr{k} = Div (ud{k}, dr{k})\n right{k} = Mul (qr{k}, s{k})\n b{k} = Add (left{k}, right{k})\n"
        )
    return body


def guarded_b_spline(instead: str = "nought") -> str:
    """The same as pykan computes it: each degree guarded against NaN and infinities, x unsqueezed anew."""
    lines = []
    for line in b_spline().splitlines(keepends=True):
        name, _, call = line.strip().partition(" = ")
        if name == "u":
            line += "taken = Gather <axis = 2> (u, first)\n again = Unsqueeze (taken, last)\n"
        elif name in ("ge", "lt"):
            line = line.replace("(u,", "(again,")
        elif name == "b0":
            continue
        elif "(b0," in call:
            line = f"t{name} = {call.replace('(b0,', '(both,')}\n {name} = Cast <to = 1> (t{name})\n"
        lines.append(line)
    body = "".join(lines)
    for k in range(1, DEGREE + 1):
        v = f"v{k}"
        body = body.replace(f"b{k} = Add", f"{v} = Add")
        guard = f"nan{k} = IsNaN ({v})\n w{k} = Where (nan{k}, {instead}, {v})\n inf{k} = IsInf ({v})\n"
        guard += f"less{k} = Less ({v}, nought)\n minus{k} = And (less{k}, inf{k})\n"
        guard += f"x{k} = Where (minus{k}, lowest, w{k})\n more{k} = Greater ({v}, nought)\n"
        guard += f"plus{k} = And (more{k}, inf{k})\n b{k} = Where (plus{k}, highest, x{k})\n"
        end = f"{v} = Add (left{k}, right{k})\n"
        body = body.replace(end, end + guard)
    return body


def positions() -> dict[str, np.ndarray]:
    """The constants that slices read."""
    most = np.finfo(np.float32).max
    found: dict[str, np.ndarray] = {"last": np.array([-1]), "first": np.array(0)}
    found |= {"nought": np.float32(0.0), "one": np.float32(1.0), "highest": most, "lowest": -most}
    for number in range(GRID + 2 * DEGREE + 2):
        found[f"at{number}"] = found[f"to{number}"] = np.array([number])
    return found


def layer(basis: str, result: str, extra: Sequence[str] = ()) -> str:
    """The basis, flattened, times a matrix, beside silu(x) times another."""
    lines = [basis, f"flat = Reshape ({result}, rows)", "spline = MatMul (flat, ws)", "sg = Sigmoid (x)"]
    lines += ["silu = Mul (x, sg)", "base = MatMul (silu, wb)", "y = Add (base, spline)", *extra]
    return "\n".join(lines)
