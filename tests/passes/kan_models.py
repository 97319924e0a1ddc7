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


def positions() -> dict[str, np.ndarray]:
    """The constants that slices read."""
    found: dict[str, np.ndarray] = {"last": np.array([-1])}
    for number in range(GRID + 2 * DEGREE + 2):
        found[f"at{number}"] = found[f"to{number}"] = np.array([number])
    return found


def layer(basis: str, result: str, extra: Sequence[str] = ()) -> str:
    """The basis, flattened, times a matrix, beside silu(x) times another."""
    lines = [basis, f"flat = Reshape ({result}, rows)", "spline = MatMul (flat, ws)", "sg = Sigmoid (x)"]
    lines += ["silu = Mul (x, sg)", "base = MatMul (silu, wb)", "y = Add (base, spline)", *extra]
    return "\n".join(lines)
