"""What requests and answers of the Open Inference Protocol have in their JSON."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from fastcpu.serve.protocols.tensors import InputTensor, Number


class OutputParameters(msgspec.Struct, kw_only=True):
    """Of an output.

    Attributes:
        binary_data: whether its data stand behind the JSON; by default what binary_data_output says.
        classification, shared_memory_region: are refused.
    """

    binary_data: bool | None = None
    classification: Number = 0
    shared_memory_region: str | None = None


class RequestedOutput(msgspec.Struct, kw_only=True):
    """An output to answer with."""

    name: str
    parameters: OutputParameters = msgspec.field(default_factory=OutputParameters)


class RequestParameters(msgspec.Struct, kw_only=True):
    """Of a request.

    Attributes:
        binary_data_output: whether the data of outputs stand behind the JSON.
        priority: 1 is the most urgent, 8 the least; 0 is the default, or what the header Priority says.
        timeout: microseconds after which the answer is of no use; 0 for none.
        sequence_id: is refused.
    """

    binary_data_output: bool = False
    priority: Number = 0
    timeout: Number = 0
    sequence_id: int | str = 0


class InferRequest(msgspec.Struct, kw_only=True):
    """Body of POST /v2/models/NAME/infer.

    Attributes:
        inputs: token ids with what belongs to them, or texts.
        outputs: what to answer with, by default all there is for such inputs.
        id: is repeated in the answer.
    """

    inputs: Annotated[list[InputTensor], Meta(min_length=1)]
    outputs: list[RequestedOutput] | None = None
    parameters: RequestParameters = msgspec.field(default_factory=RequestParameters)
    id: str | None = None


class TensorParameters(msgspec.Struct, omit_defaults=True):
    """Of an output; without binary_data_size its data are in the JSON."""

    binary_data_size: int | None = None


class OutputTensor(msgspec.Struct, kw_only=True):
    """An output; data are flat, in row-major order."""

    name: str
    datatype: Literal["FP32", "INT64", "BYTES"]
    shape: list[int]
    parameters: TensorParameters | UnsetType = UNSET
    data: list[float | str] | UnsetType = UNSET


class InferResponse(msgspec.Struct, kw_only=True):
    """Answer of POST /v2/models/NAME/infer."""

    model_name: str
    model_version: str
    outputs: list[OutputTensor]
    id: str | UnsetType = UNSET


class TensorMetadata(msgspec.Struct, kw_only=True):
    """An input or output; -1 is any size. Labels name the last axis."""

    name: str
    datatype: str
    shape: list[int]
    labels: list[str] | UnsetType = UNSET


class ModelMetadata(msgspec.Struct, kw_only=True):
    """Answer of GET /v2/models/NAME. Inputs are either token ids or texts, and outputs go with one of them."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class ServerMetadata(msgspec.Struct):
    """Answer of GET /v2."""

    name: str
    version: str
    extensions: list[str]


class Live(msgspec.Struct):
    """Answer of GET /v2/health/live."""

    live: bool


class Ready(msgspec.Struct):
    """Answer of GET /v2/health/ready."""

    ready: bool


class ModelReady(msgspec.Struct):
    """Answer of GET /v2/models/NAME/ready."""

    name: str
    ready: bool


class IndexRequest(msgspec.Struct):
    """Body of POST /v2/repository/index, which may be empty; `ready` leaves out models that do not answer."""

    ready: bool = False


class IndexEntry(msgspec.Struct):
    """A model; `reason` says why the last loading failed."""

    name: str
    version: str
    state: Literal["READY", "LOADING", "UNAVAILABLE"]
    reason: str


class LoadRequest(msgspec.Struct):
    """Body of POST /v2/repository/models/NAME/load, which may be empty; a model is loaded as it is configured."""

    parameters: dict[str, Any] = {}


class UnloadRequest(msgspec.Struct):
    """Body of POST /v2/repository/models/NAME/unload, which may be empty; parameters are not used."""

    parameters: dict[str, Any] = {}


class Error(msgspec.Struct):
    """Body of every error."""

    error: str
