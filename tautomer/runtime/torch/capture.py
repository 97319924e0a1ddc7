"""A dynamo graph as pre-dispatch ATen: one spelling for each operation, still differentiable.

Dynamo records what the user wrote: three spellings of softmax, Python arithmetic, methods. Run through
make_fx above the dispatcher's autograd and autocast, the graph keeps whole operations (layer_norm, softmax,
gelu) and has one spelling of each, the one that torch.export gives.

A function that the dispatcher never sees is executed while tracing and is then missing from the result. So
nodes without a value are followed only when they are known, and what changes differentiation is refused.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import fx

from tautomer.errors import InputError
from tautomer.runtime.torch.compat import (
    FakeTensor,
    FakeTensorMode,
    HigherOrderOperator,
    OpOverload,
    OpOverloadPacket,
    RestartAnalysis,
    TracingContext,
    enable_python_dispatcher,
    is_traceable_wrapper_subclass,
    make_fx,
    preserve_node_meta,
)

_FEW = 1024  # elements of a literal that may be written into the graph
# functions without a value that tracing above autograd keeps
_KEPT = {
    operator.setitem,
    torch._C._set_grad_enabled,
    torch.amp.autocast_mode._enter_autocast,
    torch.amp.autocast_mode._exit_autocast,
    torch._assert_async,
    torch._C._log_api_usage_once,  # is lost, and says nothing about the model
}
_DIFFERENTIATION = {torch.autograd.grad, torch.autograd.backward}
_METHODS = {"requires_grad_", "backward", "register_hook", "register_post_accumulate_grad_hook"}


def capture(graph: fx.GraphModule, inputs: Sequence[Any]) -> fx.GraphModule:
    """The same function in pre-dispatch ATen; the given graph is left as it is.

    Args:
        graph: what dynamo gives to a backend.
        inputs: one per placeholder: tensors, fake tensors, symbolic or plain numbers.

    Raises:
        InputError: something in the graph would be lost, or it cannot be traced; names the node.
    """
    _refuse(graph, inputs)
    with _fake_inputs(inputs) as fakes:
        try:
            traced = make_fx(
                lambda *args: fx.Interpreter(graph).run(*args),
                pre_dispatch=True,
                tracing_mode="real",
                _allow_non_fake_inputs=True,
            )(*fakes)
        except (RestartAnalysis, IndexError):
            raise  # dynamo waits for these
        except Exception as error:  # whatever the model's own operators raise
            first = str(error).partition("\n")[0]
            raise InputError(
                f"the graph cannot be traced to ATen: {type(error).__name__}: {first}"
            ) from error
    _inline_literals(traced)
    _carry_over(graph, traced)
    traced.recompile()
    return traced


def _refuse(graph: fx.GraphModule, inputs: Sequence[Any]) -> None:
    for node, value in zip(graph.graph.find_nodes(op="placeholder"), inputs, strict=True):
        if isinstance(value, torch.Tensor) and is_traceable_wrapper_subclass(value):
            kind = type(value).__name__
            raise InputError(f"is a {kind}; only plain tensors are rewritten", where=node.name)
    for node in graph.graph.nodes:
        reason = _lost(node)
        if reason:
            raise InputError(reason, where=node.name)


def _lost(node: fx.Node) -> str:
    """Why this node would not survive tracing, or ""."""
    target = node.target
    if isinstance(target, HigherOrderOperator):
        return f"the higher-order operator {_named(target)} is not traced"
    if node.op == "call_method" and target in _METHODS:
        return f"{target} changes how the graph is differentiated"
    if node.op != "call_function":
        return ""
    home = str(getattr(target, "__module__", ""))
    if target in _DIFFERENTIATION or home.startswith(("torch._functorch", "torch._C._functorch")):
        return f"{_named(target)} differentiates or batches inside of the graph"
    if node.meta.get("unbacked_bindings"):
        return f"{_named(target)} gives a size that depends on data"
    dispatched = isinstance(target, (OpOverload, OpOverloadPacket)) or target in _KEPT
    if node.meta.get("example_value") is None and not node.users and not dispatched:
        return f"{_named(target)} has an effect that tracing does not keep"
    return ""


def _named(target: Any) -> str:
    return str(getattr(target, "__name__", target))


@contextmanager
def _fake_inputs(inputs: Sequence[Any]) -> Iterator[list[Any]]:
    """The inputs as fake tensors with the symbols that dynamo gave them.

    In a fake mode of their own: in-place operations leave their marks on fake tensors, and those of the
    tracing context are used again by whoever compiles the graph.
    """
    context = TracingContext.try_get()
    if context is None or context.fake_mode is None:
        raise InputError("there is no tracing context", remedy="use it through torch.compile")
    kept, known = context.fake_mode, context.tensor_to_context
    given = next((x.fake_mode for x in inputs if isinstance(x, FakeTensor)), None)
    mode = given or FakeTensorMode(shape_env=kept.shape_env)

    def fake(value: Any) -> Any:
        if not isinstance(value, torch.Tensor) or isinstance(value, FakeTensor):
            return value
        symbols = known.get(value, None)
        return mode.from_tensor(
            value,
            static_shapes=symbols is None,
            symbolic_context=symbols,
            source=symbols.tensor_source if symbols else None,
            trace=False,
        )

    context.fake_mode = mode
    try:
        with mode, enable_python_dispatcher(), preserve_node_meta():
            yield [fake(value) for value in inputs]
    finally:
        context.fake_mode = kept


def _inline_literals(graph: fx.GraphModule) -> None:
    """Writes tensors that make_fx lifted to attributes back into the graph: backends expect no new ones."""
    lifted = []
    for node in graph.graph.find_nodes(op="get_attr"):
        name = str(node.target)
        value = getattr(graph, name, None)
        if not isinstance(value, torch.Tensor) or not name.startswith("_tensor_constant"):
            continue
        with graph.graph.inserting_before(node):
            literal = _literal(graph.graph, name, value)
        literal.meta.update(node.meta)
        node.replace_all_uses_with(literal)
        graph.graph.erase_node(node)
        for user in list(literal.users):
            if user.target is torch.ops.aten.lift_fresh_copy.default:
                user.replace_all_uses_with(literal)
                graph.graph.erase_node(user)
        lifted.append(name)
    for name in dict.fromkeys(lifted):
        delattr(graph, name)


def _literal(graph: fx.Graph, name: str, value: torch.Tensor) -> fx.Node:
    if value.numel() > _FEW:
        raise InputError(f"a literal of {value.numel()} elements", where=name)
    place: dict[str, Any] = {"dtype": value.dtype, "device": value.device}
    if value.numel() == 1:
        full: Callable[..., Any] = torch.ops.aten.full.default
        return graph.call_function(full, (list(value.shape), value.item()), place)
    return graph.call_function(torch.tensor, (value.tolist(),), place)


def _carry_over(graph: fx.GraphModule, traced: fx.GraphModule) -> None:
    """What AOTAutograd reads on dynamo's graphs: sources for guards, and which inputs stay where they are."""
    traced.meta.update(graph.meta)
    for name in ("_param_name_to_source", "_source_to_user_stacks"):
        if hasattr(graph, name):
            setattr(traced, name, getattr(graph, name))
    nodes = (each.graph.find_nodes(op="placeholder") for each in (graph, traced))
    for old, new in zip(*nodes, strict=True):
        new._rename(old.name)
        new.target = old.target
        new._dynamo_source = old._dynamo_source
        if "tensor_dict" in old.meta:
            new.meta["tensor_dict"] = old.meta["tensor_dict"]
