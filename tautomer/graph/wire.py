"""Large weights lie in a model file as plain bytes: find them there instead of copying them out.

A protobuf parser copies every byte that it reads, and again whenever Python looks at a `raw_data` field. Here
the wire format (tag, length, payload) of ModelProto -> graph -> initializer -> raw_data is walked, the
payloads of large initializers are cut out, and only what is left goes through the parser. Anything unexpected
means "not split": then the parser sees the whole file and is the judge of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

_MODEL_GRAPH = 7
_GRAPH_INITIALIZER = 5
_TENSOR_RAW_DATA = 9
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

WORTH_CUTTING = 4096


@dataclass(frozen=True)
class Split:
    """A model file without its large weights.

    Attributes:
        skeleton: the model as protobuf, the large `raw_data` fields left out.
        payloads: one entry per initializer of the main graph, in order: what was cut out of it, or None.
    """

    skeleton: bytes
    payloads: list[memoryview | None]


class _Unexpected(Exception):
    """Bytes that this small reader does not expect."""


def varint(number: int) -> bytes:
    """The number in protobuf's base-128 form."""
    encoded = bytearray()
    while number > 127:
        encoded.append(number & 127 | 128)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def key(field: int) -> bytes:
    """The tag of a length-delimited field."""
    return varint(field << 3 | _BYTES)


def initializer(header: bytes, size: int) -> bytes:
    """What stands before the payload of an initializer in a GraphProto.

    Args:
        header: the TensorProto without its `raw_data`.
        size: the length of the `raw_data` that follows.
    """
    data = key(_TENSOR_RAW_DATA) + varint(size)
    return key(_GRAPH_INITIALIZER) + varint(len(header) + len(data) + size) + header + data


def small_initializer(tensor: bytes) -> bytes:
    """A whole TensorProto as an initializer of a GraphProto."""
    return key(_GRAPH_INITIALIZER) + varint(len(tensor)) + tensor


def graph_field(size: int) -> bytes:
    """What stands before a GraphProto of this length in a ModelProto."""
    return key(_MODEL_GRAPH) + varint(size)


def split(view: memoryview) -> Split | None:
    """Cuts the large weights out, or says that it cannot (None)."""
    pieces: list[memoryview | bytes] = []
    payloads: list[memoryview | None] = []
    kept = 0
    try:
        for field, kind, start, body, end in _fields(view, 0, len(view)):
            if field == _MODEL_GRAPH and kind == _BYTES:
                graph = _without_weights(view, body, end, payloads)
                pieces += [view[kept:start], graph_field(sum(map(len, graph))), *graph]
                kept = end
    except _Unexpected:
        return None
    pieces.append(view[kept:])
    return Split(b"".join(pieces), payloads)


def _without_weights(
    view: memoryview, begin: int, end: int, payloads: list[memoryview | None]
) -> list[memoryview | bytes]:
    """The pieces of one GraphProto, its large payloads moved to the list."""
    pieces: list[memoryview | bytes] = []
    kept = begin
    for field, kind, start, body, stop in _fields(view, begin, end):
        if field != _GRAPH_INITIALIZER or kind != _BYTES:
            continue
        payloads.append(None)
        if stop - body < WORTH_CUTTING:
            continue
        tensor, kept_in_tensor = [], body
        for inner, inner_kind, inner_start, inner_body, inner_end in _fields(view, body, stop):
            if inner == _TENSOR_RAW_DATA and inner_kind == _BYTES and inner_end - inner_body >= WORTH_CUTTING:
                if payloads[-1] is not None:
                    raise _Unexpected  # two payloads in one tensor
                payloads[-1] = view[inner_body:inner_end]
                tensor.append(view[kept_in_tensor:inner_start])
                kept_in_tensor = inner_end
        tensor.append(view[kept_in_tensor:stop])
        pieces += [view[kept:start], key(_GRAPH_INITIALIZER) + varint(sum(map(len, tensor))), *tensor]
        kept = stop
    pieces.append(view[kept:end])
    return pieces


def _fields(view: memoryview, at: int, end: int) -> Iterator[tuple[int, int, int, int, int]]:
    """Yields number, wire type, start, start of the payload and end of each field of a message."""
    while at < end:
        start = at
        tag, at = _number(view, at, end)
        kind = tag & 7
        body = at
        if kind == _BYTES:
            length, body = _number(view, at, end)
            at = body + length
        elif kind == _VARINT:
            _, at = _number(view, at, end)
        elif kind == _FIXED32:
            at += 4
        elif kind == _FIXED64:
            at += 8
        else:
            raise _Unexpected
        if at > end:
            raise _Unexpected
        yield tag >> 3, kind, start, body, at


def _number(view: memoryview, at: int, end: int) -> tuple[int, int]:
    """A varint and the position after it."""
    number = shift = 0
    while at < end and shift < 70:
        byte = view[at]
        at += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, at
        shift += 7
    raise _Unexpected
