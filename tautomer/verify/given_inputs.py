"""Inputs that a user gives, accepted where names, types and shapes are those of the inputs of the model."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from tautomer.errors import InputError
from tautomer.graph.naming import printable
from tautomer.graph.symbols import size_of


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
