"""The embeddings API of OpenAI, and its list of models."""

from __future__ import annotations

import base64
from typing import Annotated, Any, Literal

import msgspec
import numpy as np

from fastcpu.serve.operation import Call, Operation, Protocol, Reply, json_reply
from fastcpu.serve.problems import Problem, invalid
from fastcpu.serve.serving import Serving, task_of
from fastcpu.tasks.embed import Embedder
from fastcpu.tasks.tokenizer import Encoded

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


class EmbeddingRequest(msgspec.Struct, kw_only=True):
    """Body of POST /v1/embeddings.

    Attributes:
        input: a text, texts, the token ids of a text (special tokens included), or lists of them.
        model: which one.
        encoding_format: numbers, or the bytes of little-endian float32 in base64.
        dimensions: how many of the first components to keep; the vector is normalized again.
        user: is not used.
    """

    input: Annotated[str | list[str | int | list[int]], msgspec.Meta(extra_json_schema=_INPUT)]
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


_KINDS = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}


def _error(problem: Problem) -> Any:
    kind = _KINDS.get(problem.status, "invalid_request_error" if problem.status < 500 else "server_error")
    return {"error": {"message": problem.message, "type": kind, "param": problem.param, "code": problem.code}}


PROTOCOL = Protocol("OpenAI", _error, Error)


async def _embeddings(serving: Serving, call: Call) -> Reply:
    request: EmbeddingRequest = call.request
    model = serving.repository.find(request.model)
    task: Embedder = task_of(model, "embed")
    size = request.dimensions
    if size is not None and size > task.channels:
        raise invalid(f"dimensions: the vectors have {task.channels}, not {size}", "dimensions")
    inputs: list[Any] = [request.input] if isinstance(request.input, str) else request.input
    if inputs and all(isinstance(each, int) for each in inputs):
        inputs = [inputs]
    serving.check_inputs(inputs, "input")
    if all(isinstance(each, str) for each in inputs):
        if not all(inputs):
            raise invalid("input: an empty string cannot be embedded", "input")
        vectors = await serving.infer_texts(call, model, "embed", inputs, task.prepare)
    elif all(isinstance(each, list) for each in inputs):
        sequences = [_tokens(task, each, number) for number, each in enumerate(inputs)]
        vectors = await serving.infer(call, model, 0, lambda: task.prepare_tokens(sequences))
    else:
        raise invalid("input must be a text, texts, token ids, or lists of token ids, and no mixture", "input")
    if size is not None:
        vectors = [_shortened(vector, size) for vector in vectors]
    encode = _base64 if request.encoding_format == "base64" else _same
    data = [
        {"object": "embedding", "embedding": encode(vector), "index": index} for index, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": call.tokens, "total_tokens": call.tokens}
    return json_reply({"object": "list", "data": data, "model": model.name, "usage": usage})


def _tokens(task: Embedder, ids: Any, number: int) -> Encoded:
    """Token ids of a client; Problem if the model does not take them."""
    tokenizer = task.tokenizer
    if not all(isinstance(each, int) for each in ids):
        raise invalid(f"input {number} is no list of token ids", "input")
    if not 0 < len(ids) <= tokenizer.max_length:
        raise invalid(f"input {number} has {len(ids)} tokens; there must be 1 to {tokenizer.max_length}", "input")
    if not all(0 <= each < tokenizer.size for each in ids):
        raise invalid(f"input {number} has token ids that are not below {tokenizer.size}", "input")
    array = np.array(ids, np.int64)
    return Encoded(array, np.zeros_like(array))


def _shortened(vector: Any, size: int) -> Any:
    """The first components of a vector, normalized again, as for models trained with Matryoshka losses."""
    part = vector[:size]
    return part / max(float(np.sqrt((part * part).sum())), 1e-12)


def _base64(vector: Any) -> str:
    return base64.b64encode(np.ascontiguousarray(vector, "<f4").tobytes()).decode()


def _same(vector: Any) -> Any:
    return np.ascontiguousarray(vector)


def _card(model: Any) -> dict[str, Any]:
    return {"id": model.name, "object": "model", "created": int(model.loaded), "owned_by": "fastcpu"}


async def _models(serving: Serving, call: Call) -> Reply:
    return json_reply({"object": "list", "data": [_card(model) for model in serving.repository.models()]})


async def _model(serving: Serving, call: Call) -> Reply:
    return json_reply(_card(serving.repository.find(call.parameters["model"])))


OPERATIONS = (
    Operation(
        "POST",
        "/v1/embeddings",
        _embeddings,
        PROTOCOL,
        "Sentence embeddings of texts or token ids",
        request=EmbeddingRequest,
        response=EmbeddingResponse,
        statuses=(404, 429, 503, 504),
    ),
    Operation("GET", "/v1/models", _models, PROTOCOL, "The models that answer", response=ModelList, light=True),
    Operation(
        "GET",
        "/v1/models/{model:path}",
        _model,
        PROTOCOL,
        "One model",
        response=ModelCard,
        statuses=(404, 503),
        light=True,
    ),
)
