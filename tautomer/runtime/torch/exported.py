"""A module that is exported, rewritten with folded weights, and given back."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tautomer.errors import CheckFailedError, InputError, ResourceError
from tautomer.graph.fx.reader import read_fx
from tautomer.passes.pipeline import Choices
from tautomer.patterns.recognition.readings import Mode
from tautomer.patterns.recognition.recognise import Recognition, recognise
from tautomer.runtime.torch.rewriting import AS_A_RULE, Rewritten, rewrite_graph
from tautomer.target import Target

Module = torch.nn.Module | torch.export.ExportedProgram
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Exported:
    """A module as a graph.

    Attributes:
        source: what was given.
        graph: its graph, which shares the parameters of the source.
        example: inputs that it takes.
        dynamic_shapes: as torch.export takes them.
    """

    source: Module
    graph: torch.fx.GraphModule
    example: tuple[Any, ...]
    dynamic_shapes: Any = None


def export(module: Module, example_inputs: Sequence[Any] | None, dynamic_shapes: Any = None) -> Exported:
    """Exports a module for inference; it is not changed.

    Raises:
        InputError: it cannot be exported, or not as it is; the message says what to do.
    """
    if isinstance(module, torch.export.ExportedProgram):
        _check_tensors(module.state_dict.items())
        example = example_inputs if example_inputs is not None else (module.example_inputs or ((),))[0]
        return Exported(module, _graph(module), tuple(example), dynamic_shapes)
    if example_inputs is None or isinstance(example_inputs, torch.Tensor):
        raise InputError(
            "a torch module needs example inputs", remedy="give a tuple of what its forward takes"
        )
    if any(part.training for part in module.modules()):
        raise InputError(
            "the module is in training mode, and its graph would be one for training",
            remedy='call module.eval() first, or train with torch.compile(module, backend="tautomer")',
        )
    _check_tensors([*module.named_parameters(), *module.named_buffers()])
    _check_tensors((f"input {i}", held) for i, held in enumerate(example_inputs))
    try:
        with torch.no_grad():
            exported = torch.export.export(module, tuple(example_inputs), dynamic_shapes=dynamic_shapes)
    except Exception as error:  # torch raises whatever it likes
        raise InputError(
            f"torch.export cannot export the module: {_line(error)}",
            where=type(module).__name__,
            remedy="take control flow that depends on data out of its forward; "
            'torch.compile(module, backend="tautomer") rewrites the parts between graph breaks',
        ) from error
    return Exported(module, _graph(exported), tuple(example_inputs), dynamic_shapes)


def rewrite_module(
    exported: Exported,
    *,
    target: str | Target,
    asked: Choices,
    constants: Mode,
    verify: bool,
) -> Rewritten:
    """Rewrites an exported module; weights are folded in float64 and rounded once.

    Raises:
        CheckFailedError: what the user asked for cannot be shown to be the same function.
        InputError: there is no such target.
    """
    flat = torch.utils._pytree.tree_leaves(exported.example)
    done = rewrite_graph(
        exported.graph, flat, weights="fold", asked=asked, target=target, verify=verify, constants=constants
    )
    taken_back = next((remark for remark in done.remarks if "taken back" in remark.reason), None)
    if taken_back is not None and asked != AS_A_RULE:
        raise CheckFailedError(taken_back.reason, remedy="nothing was changed; verify=False does without")
    if done.changed:
        done.module.eval()  # as the module was
    return done


def as_program(exported: Exported, graph: torch.fx.GraphModule) -> torch.export.ExportedProgram:
    """The program of a rewritten graph."""
    if graph is exported.graph and isinstance(exported.source, torch.export.ExportedProgram):
        return exported.source
    with torch.no_grad():
        return torch.export.export(graph, exported.example, dynamic_shapes=exported.dynamic_shapes)


def recognised(exported: Exported, constants: Mode) -> Recognition:
    """What the graph computes."""
    return recognise(read_fx(exported.graph).model, constants=constants)


def census(graph: torch.fx.GraphModule) -> dict[str, int]:
    """Nodes by operator."""
    calls = (str(node.target) for node in graph.graph.nodes if node.op == "call_function")
    return dict(sorted(Counter(calls).items()))


def save_program(program: torch.export.ExportedProgram, path: str | Path, *, force: bool) -> None:
    """Writes a program as torch.export.save does, whole or not at all.

    Raises:
        InputError: the file exists and `force` is not set.
        ResourceError: the folder cannot be written to.
    """
    out = Path(path)
    if out.exists() and not force:
        raise InputError("the file exists", where=str(out), remedy="choose another, or force it")
    aside = out.with_name(f".{os.getpid()}.{out.name}")
    try:
        torch.export.save(program, aside)
        aside.replace(out)
    except OSError as error:
        raise ResourceError(
            f"the program cannot be written ({error.strerror})",
            where=str(out),
            remedy="choose another folder",
        ) from error
    finally:
        aside.unlink(missing_ok=True)


def _graph(program: torch.export.ExportedProgram) -> torch.fx.GraphModule:
    graph = program.module()
    assert isinstance(graph, torch.fx.GraphModule)
    return graph


def _check_tensors(named: Any) -> None:
    """Refuses tensors that a rewrite cannot have."""
    for name, held in named:
        if not isinstance(held, torch.Tensor):
            continue
        what, remedy = "", ""
        if held.is_meta:
            what, remedy = "is on the meta device and has no values", "load the weights first"
        elif held.is_complex():
            what, remedy = "is complex", 'torch.compile(module, backend="tautomer") leaves such parts alone'
        elif held.is_quantized:
            what, remedy = "is quantized", "rewrite the module before it is quantized"
        if what:
            raise InputError(f"{what}", where=f"'{name}'", remedy=remedy)


def _line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:300]
