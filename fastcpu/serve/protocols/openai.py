"""The embeddings API of OpenAI, and its list of models."""

from __future__ import annotations

import binascii
from typing import Annotated, Any, Literal

import msgspec

from fastcpu.serve.model import Model
from fastcpu.serve.operation import Call, Operation, Protocol, Reply, has_task, json_reply
from fastcpu.serve.problems import Problem, invalid
from fastcpu.serve.serving import Serving
from fastcpu.serve.texts import embed, listed
from fastcpu.tasks.engine import FloatArray

_INPUT = {
    "anyOf": [
        {"type": "string", "minLength": 1},
        {"type": "array", "minItems": 1, "items": {"type": "string", "minLength": 1}},
        {"type": "array", "minItems": 1, "items": {"type": "integer", "minimum": 0}},
        {
            "type": "array",
            "minItems": 1,
            "items": {"type": "array", "minItems": 1, "items": {"type": "integer", "minimum": 0}},
        },
    ]
}


class EmbeddingRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Body of POST /v1/embeddings.

    Attributes:
        input: a text, texts, the token ids of a text (special tokens included), or lists of them. A text that is longer
            than the model takes is cut; token ids are not.
        model: which one; the answer repeats the name.
        encoding_format: numbers, or the bytes of little-endian float32 in base64.
        dimensions: how many of the first components to keep; the vector is normalized again.
        user: is not used.
    """

    input: Annotated[str | list[str | int | list[int]], msgspec.Meta(extra_json_schema={"x-schema": _INPUT})]
    model: str
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Annotated[int, msgspec.Meta(ge=1)] | None = None
    user: str | None = None


class Embedding(msgspec.Struct):
    """One vector."""

    object: Literal["embedding"]
    embedding: list[float] | str
    index: int


class Usage(msgspec.Struct):
    """Tokens that were computed."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingResponse(msgspec.Struct):
    """Answer of POST /v1/embeddings."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: Usage


class ModelCard(msgspec.Struct):
    """A model."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelList(msgspec.Struct):
    """Answer of GET /v1/models."""

    object: Literal["list"]
    data: list[ModelCard]


class ErrorDetail(msgspec.Struct):
    """What is wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class Error(msgspec.Struct):
    """Body of every error."""

    error: ErrorDetail


def _error(problem: Problem) -> Any:
    kind, code = "invalid_request_error" if problem.status < 500 else "server_error", problem.code
    if problem.status == 429:
        kind, code = "requests", "rate_limit_exceeded"
    return {"error": {"message": problem.message, "type": kind, "param": problem.param, "code": code}}


PROTOCOL = Protocol("OpenAI", _error, Error)


async def _embeddings(serving: Serving, call: Call) -> Reply:
    request: EmbeddingRequest = call.request
    model = serving.repository.find(request.model)
    inputs = listed(request.input)
    most = serving.config.max_inputs
    if not 0 < len(inputs) <= most:
        raise invalid(f"input has {len(inputs)} inputs; there must be 1 to {most}", "input")
    if "" in inputs:
        raise invalid("input: an empty string cannot be embedded", "input")
    vectors = await embed(serving, call, model, inputs, size=request.dimensions)
    encode = _base64 if request.encoding_format == "base64" else _same
    data = [
        {"object": "embedding", "embedding": encode(vector), "index": index} for index, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": call.tokens, "total_tokens": call.tokens}
    return json_reply({"object": "list", "data": data, "model": request.model, "usage": usage})


def _base64(vector: FloatArray) -> str:
    return binascii.b2a_base64(vector.astype("<f4", copy=False).data, newline=False).decode()


def _same(vector: FloatArray) -> FloatArray:
    return vector


def _card(name: str, model: Model) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": int(model.loaded), "owned_by": "fastcpu"}


async def _models(serving: Serving, call: Call) -> Reply:
    cards = [
        _card(name, model) for model in serving.repository.models() for name in (model.name, *model.config.aliases)
    ]
    return json_reply({"object": "list", "data": cards})


async def _model(serving: Serving, call: Call) -> Reply:
    name = call.parameters["model"]
    return json_reply(_card(name, serving.repository.find(name)))


OPERATIONS = (
    *(
        Operation(
            "POST",
            path,
            _embeddings,
            PROTOCOL,
            "Sentence embeddings of texts or token ids",
            request=EmbeddingRequest,
            response=EmbeddingResponse,
            statuses=(404, 504),
            fits=has_task("embed"),
            queued=True,
        )
        for path in ("/v1/embeddings", "/embeddings")
    ),
    Operation(
        "GET",
        "/v1/models",
        _models,
        PROTOCOL,
        "The models that answer, by all their names",
        response=ModelList,
        light=True,
    ),
    Operation(
        "GET",
        "/v1/models/{model:path}",
        _model,
        PROTOCOL,
        "One model",
        response=ModelCard,
        statuses=(503,),
        light=True,
    ),
)
