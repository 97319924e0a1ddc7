"""Is this protobuf message a graph? Names resolve, nothing is made twice, nothing depends on itself.

onnx-ir is lenient, which suits a model that one is building: it invents a value for a name that nobody makes,
lets the last of two equal names win and drops what it does not know. For a file that others read later, each
of these is refused here, on the message itself, before onnx-ir sees it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import onnx

from tautomer.errors import BadModelError
from tautomer.graph.cycles import on_cycle
from tautomer.graph.naming import label_of, printable

_A = onnx.AttributeProto
_NEEDS_A_LOOK = (
    _A.TENSOR,
    _A.GRAPH,
    _A.TENSORS,
    _A.GRAPHS,
    _A.SPARSE_TENSOR,
    _A.SPARSE_TENSORS,
    _A.UNDEFINED,
)
_REMEDY = "export the model again, or run onnx.checker.check_model on it for details"


@dataclass
class Findings:
    """What the walk met on its way.

    Attributes:
        tensors: every tensor but the initializers of the main graph, with what messages call it.
        unsorted: a node stands before one that it depends on.
    """

    tensors: list[tuple[onnx.TensorProto, str]] = field(default_factory=list)
    unsorted: bool = False


def check_structure(model: onnx.ModelProto) -> Findings:
    """Refuses a model whose graphs and functions are not well-formed."""
    findings = Findings()
    _Body(findings, "", model.graph, []).check()
    calls: dict[tuple[str, str, str], list[tuple[str, str, str]]] = {}
    for function in model.functions:
        name = (_domain(function.domain), function.name, function.overload)
        if name in calls:
            raise _bad("two functions have this name", f"function {printable(function.name)}")
        body = _Body(findings, f"function {printable(function.name)}, ", function, [])
        body.check()
        body.check_defaults(function.attribute_proto)
        calls[name] = [(_domain(n.domain), n.op_type, n.overload) for n in function.node]
    looping = on_cycle({name: [c for c in called if c in calls] for name, called in calls.items()})
    if looping:
        raise _bad("the function calls itself", f"function {printable(looping[1])}")
    return findings


class _Body:
    """One graph, sub-graph or function body."""

    def __init__(
        self,
        findings: Findings,
        path: str,
        body: onnx.GraphProto | onnx.FunctionProto,
        scopes: list[set[str]],
    ) -> None:
        """Args: path: how messages lead to this body; scopes: the names of the bodies around it."""
        self.findings, self.path, self.body, self.scopes = findings, path, body, scopes
        self.own: set[str] = set()

    def check(self) -> set[str]:
        """Checks the body; returns the names that it takes from the bodies around it."""
        body = self.body
        if isinstance(body, onnx.FunctionProto):
            inputs, weights, outputs = list(body.input), [], list(body.output)
        else:
            if body.sparse_initializer:
                raise _bad(
                    "sparse initializers are not supported", self._at("the graph"), "store them densely"
                )
            inputs = [info.name for info in body.input]
            weights = [tensor.name for tensor in body.initializer]
            outputs = [info.name for info in body.output]
            if self.scopes:
                self.findings.tensors += [
                    (t, self._at(f"tensor {printable(t.name)}")) for t in body.initializer
                ]
        _no_twins(inputs, self._at("graph input"))
        _no_twins(weights, self._at("initializer"))
        self.own.update(inputs, weights)
        ready = set(self.own)
        for node in body.node:
            for name in node.output:
                if name in self.own:
                    raise _bad(f'the value "{printable(name)}" is made twice', self._named(node))
                if name:
                    self.own.add(name)

        if not all(isinstance(name, str) for name in self.own):
            raise _bad("a value's name is not valid UTF-8", self._at("the graph"))

        free: set[str] = set()
        sorted_so_far = True
        for node in body.node:
            for name in self.needs(node):
                if name in ready:
                    continue
                if name in self.own:
                    sorted_so_far = False
                elif any(name in scope for scope in self.scopes):
                    free.add(name)
                else:
                    raise _bad(f'reads the value "{printable(name)}", which nothing makes', self._named(node))
            ready.update(node.output)
        if not sorted_so_far:
            self._check_cycles()
            self.findings.unsorted = True
        for name in outputs:
            if name not in self.own:
                reason, remedy = "which nothing makes", _REMEDY
                if any(name in scope for scope in self.scopes):
                    reason, remedy = (
                        "which belongs to the graph around it",
                        "put an Identity node before the output",
                    )
                raise _bad(
                    f'the output is the value "{printable(name)}", {reason}', self._at("the graph"), remedy
                )
        return free

    def needs(self, node: onnx.NodeProto) -> Iterator[str]:
        """The values that the node reads, in its own sub-graphs too."""
        for name in node.input:
            if name:
                yield name
        if not (
            isinstance(node.name, str) and isinstance(node.op_type, str) and isinstance(node.domain, str)
        ):
            raise _bad("a node's name or operator is not valid UTF-8", self._at("the graph"))
        attributes = node.attribute
        if attributes:
            if len(attributes) > 1:
                _no_twins([a.name for a in attributes], f"{self._named(node)}: attribute")
            special = [a for a in attributes if a.type in _NEEDS_A_LOOK and not a.ref_attr_name]
            for graph in self.subgraphs(self._named(node), special):
                yield from graph.check()

    def subgraphs(self, where: str, attributes: Iterable[onnx.AttributeProto]) -> Iterator[_Body]:
        """The bodies in the attributes; their tensors go to the findings."""
        for attribute in attributes:
            at = f"{where}, attribute {printable(attribute.name)}"
            if attribute.type in (_A.TENSOR, _A.TENSORS):
                tensors = [attribute.t] if attribute.type == _A.TENSOR else attribute.tensors
                self.findings.tensors += [(tensor, at) for tensor in tensors]
            elif attribute.type in (_A.GRAPH, _A.GRAPHS):
                graphs = [attribute.g] if attribute.type == _A.GRAPH else attribute.graphs
                for graph in graphs:
                    yield _Body(self.findings, f"{at}, ", graph, [*self.scopes, self.own])
            elif attribute.type == _A.UNDEFINED:
                raise _bad("the attribute has no type", at)
            else:
                raise _bad("sparse tensors are not supported", at, "store them densely")

    def check_defaults(self, attributes: Iterable[onnx.AttributeProto]) -> None:
        """Checks the default values of a function's attributes, which must be plain."""
        met = len(self.findings.tensors)
        graphs = list(
            self.subgraphs(f"{self.path}defaults", (a for a in attributes if a.type in _NEEDS_A_LOOK))
        )
        external = [t for t, _ in self.findings.tensors[met:] if t.data_location == onnx.TensorProto.EXTERNAL]
        if graphs or external:
            raise _bad(
                "a graph or external data as the default of an attribute", f"{self.path}defaults", "inline it"
            )

    def _check_cycles(self) -> None:
        """Names a node on a cycle, when there is one."""
        quiet = _Body(Findings(), self.path, self.body, self.scopes)
        quiet.own = self.own
        maker = {name: index for index, node in enumerate(self.body.node) for name in node.output if name}
        reads = {
            index: [maker[name] for name in quiet.needs(node) if name in maker]
            for index, node in enumerate(self.body.node)
        }
        looping = on_cycle(reads)
        if looping is not None:
            raise _bad(
                "the node depends on its own result: the graph has a cycle",
                self._named(self.body.node[looping]),
            )

    def _named(self, node: onnx.NodeProto) -> str:
        return self._at(f"node {label_of(node.name, node.op_type, list(node.output))}")

    def _at(self, what: str) -> str:
        return f"{self.path}{what}"


def _no_twins(names: list[str], where: str) -> None:
    """Refuses a name that stands twice, or an empty one."""
    if len(set(names)) == len(names) and "" not in names:
        return
    seen: set[str] = set()
    for name in names:
        if name in seen or not name:
            raise _bad(f'the name "{printable(name)}" {"is used twice" if name else "is empty"}', where)
        seen.add(name)


def _domain(domain: str) -> str:
    return "" if domain == "ai.onnx" else domain


def _bad(what: str, where: str, remedy: str = _REMEDY) -> BadModelError:
    return BadModelError(what, where=where, remedy=remedy)
