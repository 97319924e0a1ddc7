"""Writes a model that was read from FX back into a graph module: what did not change as it was.

Every FX node whose IR nodes are still there is copied, with the arguments patched that differ. New nodes are
written where they stand: in the place of what they replace, so that no effect is crossed. Operators of ours
are written by their function bodies, since torch has no functions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import InlinePass, LiftConstantsToInitializersPass

from tautomer.graph.fx.emitter import Emitter, Unwritable
from tautomer.graph.fx.fake import fake_mode_of
from tautomer.graph.fx.groups import OPAQUE, FxModel, Group, Path, Port
from tautomer.graph.fx.sizes import is_plain
from tautomer.graph.fx.table import Writing, writing_of

if TYPE_CHECKING:
    import torch

__all__ = ["Unwritable", "Written", "write_fx"]

Ours = Callable[[str, str], Writing | None]
_KEPT_META = ("nn_module_stack", "stack_trace", "source_fn_stack", "from_node", "seq_nr")


@dataclass(frozen=True)
class Written:
    """A model in torch's form.

    Attributes:
        module: a new module. It shares parameters with the one that was read, which is not changed.
        names: the names of FX nodes by the names of IR values.
    """

    module: torch.fx.GraphModule
    names: Mapping[str, str]


def write_fx(
    fx: FxModel,
    *,
    origins: Mapping[str, str] | None = None,
    ours: Ours = lambda domain, op_type: None,
) -> Written:
    """Writes a model that `read_fx` made, after rewrites.

    Args:
        fx: the model; what it calls of its functions is put in the place of the calls, but for what is ours.
        origins: for each constant that rewrites made, by name, the name of the one that it stands for.
        ours: how calls of an operator that torch was taught are written, by domain and name.

    Raises:
        Unwritable: a rewrite made something that torch's graph cannot have.
    """
    if fx.model.functions:
        InlinePass(lambda function: ours(function.domain, function.name) is None)(fx.model)
        LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(fx.model)
    writer = _Writer(fx, origins or {}, ours)
    module = writer.write()
    nodes = {str(value.name): node for value, node in writer.known.items() if hasattr(node, "name")}
    return Written(module, {name: node.name for name, node in nodes.items()})


class _Writer:
    def __init__(self, fx: FxModel, origins: Mapping[str, str], ours: Ours) -> None:
        import torch

        self._fx, self._origins, self._ours = fx, origins, ours
        self._graph = torch.fx.Graph()
        self._graph._codegen = fx.module.graph._codegen
        self._copied: dict[Any, Any] = {}
        self._attributes: dict[str, Any] = {}
        self._emit = Emitter(self._graph, fake_mode_of(fx.module), {}, self._store, self._demanded)
        self.known = self._emit.known
        self._done: set[ir.Node] = set()

    def write(self) -> torch.fx.GraphModule:
        """The module."""
        import torch

        old = self._fx.module
        for node in old.graph.nodes:
            if node.op in ("placeholder", "get_attr"):
                self._copied[node] = self._graph.node_copy(node)
        for value, node in self._fx.origin.items():
            if node in self._copied:
                self._emit.known[value] = self._copied[node]
        for node in list(self._copied):
            self._behind(node)
        scaffold = set(self._fx.scaffold)
        for made in self._fx.model.graph:
            group = self._fx.groups.get(made)
            if made in scaffold:
                continue
            if group is not None and group.intact:
                if made is group.nodes[-1]:
                    self._group(group)
            elif made.outputs[0].dtype != ir.DataType.INT64:  # sizes are written where they are read
                self._single(made)
        self._output()
        self._sweep()
        for node in self._graph.nodes:
            if node.op in ("get_attr", "call_module"):
                target = str(node.target)
                if target not in self._attributes:
                    self._attributes[target] = _attribute(old, target)
        module = torch.fx.GraphModule(self._attributes, self._graph, class_name=type(old).__name__)
        module.meta.update(old.meta)
        module.training = old.training
        return module

    def _group(self, group: Group) -> None:
        """The FX node of a group, with the arguments that changed."""
        patches = {port.path: self._patch(port) for port in group.changed}
        node = self._copy(group.fx, patches)
        if group.parts or len(group.results) > 1:
            for part, index in group.parts:
                copy = self._copy(part, {})
                self._emit.known.setdefault(group.results[index], copy)
                self._behind(part)
        else:
            self._emit.known[group.results[0]] = node
        self._behind(group.fx)
        self._emit.context = {key: group.fx.meta[key] for key in _KEPT_META if key in group.fx.meta}

    def _patch(self, port: Port) -> Any:
        value = port.now
        if port.transposed:
            assert value is not None
            return self._emit.transposed(value)
        return self._emit.operand(value, weak=True)

    def _copy(self, node: Any, patches: Mapping[Path, Any]) -> Any:
        import torch

        args = self._arguments(node.args, ("args",), patches)
        kwargs = self._arguments(node.kwargs, ("kwargs",), patches)
        target = node.target
        changed = any(_layout(new) != _layout(held) for held, new in self._pairs(node, args))
        if changed and str(target) in ("aten.view.default", "aten._unsafe_view.default"):
            target = torch.ops.aten.reshape.default
        copy = self._graph.create_node(node.op, target, args, kwargs, node.name, node.type)
        copy.meta = dict(node.meta)
        if changed and node.op == "call_function" and isinstance(target, torch._ops.OpOverload):
            copy.meta["val"] = self._emit.evaluated(copy)
        self._copied[node] = copy
        return copy

    def _pairs(self, node: Any, args: Any) -> list[tuple[Any, Any]]:
        """The operands that were, and that are."""
        return [
            (held, new)
            for held, new in zip(node.args, args, strict=True)
            if hasattr(held, "all_input_nodes") and hasattr(new, "all_input_nodes")
        ]

    def _arguments(self, held: Any, path: Path, patches: Mapping[Path, Any]) -> Any:
        if path in patches:
            return patches[path]
        if isinstance(held, (list, tuple)):
            made = [self._arguments(each, (*path, index), patches) for index, each in enumerate(held)]
            return made if isinstance(held, list) else tuple(made)
        if isinstance(held, Mapping):
            return {name: self._arguments(each, (*path, name), patches) for name, each in held.items()}
        if isinstance(held, slice):
            return slice(*(self._arguments(each, (), {}) for each in (held.start, held.stop, held.step)))
        if hasattr(held, "all_input_nodes"):
            if held not in self._copied:
                raise Unwritable(f"node '{held.name}' is gone and is still read")
            return self._copied[held]
        return held

    def _behind(self, node: Any) -> None:
        """What gives or checks what a node gives, once that is there."""
        stack = [node]
        while stack:
            top = stack.pop()
            if top not in self._copied:
                continue
            for each in self._fx.behind.get(top, ()):
                if each not in self._copied:
                    copy = self._copy(each, {})
                    if not each.is_impure() and "_assert" not in each.name:
                        self._emit.made.append(copy)
                    stack.append(each)

    def _single(self, node: ir.Node) -> Any:
        """A node that a rewrite made, or one of a group that is no more."""
        self._done.add(node)
        write = writing_of(node) or self._ours(node.domain, node.op_type)
        if write is None or node.domain == OPAQUE:
            raise Unwritable(f"torch has no form of {node.op_type}")
        written = write(self._emit, node)
        results = written if isinstance(written, list) else [written]
        for declared, made in zip(node.outputs, results, strict=False):
            if declared.dtype is not None and declared.shape is not None and hasattr(made, "meta"):
                _agree(declared, made)
            self._emit.known[declared] = made
            origin = self._fx.origin.get(declared)
            if origin is not None:
                self._copied[origin] = made
                self._behind(origin)
        return self._emit.known[node.outputs[0]]

    def _demanded(self, value: ir.Value) -> Any:
        """The inside of a group, which a rewrite reads."""
        node = value.producer()
        if node is None or node in self._done or node.domain == OPAQUE or len(node.outputs) != 1:
            return None
        return self._single(node)

    def _store(self, value: ir.Value, transposed: bool) -> Any:
        """A constant that a rewrite made, as a parameter."""
        import torch

        tensor = value.const_value
        assert tensor is not None
        array = np.asarray(tensor.numpy())
        held = _as_torch(np.ascontiguousarray(array.T if transposed else array), tensor.dtype)
        target, device = self._target(value)
        held = held.to(device)
        parameter = torch.nn.Parameter(held, requires_grad=False)
        self._attributes[target] = parameter
        with self._graph.inserting_before(self._first()):
            node = self._graph.get_attr(target)
        node.meta["val"] = self._emit.mode.from_tensor(held)
        return node

    def _first(self) -> Any:
        """The first node that is no input: constants stand in front of it."""
        return next(node for node in self._graph.nodes if node.op not in ("placeholder", "get_attr"))

    def _target(self, value: ir.Value) -> tuple[str, Any]:
        """The attribute of a new constant, and the device that it lives on.

        Its name is its own, beside the parameter that it stands for: a state of the old module must not be
        loaded into the new one.
        """
        origin = self._origins.get(str(value.name), "")
        source = next((node for held, node in self._fx.origin.items() if held.name == origin), None)
        stem = str(source.target) if source is not None and source.op == "get_attr" else "tautomer"
        device = "cpu" if source is None else source.meta["val"].device
        target, count = f"{stem}_folded", 0
        while target in self._attributes or _has(self._fx.module, target):
            target, count = f"{stem}_folded_{count}", count + 1
        return target, device

    def _output(self) -> None:
        node = next(iter(reversed(self._fx.module.graph.nodes)))
        outputs = self._fx.model.graph.outputs
        held = {
            path: self._emit.operand(outputs[index])
            for path, (index, value) in self._fx.outputs.items()
            if outputs[index] is not value
        }
        copy = self._graph.output(self._arguments(node.args[0], ("args", 0), held))
        copy.meta = dict(node.meta)

    def _sweep(self) -> None:
        """Takes back what was written for nothing: parts of groups, and parameters that nobody reads."""
        for node in reversed(self._emit.made):
            if not node.users:
                self._graph.erase_node(node)
        for node in list(self._graph.nodes):
            if node.op == "get_attr" and not node.users:
                self._graph.erase_node(node)


def _layout(node: Any) -> Any:
    held = node.meta.get("val")
    return (held.shape, held.stride()) if is_plain(held) else None


def _agree(declared: ir.Value, made: Any) -> None:
    """Raises Unwritable when torch computes another type or rank than the model says."""
    from tautomer.graph.fx.sizes import element_type

    held = made.meta["val"]
    if element_type(held.dtype) != declared.dtype or len(held.shape) != len(declared.shape or ()):
        raise Unwritable(f"torch would compute '{declared.name}' in another type or shape")


def _as_torch(array: np.ndarray[Any, Any], dtype: ir.DataType) -> torch.Tensor:
    import torch

    if dtype == ir.DataType.BFLOAT16:
        return torch.from_numpy(array.view(np.int16).copy()).view(torch.bfloat16)
    return torch.from_numpy(array.copy())


def _has(module: Any, target: str) -> bool:
    try:
        _attribute(module, target)
    except AttributeError:
        return False
    return True


def _attribute(module: Any, target: str) -> Any:
    held = module
    for name in target.split("."):
        held = getattr(held, name)
    return held
