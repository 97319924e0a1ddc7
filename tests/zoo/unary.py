"""Tables of steps on one input x, made into spellings and near misses."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import onnx

from .case import NearMiss, Sketch, Spelling

Step = Callable[[Sketch, str], str]
Options = dict[str, object]
Entry = Step | tuple[Step, Options]
SETTINGS = ("shape", "opset", "dtype", "inline", "second", "half")


def of_x(
    step: Callable[..., str],
    *,
    shape: Sequence[int | str] = (4, 6),
    opset: int = 17,
    dtype: str = "float32",
    inline: bool = False,
    second: str | None = None,
    half: bool = False,
) -> onnx.ModelProto:
    """The graph of a step on x, and on a second input of the same shape if that has a name.

    Where it is `half`, x and y are float16 and the step, whose result is called inner, is in float32.
    """
    s = Sketch(dtype, inline=inline)
    if half:
        inner = step(s, s.Cast(s.input("x", shape, "float16"), to="float32"))
        return s.model(s.Cast(s.renamed(inner, "inner"), to="float16", name="y"), opset)
    operands = [s.input(name, shape) for name in ("x", second) if name]
    return s.model(s.renamed(step(s, *operands), "y"), opset)


def spellings(
    op: str,
    prefix: str,
    wanted: Callable[[np.ndarray], np.ndarray],
    table: Mapping[str, Entry],
    attributes: Options | None = None,
    **common: object,
) -> list[Spelling]:
    """One spelling per entry; an entry's own options override the common ones."""
    made = []
    for name, entry in table.items():
        step, own = entry if isinstance(entry, tuple) else (entry, {})
        options = {"attributes": attributes or {}, "wanted": wanted, **common, **own}
        built = {key: options.pop(key) for key in SETTINGS if key in options}
        compute = options.pop("wanted")
        if built.get("half"):
            options["also"] = ("inner",)
        made.append(
            Spelling(
                f"{prefix}_{name}",
                partial(of_x, step, **built),
                op,
                wanted=partial(on_x, compute),
                **options,
            )
        )
    return made


def near_misses(op: str, prefix: str, table: Mapping[str, tuple[object, ...]]) -> list[NearMiss]:
    """One near miss per entry: its step, the reason, and options if it has any."""
    made = []
    for name, (step, why, *rest) in table.items():
        options = dict(rest[0]) if rest else {}
        built = {key: options.pop(key) for key in SETTINGS if key in options}
        made.append(NearMiss(f"not_{prefix}_{name}", partial(of_x, step, **built), op, why, **options))
    return made


def on_x(compute: Callable[[np.ndarray], np.ndarray], fed: Mapping[str, np.ndarray]) -> np.ndarray:
    return compute(fed["x"])
