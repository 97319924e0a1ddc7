"""From which size on an operator of ours is faster than the code that inductor makes of it.

Measured by benchmarks.torch_ops, see benchmarks/results/torch_ops.md: below these sizes the call of an
operator, some microseconds that fused code does not have, costs more than the kernel saves.
"""

from __future__ import annotations

Least = tuple[int | None, int | None]

# type -> operator -> the least number of elements of x, forward alone and in training; None: was not faster
_LEAST: dict[str, dict[str, Least]] = {
    "float32": {
        "layer_norm": (1 << 18, 1 << 19),
        "rms_norm": (1 << 18, 1 << 19),
        "add_layer_norm": (1 << 18, 1 << 19),
        "add_rms_norm": (1 << 18, 1 << 19),
        "softmax": (1 << 17, 1 << 17),
        "log_softmax": (1 << 17, 1 << 17),
        "gelu": (1 << 18, 1 << 18),
        "gelu_tanh": (1 << 18, 1 << 18),
        "swiglu": (1 << 18, 1 << 18),
    },
    "bfloat16": {
        "layer_norm": (3 << 18, 3 << 18),
        "rms_norm": (3 << 18, 3 << 18),
        "add_layer_norm": (None, 1 << 22),
        "add_rms_norm": (None, 1 << 22),
        "softmax": (1 << 20, 1 << 20),
        "gelu": (1 << 18, 1 << 18),
        "gelu_tanh": (1 << 18, 1 << 18),
        "swiglu": (1 << 20, 1 << 20),
    },
}


def no_gain(name: str, dtype: str, elements: int, *, trains: bool) -> str:
    """Why an operator is left to inductor, or "".

    Args:
        name: the operator, without version.
        dtype: of x.
        elements: of x.
        trains: whether its gradient is computed too.
    """
    least = _LEAST.get(dtype, {}).get(name, (None, None))[trains]
    how = f"of {dtype} {'in training' if trains else 'forward'}"
    if least is None:
        return f"no gain on inductor's own code was measured {how}"
    if elements < least:
        return f"inductor's own code is as fast {how} below {least} elements, and it has {elements}"
    return ""
