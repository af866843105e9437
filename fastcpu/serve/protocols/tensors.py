"""Tensors of the Open Inference Protocol on the wire: lists in JSON, or bytes behind the JSON (binary tensor data)."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt
import orjson
from msgspec import UNSET, Meta, Raw, UnsetType

from fastcpu.serve.operation import JSON, Reply, decode
from fastcpu.serve.problems import Problem, invalid

LENGTH_HEADER = b"inference-header-content-length"
"""How many bytes of a body are JSON; without it, all are."""
BINARY = b"application/octet-stream"

IntArray = npt.NDArray[np.integer[Any]]
Values = npt.NDArray[np.generic] | Sequence[str]
"""Of an output: numbers, or the texts of a BYTES tensor."""
Datatype = Literal[
    "BOOL",
    "INT8",
    "INT16",
    "INT32",
    "INT64",
    "UINT8",
    "UINT16",
    "UINT32",
    "UINT64",
    "FP16",
    "BF16",
    "FP32",
    "FP64",
    "BYTES",
]

INTEGERS: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.uint8),  # a byte of 0 or 1
    "INT8": np.dtype("i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "UINT8": np.dtype("u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
}
"""The datatypes of inputs that are numbers, and their bytes."""
_OUTPUTS = {np.dtype(np.float32): "FP32", np.dtype(np.int64): "INT64"}

_LENGTH = struct.Struct("<I")  # before each element of a BYTES tensor
_DATA = {
    "description": "the elements in row-major order, flat or as nested lists",
    "type": "array",
    "items": {},
}
Size = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Number = Annotated[int, Meta(ge=0, le=2**53)]


class InputParameters(msgspec.Struct, kw_only=True):
    """Of an input.

    Attributes:
        binary_data_size: how many of the bytes behind the JSON are its data.
        shared_memory_region: is refused.
    """

    binary_data_size: Number | None = None
    shared_memory_region: str | None = None


class InputTensor(msgspec.Struct, kw_only=True):
    """An input: its data are here, or behind the JSON."""

    name: str
    shape: Annotated[list[Size], Meta(max_length=8)]
    datatype: Datatype
    parameters: InputParameters | None = None
    data: Annotated[Raw | UnsetType, Meta(extra_json_schema=_DATA)] = UNSET


@dataclass(frozen=True)
class Input:
    """An input with its data.

    Attributes:
        name: of the model's input.
        shape: sizes of its axes; nothing is known of their product.
        datatype: of the protocol.
        content: the data: JSON, or bytes.
        binary: which of them.
    """

    name: str
    shape: tuple[int, ...]
    datatype: Datatype
    content: memoryview
    binary: bool


def split(body: bytes, given: bytes | None) -> tuple[bytes, memoryview]:
    """The JSON of a body and the bytes behind it; `given` is the header that says where they begin."""
    if given is None:
        return body, memoryview(b"")
    if not given.isdigit() or len(given) > 12 or not 0 < int(given) <= len(body):
        raise invalid(
            f"Inference-Header-Content-Length must be the length of the JSON, from 1 to the {len(body)} bytes of the "
            f"unpacked body, not {given.decode('latin-1')!r:.40}",
            "Inference-Header-Content-Length",
        )
    end = int(given)
    return body[:end], memoryview(body)[end:]


def assigned(tensors: Sequence[InputTensor], rest: memoryview) -> dict[str, Input]:
    """Each input with its data, by name; `rest` is what stands behind the JSON. Problem unless it is used exactly."""
    found: dict[str, Input] = {}
    place = 0
    for tensor in tensors:
        parameters = tensor.parameters
        size = None if parameters is None else parameters.binary_data_size
        if parameters is not None and parameters.shared_memory_region is not None:
            raise wrong(tensor.name, "shared memory is not supported; send the data")
        if tensor.name in found:
            raise wrong(tensor.name, "is there twice")
        if size is None:
            if tensor.data is UNSET:
                raise wrong(tensor.name, "has neither data nor binary_data_size")
            content = memoryview(tensor.data)
        else:
            if tensor.data is not UNSET:
                raise wrong(tensor.name, "has both data and binary_data_size")
            content = rest[place : place + size]
            place += size
            if place > len(rest):
                raise wrong(tensor.name, f"binary_data_size {size} is more than the {len(content)} bytes that are left")
        found[tensor.name] = Input(tensor.name, tuple(tensor.shape), tensor.datatype, content, size is not None)
    if place != len(rest):
        raise invalid(f"{len(rest)} bytes stand behind the JSON, but the inputs have {place} by binary_data_size")
    return found


def wrong(name: str, message: str) -> Problem:
    """What is wrong with an input."""
    return invalid(f"input {name!r:.100}: {message}", "inputs")


def integers(given: Input) -> IntArray:
    """The elements of a tensor of integers or truth values, in its shape; a view of the body where that is possible."""
    kind = INTEGERS.get(given.datatype)
    if kind is None:
        raise wrong(given.name, f"datatype {given.datatype} is none of {', '.join(INTEGERS)}")
    if given.binary:
        _check_size(given, len(given.content), kind.itemsize)
        values: IntArray = np.frombuffer(given.content, kind)
        if given.datatype == "BOOL" and len(values) and values.max() > 1:
            raise wrong(given.name, "BOOL elements must be bytes of 0 or 1")
    else:
        values = _converted(given, _listed(given, bool if given.datatype == "BOOL" else int), kind)
    return values.reshape(given.shape)


def _converted(given: Input, listed: list[Any], kind: np.dtype[Any]) -> IntArray:
    """JSON numbers in their type; Problem for those that it cannot hold."""
    least, most = int(np.iinfo(kind).min), int(np.iinfo(kind).max)
    if listed and not (least <= min(listed) and max(listed) <= most):
        raise wrong(given.name, f"an element is no {given.datatype}: those are from {least} to {most}")
    values: IntArray = np.array(listed, kind)
    return values


def texts(given: Input) -> list[str]:
    """The elements of a BYTES tensor, which must be UTF-8."""
    if given.datatype != "BYTES":
        raise wrong(given.name, f"datatype {given.datatype} must be BYTES")
    if not given.binary:
        return _listed(given, str)
    content, count = given.content, math.prod(given.shape)
    found: list[str] = []
    place, size = 0, len(content)
    for number in range(count):
        begin = place + _LENGTH.size
        if begin > size:
            raise wrong(given.name, f"the data end before element {number} of {count}")
        place = begin + _LENGTH.unpack_from(content, place)[0]
        if place > size:
            raise wrong(given.name, f"element {number} is longer than the data")
        try:
            found.append(str(content[begin:place], "utf-8"))
        except UnicodeDecodeError as error:
            raise wrong(given.name, f"element {number} is not UTF-8: {error.reason}") from error
    if place != size:
        raise wrong(given.name, f"{size - place} bytes are left after {count} elements")
    return found


def _check_size(given: Input, size: int, itemsize: int) -> None:
    count = math.prod(given.shape)
    if count * itemsize != size:
        raise wrong(
            given.name,
            f"shape {_shown(given.shape)} of {given.datatype} has {count * itemsize} bytes, but the data have {size}",
        )


def _listed(given: Input, kind: type) -> list[Any]:
    """The elements of JSON data, flat; Problem unless they are of a type and as many as the shape has."""
    content = bytes(given.content)
    nested = len(given.shape) == 2 and content[1:].lstrip()[:1] == b"["
    expected: Any = list[list[kind]] if nested else list[kind]  # type: ignore[valid-type]
    try:
        listed: list[Any] = decode(content, expected)
    except Problem as problem:
        raise wrong(given.name, f"data: {problem.message}") from problem
    if nested:
        rows, columns = given.shape
        if len(listed) != rows or any(len(row) != columns for row in listed):
            raise wrong(given.name, f"the lists of data have not the shape {_shown(given.shape)}")
        return [each for row in listed for each in row]
    count = math.prod(given.shape)
    if len(listed) != count:
        raise wrong(given.name, f"shape {_shown(given.shape)} has {count} elements, but data has {len(listed)}")
    return listed


def _shown(shape: Iterable[int]) -> str:
    return f"[{', '.join(map(str, shape))}]"


@dataclass(frozen=True)
class Output:
    """An output to send.

    Attributes:
        name: of the model's output.
        shape: sizes of its axes.
        values: numbers in that shape or another of as many elements, C-contiguous; or texts.
        binary: whether they stand behind the JSON.
    """

    name: str
    shape: Sequence[int]
    values: Values
    binary: bool


def reply(head: Mapping[str, Any], outputs: Sequence[Output]) -> Reply:
    """The answer with these outputs; `head` is what else its JSON has."""
    described = []
    parts: list[Any] = [b""]  # the JSON, when it is there
    for output in outputs:
        values = output.values
        found: dict[str, Any] = {"name": output.name, "datatype": _datatype(values), "shape": list(output.shape)}
        if output.binary:
            content = values.data.cast("B") if isinstance(values, np.ndarray) else _packed(values)
            found["parameters"] = {"binary_data_size": len(content)}
            parts.append(content)
        else:
            found["data"] = values.ravel() if isinstance(values, np.ndarray) else values
        described.append(found)
    parts[0] = orjson.dumps({**head, "outputs": described}, option=orjson.OPT_SERIALIZE_NUMPY)
    if len(parts) == 1:
        return Reply(parts[0], 200, JSON)
    length = str(len(parts[0])).encode()
    return Reply(b"".join(parts), 200, BINARY, ((LENGTH_HEADER, length),))


def _datatype(values: Values) -> str:
    return _OUTPUTS[values.dtype] if isinstance(values, np.ndarray) else "BYTES"


def _packed(values: Sequence[str]) -> bytes:
    """Texts as a BYTES tensor."""
    encoded = [text.encode() for text in values]
    return b"".join(part for each in encoded for part in (_LENGTH.pack(len(each)), each))
