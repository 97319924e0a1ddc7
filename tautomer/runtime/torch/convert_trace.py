"""A module as the graph that its example inputs run through, with the modules that its nodes are in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import onnx_ir as ir
import torch
from torch import fx, nn

from tautomer.errors import InputError
from tautomer.graph.fx.groups import FxModel
from tautomer.graph.fx.reader import read_fx
from tautomer.runtime.torch.module_state import evaluating, first_line

_DROPOUT = ("aten.dropout.default", "aten.feature_dropout.default", "aten.alpha_dropout.default")
_NAME = 0  # of the pair that torch keeps for each module around a node: its name, then its class


@dataclass
class Traced:
    """A traced module.

    Attributes:
        read: the graph in both forms.
        tensors: the names in the module of the constants of the IR, by value.
        names: each name of a module in the model -> the first of them.
    """

    read: FxModel
    tensors: dict[ir.Value, str]
    names: dict[str, str]

    @property
    def model(self) -> ir.Model:
        """The graph in the vocabulary."""
        return self.read.model

    def module_of(self, node: ir.Node) -> str | None:
        """The innermost module that a node is in; None for nodes that are in no module's code."""
        group = self.read.groups.get(node)
        inside = list(scopes(group.fx).values()) if group is not None else []
        return self.names[inside[-1]] if inside else None

    def aliases(self, value: ir.Value) -> list[fx.Node]:
        """The FX nodes that are this value: what computes it, then copies and dropout, in order."""
        origin = self.read.origin.get(value)
        found = [] if origin is None else [origin]
        for node in found:
            # what is behind a node and gives nothing looks at its type alone
            found += [each for each in self.read.behind.get(node, []) if each.meta.get("val") is not None]
        return found

    def drops(self, value: ir.Value) -> bool:
        """Whether elements of the value are dropped in training."""
        return any(str(node.target) in _DROPOUT and node.args[1] != 0.0 for node in self.aliases(value))

    @cached_property
    def calls(self) -> dict[str, int]:
        """How often each module is called."""
        keys = {key: name for node in self.read.module.graph.nodes for key, name in scopes(node).items()}
        names = [self.names[name] for name in keys.values()]
        return {name: names.count(name) for name in dict.fromkeys(names)}


def trace(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Traced:
    """Exports a module, as it is for evaluation, and reads the graph.

    Raises:
        InputError: the module cannot be exported.
    """
    with evaluating(model):
        try:
            exported = torch.export.export(model, args, dict(kwargs), strict=False)
        except Exception as error:  # whatever the module's own code raises, and torch's errors about it
            raise InputError(
                f"it cannot be exported: {first_line(error)}",
                where=type(model).__name__,
                remedy="check that it runs on example_inputs, and that torch.export.export takes it",
            ) from error
    signature = exported.graph_signature
    names = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    constants = {
        placeholder: exported.state_dict[name] if name in exported.state_dict else exported.constants[name]
        for placeholder, name in names.items()
    }
    read = read_fx(exported.graph_module, constants=constants)
    tensors = {value: names[node.name] for value, node in read.origin.items() if node.name in names}
    first: dict[int, str] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        first.setdefault(id(module), name)
    modules = {name: first[id(module)] for name, module in model.named_modules(remove_duplicate=False)}
    return Traced(read, tensors, modules)


def scopes(node: fx.Node) -> dict[str, str]:
    """The modules that a node is in, outermost first: the call -> the module's name."""
    return {key: str(entry[_NAME]) for key, entry in (node.meta.get("nn_module_stack") or {}).items()}
