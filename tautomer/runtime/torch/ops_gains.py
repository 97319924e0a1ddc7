"""From which size on an operator of ours is faster than the code that inductor makes of it.

Measured by benchmarks.torch_ops, see benchmarks/results/torch_ops.md: below these sizes the call of an
operator, some microseconds that fused code does not have, costs more than the kernel saves.
"""

from __future__ import annotations

from typing import Any

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


# architecture -> type -> operator -> the least elements of a row, forward alone and in training. On an H100
# norms are as fast as inductor's to 3 % faster (LayerNormalization of 4096: 15 %), GELU 10 %, softmax 41 to
# 73 %; in small transformers of d = 768 that gives up to 1 %.
_LEAST_COLUMNS: dict[str, dict[str, dict[str, Least]]] = {
    "sm_90": {
        "bfloat16": {
            "layer_norm": (768, None),
            "rms_norm": (768, None),
            "add_layer_norm": (768, None),
            "add_rms_norm": (768, None),
            "softmax": (4096, None),
            "log_softmax": (32768, None),
            "gelu": (768, None),
            "gelu_tanh": (768, None),
        }
    }
}


def no_gain_on_gpu(name: str, dtype: str, x: Any, *, trains: bool) -> str:
    """Why an operator on a GPU is left to inductor, or "".

    Args:
        name: the operator, without version.
        dtype: of x.
        x: a tensor like those that it works on.
        trains: whether its gradient is computed too.
    """
    architecture = _architecture(x)
    least = _LEAST_COLUMNS.get(architecture, {}).get(dtype, {}).get(name, (None, None))[trains]
    how = f"of {dtype} {'in training' if trains else 'forward'} on {architecture}"
    if least is None:
        return f"no gain on inductor's own code was measured {how}"
    if x.shape[-1] < least:
        return f"inductor's own code is as fast {how} below rows of {least}, and these have {x.shape[-1]}"
    return ""


def _architecture(x: Any) -> str:
    """Of the device that a tensor lies on, as in sm_90."""
    import torch

    if not torch.cuda.is_available():
        return "a device that is not here"
    if torch.version.hip:
        return str(torch.cuda.get_device_properties(x.device).gcnArchName).partition(":")[0]
    major, minor = torch.cuda.get_device_capability(x.device)
    return f"sm_{major}{minor}"
