"""What stands between the two graphs: which nodes of one a node of the other became.

An FX node becomes a few IR nodes, its group. A port is where one of them reads what an argument of the FX
node is. As long as only ports have changed, the FX node is the group's form; otherwise its nodes are written
one by one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import onnx_ir as ir

if TYPE_CHECKING:
    import torch

Path = tuple[str | int, ...]
"""Where an argument of an FX node is: ("args", 0), ("args", 0, 2), ("kwargs", "bias")."""

OPAQUE = "fx"
"""The domain of nodes that have no counterpart in the vocabulary."""


@dataclass(frozen=True)
class Port:
    """An argument of an FX node as an IR node reads it.

    Attributes:
        path: where the argument is.
        node: the reader.
        index: which of its inputs.
        value: what was read.
        transposed: whether it is read with its two axes exchanged.
    """

    path: Path
    node: ir.Node
    index: int
    value: ir.Value
    transposed: bool = False

    @property
    def now(self) -> ir.Value | None:
        """What the reader reads now."""
        return self.node.inputs[self.index]


@dataclass
class Group:
    """The IR nodes of one FX node.

    Attributes:
        fx: the FX node.
        nodes: in order; the last one computes what the FX node does.
        ports: its arguments.
        results: the values that carry its results.
        parts: for a node with several results, the FX nodes that take one each, with its position.
    """

    fx: torch.fx.Node
    nodes: list[ir.Node]
    ports: list[Port]
    results: list[ir.Value]
    parts: list[tuple[torch.fx.Node, int]] = field(default_factory=list)
    _inputs: list[tuple[ir.Value | None, ...]] = field(init=False)

    def __post_init__(self) -> None:
        self._inputs = [tuple(node.inputs) for node in self.nodes]

    @property
    def changed(self) -> list[Port]:
        """The ports that read something else now."""
        return [port for port in self.ports if port.now is not port.value]

    @property
    def intact(self) -> bool:
        """Whether nothing but ports has changed."""
        ports = {(id(port.node), port.index) for port in self.ports}
        for node, inputs in zip(self.nodes, self._inputs, strict=True):
            if node.graph is None or len(node.inputs) != len(inputs):
                return False
            for index, (now, then) in enumerate(zip(node.inputs, inputs, strict=True)):
                if now is not then and (id(node), index) not in ports:
                    return False
        return True


@dataclass
class FxModel:
    """A torch graph in the vocabulary.

    Attributes:
        module: the graph module that was read; it is not changed.
        model: what it says.
        groups: by each of their IR nodes.
        origin: IR values that are FX nodes: inputs, parameters and results.
        outputs: where the FX output node has which output of the model, and what that was.
        behind: FX nodes that give or check what another one gives, by that one.
        several: FX nodes with several results.
        scaffold: nodes that compute symbolic sizes for others; they are no FX nodes.
        declined: FX nodes that stayed opaque although there is a rule for them, and why.
    """

    module: torch.fx.GraphModule
    model: ir.Model
    groups: dict[ir.Node, Group] = field(default_factory=dict)
    origin: dict[ir.Value, torch.fx.Node] = field(default_factory=dict)
    outputs: dict[Path, tuple[int, ir.Value]] = field(default_factory=dict)
    behind: dict[torch.fx.Node, list[torch.fx.Node]] = field(default_factory=dict)
    several: dict[torch.fx.Node, Group] = field(default_factory=dict)
    scaffold: list[ir.Node] = field(default_factory=list)
    declined: dict[str, str] = field(default_factory=dict)
