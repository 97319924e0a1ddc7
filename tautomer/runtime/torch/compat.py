"""Every private name of torch that Tautomer uses. Works on torch 2.11 to 2.13.

A new version of torch breaks here or nowhere.
"""

from __future__ import annotations

from typing import Any

import torch
from torch._C._functorch import peek_interpreter_stack
from torch._dispatch.python import enable_python_dispatcher
from torch._dynamo.backends.registry import lookup_backend
from torch._dynamo.exc import RestartAnalysis, SkipFrame
from torch._guards import TracingContext
from torch._inductor import config as inductor_config
from torch._inductor import list_mode_options
from torch._logging._internal import trace_structured
from torch._ops import HigherOrderOperator, OpOverload, OpOverloadPacket
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch._subclasses.functional_tensor import FunctionalTensorMode
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.traceback import preserve_node_meta
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import _disable_current_modes as disable_current_modes
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

__all__ = [
    "FakeTensor",
    "FakeTensorMode",
    "FunctionalTensorMode",
    "HigherOrderOperator",
    "OpOverload",
    "OpOverloadPacket",
    "RestartAnalysis",
    "SkipFrame",
    "TracingContext",
    "disable_current_modes",
    "enable_python_dispatcher",
    "inductor_config",
    "is_traceable_wrapper_subclass",
    "is_transformed",
    "keeps_triton_operators",
    "list_mode_options",
    "lookup_backend",
    "make_fx",
    "onnx_recorder",
    "preserve_node_meta",
    "storage_reference",
    "trace_structured",
]


def storage_reference(storage: torch.UntypedStorage) -> object:
    """Keeps the identity of a storage, its `_cdata`, from being used again; does not keep its memory."""
    return StorageWeakRef(storage)


def is_transformed() -> bool:
    """Whether torch.func or forward mode is at work on what is called now."""
    return forward_ad._current_level >= 0 or peek_interpreter_stack() is not None


def onnx_recorder() -> Any:
    """What writes nodes while torch.onnx.export translates: it has `opset`, and `eval` of a schema."""
    from onnxscript import evaluator

    return evaluator.default()


def keeps_triton_operators() -> bool:
    """Whether a graph is exported, in which operators stay what they are."""
    from torch.export._trace import custom_triton_ops_decomposition_disabled

    return bool(custom_triton_ops_decomposition_disabled())
