"""Reads a pre-dispatch ATen graph into the vocabulary.

Nodes that have no counterpart, or touch what the graph writes to, become opaque nodes of the domain `fx`. An
opaque node with effects is an output of the model: nothing may change what it reads, or remove it.
"""

from __future__ import annotations

import operator
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from tautomer.graph.build import Names
from tautomer.graph.fx.extents import Extents
from tautomer.graph.fx.fake import is_fake
from tautomer.graph.fx.groups import OPAQUE, FxModel, Group, Path, Port
from tautomer.graph.fx.in_place import without_local_writes
from tautomer.graph.fx.site import Opaque, Operand, Site
from tautomer.graph.fx.sizes import declare, element_type, is_plain
from tautomer.graph.fx.storage import written_to
from tautomer.graph.fx.table import reading_of
from tautomer.graph.valueless import ValuelessTensor

if TYPE_CHECKING:
    import torch

OPSET = 24
_IR_VERSION = 10
_WRITTEN = "it shares storage with something that the graph writes to"
# They look at types and sizes; no value is read.
_GUARDS = "_guards_fn"
_METADATA_CHECKS = ("aten._assert_tensor_metadata.default",)


def read_fx(
    module: torch.fx.GraphModule,
    *,
    constants: Mapping[str, torch.Tensor] | None = None,
    stored: bool = True,
    values: Sequence[Any] = (),
) -> FxModel:
    """Reads a graph module.

    Args:
        module: pre-dispatch ATen, with `meta["val"]` on its nodes; it is not changed, and writes that only it
            sees are values in what is read.
        constants: the placeholders that are parameters, by name.
        stored: whether parameters have the values that they have now; otherwise only their types and shapes
            are known.
        values: what the placeholders are; tells two of them that share storage.
    """
    module = without_local_writes(module)
    return Reader(module, constants or {}, stored, values).read()


class Reader:
    """One reading."""

    def __init__(
        self,
        module: torch.fx.GraphModule,
        constants: Mapping[str, torch.Tensor],
        stored: bool,
        values: Sequence[Any],
    ) -> None:
        graph = ir.Graph([], [], nodes=[], opset_imports={"": OPSET, OPAQUE: 1})
        graph.name = "fx"
        self.values: dict[torch.fx.Node, ir.Value] = {}
        self._fx = FxModel(module, ir.Model(graph, ir_version=_IR_VERSION))
        self._constants, self.stored = constants, stored
        self._names = Names(node.name for node in module.graph.nodes)
        self._literals: dict[Any, ir.Value] = {}
        self._tied: dict[Any, ir.Value] = {}
        self._sizes = Extents(self.constant, self._in_front)
        self._written = written_to(module.graph, values)
        self._outputs: dict[ir.Value, int] = {}
        self._regions: list[str] = []

    def read(self) -> FxModel:
        """The whole graph."""
        model = self._fx.model
        for node in self._fx.module.graph.nodes:
            getattr(self, f"_{node.op}")(node)
        for made in reversed(self._fx.scaffold):
            model.graph.insert_before(model.graph[0], made)
        model.graph.outputs.extend(self._outputs)
        return self._fx

    # constants and new nodes, for sites

    def constant(self, array: np.ndarray[Any, Any]) -> ir.Value:
        """A constant that is written in the graph; equal ones are one value."""
        key = (str(array.dtype), array.shape, array.tobytes())
        if key not in self._literals:
            self._literals[key] = self._initializer(self._names.fresh("literal"), ir.tensor(array))
        return self._literals[key]

    def sizes(self, extents: Sequence[Any], site: Site) -> ir.Value:
        """A list of sizes as one int64 tensor."""
        if all(isinstance(extent, int) for extent in extents):
            return self.constant(np.array(extents, np.int64))
        parts = [self._sizes.of(extent) for extent in extents]
        return parts[0] if len(parts) == 1 else site.op("Concat", *parts, axis=0)

    def node(
        self,
        op_type: str,
        inputs: Sequence[ir.Value | None],
        domain: str,
        attributes: Mapping[str, Any],
        outputs: int,
    ) -> ir.Node:
        """A node that is not in the graph yet."""
        name = self._names.fresh(f"fx/{op_type}")
        values = [ir.Value(name=f"{name}/y{index}") for index in range(outputs)]
        return ir.node(op_type, list(inputs), dict(attributes), domain=domain, outputs=values, name=name)

    def _in_front(self, op_type: str, *inputs: ir.Value, **attributes: Any) -> ir.Value:
        made = self.node(op_type, inputs, "", attributes, 1)
        self._fx.scaffold.append(made)
        return made.outputs[0]

    def _initializer(self, name: str, tensor: ir.TensorProtocol) -> ir.Value:
        value = ir.Value(name=name, const_value=tensor)
        value.type, value.shape = ir.TensorType(tensor.dtype), ir.Shape(tensor.shape.numpy())
        self._fx.model.graph.register_initializer(value)
        return value

    # FX nodes by their kind

    def _placeholder(self, node: torch.fx.Node) -> None:
        if node.name in self._constants and is_plain(node.meta.get("val")):
            self._parameter(node, self._constants[node.name])
            return
        value = ir.Value(name=node.name)
        held = node.meta.get("val")
        if is_plain(held):
            declare(value, held)
            self._sizes.learn(value, held.shape)  # type: ignore[union-attr]
        else:
            value.shape = ir.Shape(())
            value.type = ir.TensorType(ir.DataType.INT64)
        self._fx.model.graph.inputs.append(value)
        self._know(node, value)

    def _get_attr(self, node: torch.fx.Node) -> None:
        held: Any = self._fx.module
        for name in str(node.target).split("."):
            held = getattr(held, name, None)
        if is_plain(held):
            self._parameter(node, held)

    def _parameter(self, node: torch.fx.Node, held: torch.Tensor) -> None:
        storage = held.untyped_storage()._cdata
        key = (storage, held.storage_offset(), tuple(held.shape), held.stride(), held.dtype)
        if key not in self._tied:
            dtype = element_type(held.dtype)
            assert dtype is not None
            shape = tuple(int(size) for size in held.shape)
            if self.stored and not is_fake(held):
                tensor: ir.TensorProtocol = ir.LazyTensor(
                    lambda: ir.tensor_adapters.TorchTensor(held.detach().cpu()),
                    dtype,
                    ir.Shape(shape),
                    name=node.name,
                )
            else:
                tensor = ValuelessTensor(dtype, shape, node.name)
            self._tied[key] = self._initializer(node.name, tensor)
        value = self._tied[key]
        self.values[node] = value
        self._fx.origin.setdefault(value, node)

    def _call_function(self, node: torch.fx.Node) -> None:
        target: Any = node.target
        if str(target) in _METADATA_CHECKS:
            self._fx.behind.setdefault(node.all_input_nodes[0], []).append(node)
            return
        if target is operator.getitem and self._part(node):
            return
        if str(target) == "aten.sym_size.int" and self._size(node):
            return
        self._region(node)
        read = reading_of(target)
        if read is not None:
            reason = self._why_not(node)
            if not reason:
                site = Site(self, node)
                try:
                    self._keep(site, read(site))
                except Opaque as error:
                    reason = str(error)
            if not reason:
                return
            self._fx.declined[node.name] = reason
        self._opaque(node)

    def _size(self, node: torch.fx.Node) -> bool:
        """A node that reads a size, and no values; False for one of an opaque value."""
        source: Any
        source, axis = node.args
        if source not in self.values or not isinstance(axis, int):
            return False
        made = self.node("Shape", [self.values[source]], "", {"start": axis, "end": axis + 1}, 1)
        made.name = node.name
        value = made.outputs[0]
        value.name = node.name
        value.type, value.shape = ir.TensorType(ir.DataType.INT64), ir.Shape([1])
        self._fx.model.graph.append(made)
        port = Port(("args", 0), made, 0, self.values[source])
        self._fx.groups[made] = Group(node, [made], [port], [value])
        self._know(node, value)
        return True

    def _call_module(self, node: torch.fx.Node) -> None:
        if node.target == _GUARDS and node.all_input_nodes:
            self._fx.behind.setdefault(node.all_input_nodes[-1], []).append(node)
        else:
            self._opaque(node)

    def _call_method(self, node: torch.fx.Node) -> None:
        self._opaque(node)

    def _output(self, node: torch.fx.Node) -> None:
        for held, path in _nodes(node.args[0], ("args", 0)):
            value = self.values.get(held)
            if value is not None:
                self._fx.outputs[path] = (self._outputs.setdefault(value, len(self._outputs)), value)

    # what is made of them

    def _know(self, node: torch.fx.Node, value: ir.Value) -> None:
        self.values[node] = value
        self._fx.origin[value] = node

    def _why_not(self, node: torch.fx.Node) -> str:
        """Why a node that could be read is not, or ""."""
        if node in self._written or any(each in self._written for each in node.all_input_nodes):
            return _WRITTEN
        if self._regions:
            return self._regions[-1]
        held = node.meta.get("val")
        parts: Collection[Any] = held if isinstance(held, (list, tuple)) else [held]
        if not all(is_plain(part) for part in parts):
            return "its result is no plain tensor"
        return ""

    def _region(self, node: torch.fx.Node) -> None:
        """Keeps track of stretches of the graph in which gradients are switched off."""
        name = getattr(node.target, "__name__", "")
        if name == "_set_grad_enabled":
            self._regions.clear()
            if not node.args[0]:
                self._regions.append("gradients are switched off there")

    def _keep(self, site: Site, result: ir.Value | Operand | Sequence[ir.Value]) -> None:
        """Puts what a site made into the graph."""
        node, held = site.fx, site.result
        if isinstance(result, Operand):
            if not site.nodes and all(user.op != "output" for user in node.users):
                self.values[node] = result.value
                self._fx.behind.setdefault(site.source(result), []).append(node)
                return
            result = site.op("Identity", result)
        results = [result] if isinstance(result, ir.Value) else list(result)
        for made in site.nodes[:-1]:
            made.name = self._names.fresh(f"{node.name}/{made.op_type}")
        site.nodes[-1].name = node.name
        graph = self._fx.model.graph
        graph.extend(site.nodes)
        group = Group(node, site.nodes, site.ports, results)
        for made in site.nodes:
            self._fx.groups[made] = group
        if isinstance(held, (list, tuple)):
            for value, part in zip(results, held, strict=True):
                declare(value, part)
            self._several[node] = group
        else:
            results[0].name = node.name
            declare(results[0], held)
            self._know(node, results[0])

    @property
    def _several(self) -> dict[torch.fx.Node, Group]:
        return self._fx.several

    def _part(self, node: torch.fx.Node) -> bool:
        """One result of a node with several; False when that node is opaque."""
        source, index = node.args
        group = self._several.get(source)  # type: ignore[arg-type]
        if group is None or not isinstance(index, int):
            return False
        value = group.results[index]
        if not any(position == index for _, position in group.parts):
            value.name = node.name
            self._fx.origin[value] = node
        group.parts.append((node, index))
        self.values[node] = value
        return True

    def _opaque(self, node: torch.fx.Node) -> None:
        arguments = [
            (self.values[held], path)
            for held, path in (*_nodes(node.args, ("args",)), *_nodes(node.kwargs, ("kwargs",)))
            if held in self.values
        ]
        value = ir.Value(name=node.name)
        held = node.meta.get("val")
        if is_plain(held):
            declare(value, held)
        name = str(node.target) if node.op == "call_function" else node.op
        made = ir.node(
            name, [operand for operand, _ in arguments], domain=OPAQUE, outputs=[value], name=node.name
        )
        ports = [Port(path, made, index, operand) for index, (operand, path) in enumerate(arguments)]
        self._fx.model.graph.append(made)
        self._fx.groups[made] = Group(node, [made], ports, [value])
        self._know(node, value)
        if node.is_impure():
            self._outputs.setdefault(value, len(self._outputs))


def _nodes(held: Any, path: Path) -> Iterator[tuple[Any, Path]]:
    """The FX nodes in an argument, with where each is."""
    if isinstance(held, (list, tuple)):
        for index, each in enumerate(held):
            yield from _nodes(each, (*path, index))
    elif isinstance(held, Mapping):
        for name, each in held.items():
            yield from _nodes(each, (*path, name))
    elif isinstance(held, slice):
        return
    elif hasattr(held, "all_input_nodes"):
        yield held, path
