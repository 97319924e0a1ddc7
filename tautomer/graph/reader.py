"""Reads a model: a file, bytes or a message becomes an onnx_ir.Model, or is refused with a reason.

Model files are untrusted input. No native code but protobuf's parser (upb, memory safe) sees them; onnx's
C++ checker and shape inference, which can crash on hostile graphs, are not called. What comes out satisfies:
every name resolves, nothing is made twice, nodes stand in topological order, every tensor is as long as its
shape says, external data lies in regular files below the model's folder.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from tautomer.errors import BadModelError, InputError, ResourceError
from tautomer.graph import wire
from tautomer.graph.collector import without_collector
from tautomer.graph.contents import check_inline
from tautomer.graph.external_data import DataFiles
from tautomer.graph.guard import check_structure
from tautomer.graph.naming import printable
from tautomer.graph.source import WORTH_MAPPING, content, not_a_model
from tautomer.graph.versions import check_versions

SOURCE = "tautomer.source"
"""The key of Model.meta under which the absolute path of the model file stands."""


def as_model(source: str | os.PathLike[str] | onnx.ModelProto | ir.Model) -> ir.Model:
    """The model that is meant: a path is read, a message copied and checked, a Model taken as it is.

    Raises:
        InputError: it is none of them.
        BadModelError: as `read_model`.
    """
    if isinstance(source, ir.Model):
        return source
    if isinstance(source, onnx.ModelProto):
        own = onnx.ModelProto()
        own.CopyFrom(source)  # onnx-ir keeps and edits parts of the message that it is given
        return _built(own, [], DataFiles(None), "the model")
    if not isinstance(source, (str, os.PathLike)):
        raise InputError(
            f"this is no model, but of type {type(source).__name__}",
            remedy="give a path, an onnx.ModelProto, an onnx_ir.Model or a torch module",
        )
    return read_model(source)


def read_model(path: str | os.PathLike[str]) -> ir.Model:
    """Reads a model file.

    The weights of a large model are mapped, not copied, whether they lie inside the model file or beside it:
    do not change the files while the model is in use (replacing them, as Tautomer's writer does, is fine).

    Raises:
        BadModelError: the file is missing, damaged, hostile or newer than the installed onnx.
        ResourceError: there is not enough memory.
    """
    path = Path(path)
    model = _parsed_and_built(content(path), DataFiles(path.absolute().parent), printable(str(path), 400))
    model.meta[SOURCE] = str(path.absolute())
    return model


def read_bytes(data: bytes) -> ir.Model:
    """Reads a serialized model, which cannot have external data."""
    return _parsed_and_built(memoryview(data), DataFiles(None), "the model")


def external_locations(path: str | os.PathLike[str]) -> list[str]:
    """The files beside the model that its tensors name, each checked, in order of first use."""
    return list(_data_files(Path(path)).sizes)


def size_of(path: str | os.PathLike[str]) -> int:
    """How many bytes the model takes on disk, its external data included."""
    return Path(path).stat().st_size + sum(_data_files(Path(path)).sizes.values())


def _data_files(path: Path) -> DataFiles:
    files = DataFiles(path.absolute().parent)
    proto, payloads = _parsed(content(path), printable(str(path), 400))
    with _refusing(printable(str(path), 400)):
        _check(proto, payloads, files)
    return files


def _parsed_and_built(data: memoryview, files: DataFiles, shown: str) -> ir.Model:
    proto, payloads = _parsed(data, shown)
    return _built(proto, payloads, files, shown)


def _parsed(data: memoryview, shown: str) -> tuple[onnx.ModelProto, list[memoryview | None]]:
    """The message, and what was cut out of the initializers of its main graph."""
    split = wire.split(data) if len(data) >= WORTH_MAPPING else None
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(split.skeleton if split else bytes(data))
    except DecodeError as error:
        raise not_a_model(data, shown) from error
    if not proto.HasField("graph"):
        raise not_a_model(data, shown)
    return proto, split.payloads if split else []


def _built(
    proto: onnx.ModelProto, payloads: list[memoryview | None], files: DataFiles, shown: str
) -> ir.Model:
    """The checked model."""
    with _refusing(shown), without_collector():
        unsorted, annotated = _check(proto, payloads, files)
        model = ir.serde.deserialize_model(proto)
        _attach(model, proto, payloads)
        for tensor in annotated:
            del tensor.metadata_props[:]  # onnx-ir has read them, and would write them twice
        for graph in [model.graph, *(function.graph for function in model.functions.values())]:
            if "ai.onnx" in graph.opset_imports:
                graph.opset_imports.setdefault("", graph.opset_imports.pop("ai.onnx"))
            if unsorted:
                graph.sort()
        if files.sizes and files.folder is not None:
            _place(model, files.folder)
    return model


def _place(model: ir.Model, folder: Path) -> None:
    """Tells every external tensor where the model lies; ir.load forgets those in functions."""
    ir.external_data.set_base_dir(model.graph, folder)
    for function in model.functions.values():
        ir.external_data.set_base_dir(function.graph, folder)


def _check(
    proto: onnx.ModelProto, payloads: list[memoryview | None], files: DataFiles
) -> tuple[bool, list[onnx.TensorProto]]:
    """Refuses a bad model; says whether its nodes are out of order, and which tensors carry metadata."""
    check_versions(proto)
    findings = check_structure(proto)
    cut_out = payloads or [None] * len(proto.graph.initializer)
    tensors = [
        (tensor, f"tensor {printable(tensor.name)}", None if payload is None else len(payload))
        for tensor, payload in zip(proto.graph.initializer, cut_out, strict=True)
    ]
    annotated = []
    for tensor, where, length in [*tensors, *((tensor, where, None) for tensor, where in findings.tensors)]:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            files.check(tensor, where)
        else:
            check_inline(tensor, where, length)
        if tensor.metadata_props:
            annotated.append(tensor)
    return findings.unsorted, annotated


def _attach(model: ir.Model, proto: onnx.ModelProto, payloads: list[memoryview | None]) -> None:
    """Gives the initializers the bytes that were cut out, without a copy."""
    for tensor, payload in zip(proto.graph.initializer, payloads, strict=bool(payloads)):
        if payload is None or tensor.data_location == onnx.TensorProto.EXTERNAL:
            continue
        kind = ir.DataType(tensor.data_type)
        if kind.bitwidth < 8:
            tensor.raw_data = bytes(payload)
            continue
        value = model.graph.initializers[tensor.name]
        array = np.frombuffer(payload, dtype=kind.numpy().newbyteorder("<")).reshape(tensor.dims)
        value.const_value = ir.Tensor(
            array,
            dtype=kind,
            name=tensor.name,
            doc_string=tensor.doc_string or None,
            metadata_props={entry.key: entry.value for entry in tensor.metadata_props} or None,
        )


@contextmanager
def _refusing(shown: str) -> Iterator[None]:
    """Turns whatever a damaged message provokes into a refusal that names the file."""
    try:
        yield
    except BadModelError as error:
        where = f"{shown}: {error.where}" if error.where else shown
        raise BadModelError(error.what, where=where, remedy=error.remedy) from error.__cause__
    except MemoryError as error:
        raise ResourceError(
            "not enough memory to read the model", where=shown, remedy="free some memory"
        ) from error
    except (
        ir.serde.SerdeError,
        UnicodeDecodeError,
        ValueError,
        TypeError,
        KeyError,
        NotImplementedError,
    ) as error:
        root: BaseException = error
        while root.__cause__ is not None:
            root = root.__cause__
        raise BadModelError(
            f"the model cannot be read ({printable(str(root), 300)})",
            where=shown,
            remedy="export the model again",
        ) from error
