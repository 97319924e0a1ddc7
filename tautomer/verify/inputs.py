"""Inputs for a model that obey what its graph asks of them.

An integer that indexes a table is drawn from below the table's length; what a graph compares, negates,
counts or selects by is a mask of 0 and 1; other floats are standard normal. What an input is for is read off
the nodes that it reaches, never off its name.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from tautomer.errors import InputError, TautomerError
from tautomer.graph.facts import Facts, bind_symbols, propagate
from tautomer.graph.naming import printable
from tautomer.graph.symbols import size_of, unnamed

__all__ = [
    "candidate_sizes",
    "checked_inputs",
    "data_inputs",
    "fitting_inputs",
    "make_inputs",
    "parse_npz",
    "table_length",
]

_SMALL_SIZES = (2, 5, 7, 3, 11, 6)
_FEW = 5  # rows of a table whose length is not known
_KEPT = 0.75  # of a mask's elements; the first of each row always, so that no row is empty
_HUGE = 1e3  # a factor beyond this, on 1 - x, makes x a mask
_REMEDY = "give the inputs as a file of arrays (--inputs FILE.npz)"

# Where a value goes on, possibly in another shape: operator -> the slots that pass.
_PASSING: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(("Identity", "Reshape", "Unsqueeze", "Squeeze", "Flatten", "Expand", "Tile"), (0,)),
    **dict.fromkeys(("Transpose", "Slice", "Split", "Gather", "GatherND", "GatherElements", "Pad"), (0,)),
    **dict.fromkeys(("Cast", "CastLike", "Clip"), (0,)),
    "Where": (1, 2),
    "Concat": tuple(range(64)),
    "Max": tuple(range(8)),
    "Min": tuple(range(8)),
}
# Where positions are read: (domain, operator, slot) -> the slot of the table.
_TABLES = {
    ("", "Gather", 1): 0,
    ("", "GatherElements", 1): 0,
    ("", "GatherND", 1): 0,
    ("", "ScatterElements", 1): 0,
    ("", "ScatterND", 1): 0,
    ("", "SoftmaxCrossEntropyLoss", 1): 0,
    ("", "NegativeLogLikelihoodLoss", 1): 0,
    ("", "RotaryEmbedding", 3): 1,
    ("com.microsoft", "RotaryEmbedding", 1): 2,
    ("com.microsoft", "EmbedLayerNormalization", 0): 2,
    ("com.microsoft", "EmbedLayerNormalization", 1): 4,
    ("com.microsoft", "EmbedLayerNormalization", 8): 3,
}
_LOSSES = ("SoftmaxCrossEntropyLoss", "NegativeLogLikelihoodLoss")  # of classes along axis 1
_MASKING = {
    **dict.fromkeys(("Not", "And", "Or", "Xor", "Equal", "Greater", "GreaterOrEqual"), (0, 1)),
    **dict.fromkeys(("Less", "LessOrEqual"), (0, 1)),
    **dict.fromkeys(("Where", "CumSum", "NonZero"), (0,)),
    "Attention": (3,),
    "MultiHeadAttention": (4,),
    "EmbedLayerNormalization": (7,),
}
_SHAPING = {
    **dict.fromkeys(("Reshape", "Expand", "Tile", "TopK", "Pad", "Unsqueeze", "Squeeze", "Split"), (1,)),
    "OneHot": (1,),
    "ConstantOfShape": (0,),
    "Range": (0, 1, 2),
    "Slice": (1, 2, 3, 4),
    "Loop": (0,),
}


def make_inputs(model: ir.Model, sizes: Mapping[str, int], seed: int) -> dict[str, Any]:
    """Random inputs by name; the same seed gives the same inputs.

    Initializers that are also inputs keep their values.

    Args:
        model: the model.
        sizes: a size for each symbolic dimension, see `candidate_sizes`.
        seed: of the random numbers.

    Raises:
        InputError: an input has no shape, or a type that cannot be made, or decides shapes.
    """
    rng = np.random.default_rng(seed)
    facts = propagate(model, {**bind_symbols(model), **sizes})
    return {
        str(value.name): _made(value, sizes, facts, rng)
        for value in model.graph.inputs
        if value.name not in model.graph.initializers
    }


def _made(value: ir.Value, sizes: Mapping[str, int], facts: Facts, rng: np.random.Generator) -> Any:
    shape = _shape(value, sizes)
    dtype = value.dtype
    role = _role(value, facts)
    if dtype is None or shape is None or not isinstance(value.type, ir.TensorType):
        raise _impossible(value, f"of type {value.type} and shape {value.shape}")
    if role.shaping and not dtype.is_floating_point():
        raise _impossible(value, "it decides the shapes of other values")
    if dtype.is_floating_point() and not role.mask:
        return rng.standard_normal(shape).astype(dtype.numpy())
    if not (dtype.is_floating_point() or dtype.is_integer() or dtype == ir.DataType.BOOL):
        raise _impossible(value, f"of type {dtype.name}")
    if role.high is not None and dtype.is_integer():
        made = rng.integers(role.low, max(role.high, role.low + 1), shape).astype(dtype.numpy())
        if role.ignored is not None:
            kept = rng.random(shape) < _KEPT
            kept[..., :1] = True
            made = np.where(kept, made, np.asarray(role.ignored, made.dtype))
        return made
    if role.mask or dtype == ir.DataType.BOOL:
        kept = rng.random(shape) < _KEPT
        if kept.ndim:
            kept[..., :1] = True
        return np.asarray(kept).astype(dtype.numpy())
    return rng.integers(0, max(shape[-1], 2) if shape else 2, shape).astype(dtype.numpy())


def _impossible(value: ir.Value, reason: str) -> InputError:
    return InputError(f"no value can be made for it: {reason}", where=f"input '{value.name}'", remedy=_REMEDY)


def _shape(value: ir.Value, sizes: Mapping[str, int]) -> tuple[int, ...] | None:
    if value.shape is None:
        return None
    found = []
    for axis, size in enumerate(value.shape):
        if isinstance(size, int) and size >= 0:
            found.append(size)
            continue
        symbol = unnamed(value, axis) if isinstance(size, int) or size.value is None else size.value
        number = size_of(symbol, sizes)
        if number is None or number < 0:
            raise _impossible(value, f"the size '{symbol}' is not known")
        found.append(number)
    return tuple(found)


@dataclass
class _Role:
    """What the graph does with an input: the range that its indices must keep, a mask, a maker of shapes.

    Also the index that a loss ignores.
    """

    low: int = 0
    high: int | None = None
    ignored: int | None = None
    mask: bool = False
    data: bool = False
    shaping: bool = False


def _role(value: ir.Value, facts: Facts) -> _Role:
    role = _Role()
    seen = {(value, 0, 0)}
    stack = [(value, 0, 0)]  # a value, and the least and most that was added to the input on the way to it
    while stack:
        current, least, most = stack.pop()
        for node, slot in current.uses():
            domain = "" if node.domain == "ai.onnx" else node.domain
            table = _TABLES.get((domain, node.op_type, slot))
            if table is not None:
                length = _length(node, table, facts)
                if node.op_type in _LOSSES and not (least or most):
                    role.ignored = node.attributes.get_int("ignore_index", None)
                role.low, role.high = max(role.low, -least), min(role.high or length - most, length - most)
            elif slot in _MASKING.get(node.op_type, ()) or _negates(node, slot, facts) or _to_bool(node):
                role.mask = role.mask or not (domain == "" and node.op_type == "Attention")
            elif slot in _SHAPING.get(node.op_type, ()):
                role.shaping = True
            elif slot in _PASSING.get(node.op_type, ()):
                stack += [step for v in node.outputs if (step := (v, least, most)) not in seen]
                seen.update((v, least, most) for v in node.outputs)
            elif (moved := _offset(node, slot, facts)) is not None:
                step = (node.outputs[0], least + moved[0], most + moved[1])
                stack += [step] if step not in seen else []
                seen.add(step)
            else:
                role.data = True
    floating = value.dtype is not None and value.dtype.is_floating_point()
    role.mask = role.mask and not (floating and role.data)  # data may be compared with 0 beside its use
    return role


def _length(node: ir.Node, slot: int, facts: Facts) -> int:
    """How many rows the table of an indexing node has, along the axis that is indexed."""
    table = node.inputs[slot]
    shape = facts.get(table).shape
    if not shape:
        return _FEW
    if node.op_type in ("GatherND", "ScatterND"):
        index_shape = facts.get(node.inputs[1]).shape
        first = node.attributes["batch_dims"].as_int() if "batch_dims" in node.attributes else 0
        return min(shape[first : first + (index_shape[-1] if index_shape else 1)], default=_FEW)
    return shape[node.attributes.get_int("axis", int(node.op_type in _LOSSES))]


def _to_bool(node: ir.Node) -> bool:
    return node.op_type == "Cast" and node.attributes["to"].as_int() == ir.DataType.BOOL


def _negates(node: ir.Node, slot: int, facts: Facts) -> bool:
    """True for 1 - x; of floats only where a huge factor follows."""
    if node.op_type != "Sub" or slot != 1:
        return False
    one = facts.get(node.inputs[0]).array
    if one is None or one.size != 1 or float(one.reshape(())) != 1.0:
        return False
    kind = facts.get(node.inputs[1]).dtype
    if kind is None or not kind.is_floating_point():
        return True
    for user, _ in node.outputs[0].uses():
        factors = [facts.get(v).array for v in user.inputs] if user.op_type == "Mul" else []
        if _to_bool(user) or any(
            f is not None and f.size == 1 and abs(float(f.item())) > _HUGE for f in factors
        ):
            return True
    return False


def _offset(node: ir.Node, slot: int, facts: Facts) -> tuple[int, int] | None:
    """The least and the most that a node adds to an integer, when it adds a constant."""
    if node.op_type not in ("Add", "Sub") or (node.op_type == "Sub" and slot == 1):
        return None
    other = facts.get(node.inputs[1 - slot]).array
    if other is None or other.dtype.kind not in "iu" or not other.size:
        return None
    least, most = int(other.min()), int(other.max())
    return (least, most) if node.op_type == "Add" else (-most, -least)


def table_length(value: ir.Value, facts: Facts) -> int:
    """The length of the shortest table that an integer value indexes; 0 when it indexes none."""
    return _role(value, facts).high or 0


def data_inputs(model: ir.Model, sizes: Mapping[str, int]) -> list[str]:
    """The float inputs that are data, not masks."""
    facts = propagate(model, {**bind_symbols(model), **sizes})
    return [
        str(value.name)
        for value in model.graph.inputs
        if value.dtype is not None
        and value.dtype.is_floating_point()
        and value.name not in model.graph.initializers
        and not _role(value, facts).mask
    ]


def candidate_sizes(model: ir.Model) -> Iterator[dict[str, int]]:
    """Sizes for the symbolic dimensions, in the order in which they should be tried.

    All different; unnamed axes alike where they stand at the same place; images of 32 and 224 pixels; a batch
    of one; all equal. A size that is an expression of others, such as "past + sequence", follows from them.
    """
    symbols = list(bind_symbols(model))
    derived = [s for s in symbols if size_of(s, dict.fromkeys(set(symbols) - {s}, 1)) is not None]
    free = [s for s in symbols if s not in derived]
    rounds = [_SMALL_SIZES[i % len(_SMALL_SIZES)] + 12 * (i // len(_SMALL_SIZES)) for i in range(len(free))]
    places, pixels = _places(model)
    small = dict(zip(free, rounds, strict=True))
    tries = [small]
    if any(s in places for s in free):
        tries.append({s: _SMALL_SIZES[places[s] % 6] if s in places else small[s] for s in free})
    for side in (32, 224):
        if pixels & set(free):
            tries.append({s: side if s in pixels else 2 for s in free})
    batch = {s for s in free if s in _leading(model)}
    tries += [{s: 1 if s in batch else small[s] for s in free}] if batch else []
    tries += [dict.fromkeys(free, size) for size in (8, 1)] if free else []
    for sizes in tries:
        for symbol in derived:
            sizes[symbol] = max(size_of(symbol, sizes) or 1, 1)
        yield sizes


def _leading(model: ir.Model) -> set[str]:
    """The sizes of first axes."""
    firsts = [(value, value.shape[0]) for value in model.graph.inputs if value.shape]
    return {
        unnamed(value, 0) if isinstance(size, int) or size.value is None else size.value
        for value, size in firsts
    }


def _places(model: ir.Model) -> tuple[dict[str, int], set[str]]:
    """The axis of each unnamed size, and the sizes that are height or width of something like an image."""
    places, pixels = {}, set()
    for value in model.graph.inputs:
        for axis, size in enumerate(value.shape or ()):
            anonymous = size < 0 if isinstance(size, int) else size.value is None
            if isinstance(size, int) and not anonymous:
                continue
            symbol = unnamed(value, axis) if anonymous else str(size.value)  # type: ignore[union-attr]
            if anonymous:
                places[symbol] = axis
            if axis >= 2 and len(value.shape or ()) == 4 and value.dtype == ir.DataType.FLOAT:
                pixels.add(symbol)
    return places, pixels


def fitting_inputs(
    model: ir.Model, accepts: Callable[[dict[str, Any]], Any], seeds: Sequence[int] = (1, 2)
) -> tuple[dict[str, int], list[dict[str, Any]]]:
    """The first sizes with which the model runs, and inputs of these sizes for every seed.

    Args:
        model: the model.
        accepts: runs the model, and raises a TautomerError when it does not take the inputs.
        seeds: of the random numbers.

    Raises:
        InputError: an input cannot be made, or the model takes none of those that were made.
    """
    problem: TautomerError | None = None
    for sizes in candidate_sizes(model):
        made = [make_inputs(model, sizes, seed) for seed in seeds]
        try:
            for inputs in made:
                accepts(inputs)
        except TautomerError as error:
            problem = problem or error
            continue
        return sizes, made
    reason = "" if problem is None else f" ({problem.what})"
    raise InputError(f"the model takes none of the inputs made for it{reason}", remedy=_REMEDY) from problem


def parse_npz(path: str | Path, model: ir.Model) -> dict[str, Any]:
    """Reads inputs from a file of named arrays, and checks names, element types and shapes.

    A type that numpy has not, such as bfloat16, is given as float32 and rounded.

    Raises:
        InputError: the file is none, or does not fit the model's inputs.
    """
    shown = printable(str(path), 400)
    try:
        with Path(path).open("rb") as file:
            if not zipfile.is_zipfile(file):  # numpy would advise to unpickle it
                raise ValueError("it is no .npz file")
            file.seek(0)
            with np.load(file, allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in stored.files}
    except (OSError, ValueError, zipfile.BadZipFile, AttributeError, EOFError) as error:
        raise InputError(
            f"the arrays cannot be read ({printable(str(error), 200)})",
            where=shown,
            remedy="write it with numpy.savez(path, name=array, ...)",
        ) from error
    return checked_inputs(arrays, model, f"{shown}: ", "add one to the file")


def checked_inputs(
    arrays: Mapping[str, Any], model: ir.Model, where: str = "input ", remedy: str = "give one"
) -> dict[str, Any]:
    """The arrays, once names, element types and shapes are those of the model's inputs.

    Args:
        arrays: by the name of the input.
        model: that takes them.
        where: what an error says in front of a name.
        remedy: what an error says where an array is missing.

    Raises:
        InputError: they do not fit.
    """
    values = {str(value.name): value for value in model.graph.inputs}
    for name in sorted(set(arrays) - set(values)):
        raise InputError(
            "the model has no such input",
            where=f"{where}'{name}'",
            remedy=f"its inputs are {sorted(values)}",
        )
    for name in sorted(set(values) - set(arrays) - set(model.graph.initializers)):
        raise InputError("no array for this input", where=f"{where}'{name}'", remedy=remedy)
    sizes: dict[str, int] = {}
    return {
        name: _checked(values[name], np.asarray(array), sizes, f"{where}'{name}'")
        for name, array in arrays.items()
    }


def _checked(value: ir.Value, array: Any, sizes: dict[str, int], where: str) -> Any:
    wanted = None if value.dtype is None else value.dtype.numpy()
    if wanted is not None and array.dtype != wanted:
        if wanted.kind != "V" or array.dtype != np.float32:
            raise InputError(
                f"it holds {array.dtype}, the model takes {wanted}",
                where=where,
                remedy=f"convert it with .astype('{'float32' if wanted.kind == 'V' else wanted}')",
            )
        array = array.astype(wanted)
    declared = None if value.shape is None else list(value.shape)
    if declared is None:
        return array
    named = [size if isinstance(size, int) else size.value for size in declared]
    expected = [size_of(size, sizes) if isinstance(size, str) else size for size in named]
    fits = len(expected) == array.ndim and all(
        want is None or want < 0 or want == size for want, size in zip(expected, array.shape, strict=True)
    )
    if not fits:
        shown = ", ".join("?" if size is None else str(size) for size in named)
        raise InputError(
            f"its shape is {list(array.shape)}, the model takes [{shown}]",
            where=where,
            remedy=("give arrays whose sizes agree with each other and with the model"),
        )
    sizes.update((n, int(s)) for n, s in zip(named, array.shape, strict=True) if isinstance(n, str))
    return array
