"""Writes a model: whole or not at all, never over its own source, the same bytes for the same model.

A model that fits into one file is written as one file. A model whose source has external data, or that comes
near protobuf's 2 GiB, gets its weights written to `<name>.onnx.data` first and the graph to `<name>.onnx`
last, so that a reader never sees a graph whose weights are not there. Weights are streamed one by one.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import onnx
import onnx_ir as ir
from google.protobuf.message import EncodeError  # type: ignore[import-untyped]

from tautomer.errors import BadModelError, InputError, ResourceError
from tautomer.graph import wire
from tautomer.graph.collector import without_collector
from tautomer.graph.naming import printable
from tautomer.graph.publish import staging
from tautomer.graph.reader import SOURCE, external_locations
from tautomer.graph.targets import check_target, same_file
from tautomer.graph.weights import (
    DataLayout,
    placeholder,
    replaced,
    survey,
    tensors_of,
    write_values,
)

LARGEST_FILE = 1_900_000_000
"""Weights beyond this many bytes go to a data file; protobuf ends at 2 GiB, names and attributes included."""

_WORTH_MOVING = 1024


def write_model(model: ir.Model, out: str | os.PathLike[str], *, force: bool = False) -> None:
    """Writes the model to the file, and its weights beside it where they do not fit or were not inside.

    Args:
        model: the model; the same after the call as before.
        out: the .onnx file.
        force: overwrite an existing file.

    Raises:
        InputError: the file exists, or is the model's source or one of its data files.
        ResourceError: the disk is full, or the folder is missing or not writable.
    """
    out = Path(out)
    values, attributes = survey(model)
    tensors = [value.const_value for value in values if value.const_value is not None]
    outside = [tensor for tensor in tensors if isinstance(tensor, ir.ExternalTensor)]
    large = sum(tensor.nbytes for tensor in tensors) > LARGEST_FILE
    sources = [Path(tensor.path) for tensor in outside]
    sources += [
        Path(t.path) for _, a in attributes for t in tensors_of(a) if isinstance(t, ir.ExternalTensor)
    ]
    if SOURCE in model.meta:
        sources.insert(0, Path(model.meta[SOURCE]))
    check_target(out, sources, force=force)
    if outside or attributes or large:
        data = out.with_name(out.name + ".data")
        check_target(data, sources, force=force)
        with without_collector():
            _write_apart(model, out, data, values, attributes)
    else:
        with without_collector():
            _write_inline(model, out)


def copy_model(source: str | os.PathLike[str], out: str | os.PathLike[str], *, force: bool = False) -> None:
    """Copies a model file and its external data, byte for byte.

    The data files keep their names relative to the model. One that is in the new folder already must hold the
    same bytes: its name was chosen by the model file, and even `force` speaks of `out` only.

    Raises:
        BadModelError: the source is not a model, or its external data is not acceptable.
        InputError: the target exists, or is the source.
        ResourceError: the disk is full, or a folder is missing or not writable.
    """
    source, out = Path(source), Path(out)
    locations = external_locations(source)
    files = [source.parent / location for location in locations]
    check_target(out, [source, *files], force=force)
    with staging(out) as stage:
        for location, file in zip(locations, files, strict=True):
            target = out.parent / location
            if target.exists():
                if not same_file(file, target) and not _same_bytes(file, target):
                    raise InputError(
                        "exists, and the model's external data has this name",
                        where=printable(str(target), 400),
                        remedy="choose another folder for the output, or remove the file",
                    )
                continue
            if any(part.startswith(".") and part != "." for part in Path(location).parts):
                raise InputError(
                    "a model file may not create hidden files",
                    where=printable(str(target), 400),
                    remedy="copy the model and its data by hand",
                )
            target.parent.mkdir(parents=True, exist_ok=True)
            _copy(file, target, stage.open(target).fileno())
        _copy(source, out, stage.open(out).fileno())


def _write_inline(model: ir.Model, out: Path) -> None:
    """One file: the model without its graph, the graph without its weights, the weights."""

    def stand_in(tensor: ir.TensorProtocol) -> ir.TensorProtocol | None:
        """Leaves what is small or is not stored as raw data, to keep it in the form that it has."""
        raw = getattr(tensor, "raw", None)
        typed = isinstance(raw, onnx.TensorProto) and not raw.HasField("raw_data")
        small = tensor.nbytes < wire.WORTH_CUTTING
        return None if small or typed or tensor.dtype == ir.DataType.STRING else placeholder(tensor)

    with replaced(model.graph.initializers.values(), (), stand_in) as weights:
        proto = _message(model, out)
    pieces: list[tuple[bytes, ir.TensorProtocol | None]] = []
    size = 0
    remaining = iter(weights)
    for tensor in proto.graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            weight = next(remaining)
            tensor.ClearField("data_location")
            tensor.ClearField("external_data")
            pieces.append((wire.initializer(_bytes(tensor, out), weight.nbytes), weight))
            size += weight.nbytes
        else:
            pieces.append((wire.small_initializer(_bytes(tensor, out)), None))
        size += len(pieces[-1][0])
    del proto.graph.initializer[:]
    graph = _bytes(proto.graph, out)
    proto.ClearField("graph")
    head = _bytes(proto, out) + wire.graph_field(len(graph) + size) + graph
    if len(head) + size >= 1 << 31:
        raise _too_large(out)
    with staging(out) as stage:
        file = stage.open(out)
        file.write(head)
        for header, source in pieces:
            file.write(header)
            if source is not None:
                write_values(source, file)


def _write_apart(
    model: ir.Model, out: Path, data: Path, values: list[ir.Value], attributes: list[tuple[ir.Node, ir.Attr]]
) -> None:
    """Two files: the weights, then the graph that points to them."""
    layout = DataLayout(data.name)

    def stand_in(tensor: ir.TensorProtocol) -> ir.TensorProtocol | None:
        if isinstance(tensor, ir.ExternalTensor):
            return layout.place(tensor)
        return (
            layout.place(tensor)
            if tensor.nbytes >= _WORTH_MOVING and tensor.dtype != ir.DataType.STRING
            else None
        )

    with replaced(values, attributes, stand_in):
        content = _bytes(_message(model, out), out)
    with staging(out) as stage:
        layout.write(stage.open(data))
        stage.open(out).write(content)


def _message(model: ir.Model, out: Path) -> onnx.ModelProto:
    """The model as a message."""
    try:
        return ir.serde.serialize_model(model)
    except ir.serde.SerdeError as error:
        root: BaseException = error
        while root.__cause__ is not None:
            root = root.__cause__
        raise BadModelError(
            f"the model cannot be written ({printable(str(root), 300)})",
            where=printable(str(out), 400),
            remedy="a text in it is not valid UTF-8, or a weight is damaged: export it again",
        ) from error


def _bytes(message: onnx.ModelProto | onnx.GraphProto | onnx.TensorProto, out: Path) -> bytes:
    try:
        content: bytes = message.SerializeToString(deterministic=True)
    except (EncodeError, ValueError) as error:
        raise _too_large(out) from error
    return content


def _too_large(out: Path) -> ResourceError:
    return ResourceError(
        "the graph without its weights is larger than 2 GiB, which protobuf cannot hold",
        where=printable(str(out), 400),
        remedy="store large constants as initializers",
    )


def _copy(source: Path, target: Path, descriptor: int) -> None:
    with source.open("rb") as file, os.fdopen(os.dup(descriptor), "wb") as copy:
        shutil.copyfileobj(file, copy, 1 << 24)


def _same_bytes(one: Path, other: Path) -> bool:
    if one.stat().st_size != other.stat().st_size:
        return False
    with one.open("rb") as first, other.open("rb") as second:
        while block := first.read(1 << 24):
            if block != second.read(1 << 24):
                return False
    return True
