"""Reranking as Cohere and Jina offer it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from fastcpu.serve.model import Model
from fastcpu.serve.operation import Call, Operation, Protocol, Reply, has_task, json_reply
from fastcpu.serve.problems import Problem, invalid
from fastcpu.serve.serving import Serving, task_of
from fastcpu.serve.texts import best_first, score


class Document(msgspec.Struct):
    """A document as an object; what it has beside the text is not looked at."""

    text: str


class RerankRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Body of POST /v1/rerank.

    Attributes:
        query: what is looked for.
        documents: texts, or objects with a text.
        model: which one; not needed where there is one.
        top_n: how many to return, by default all.
        return_documents: whether the answer repeats the texts.
        max_tokens_per_doc: documents are cut at what the model takes, with the query; they cannot be cut earlier.
        rank_fields: only the text of a document is looked at.
        max_chunks_per_doc: a document is one chunk.
        priority: 0; the header Priority says more.
    """

    query: Annotated[str, msgspec.Meta(extra_json_schema={"minLength": 1})]
    documents: Annotated[list[str | Document], msgspec.Meta(min_length=1)]
    model: str | None = None
    top_n: Annotated[int, msgspec.Meta(ge=1)] | None = None
    return_documents: bool | None = None
    max_tokens_per_doc: Annotated[int, msgspec.Meta(ge=1)] | None = None
    rank_fields: list[Literal["text"]] | None = None
    max_chunks_per_doc: Literal[1] | None = None
    priority: Literal[0] | None = None


class Ranked(msgspec.Struct, omit_defaults=True):
    """A document's place.

    Attributes:
        index: its number in the request.
        relevance_score: 0 to 1, the sigmoid of the model's logit.
        document: itself, if that was asked for.
    """

    index: int
    relevance_score: float
    document: Document | None = None


class Usage(msgspec.Struct):
    """Tokens that were computed."""

    total_tokens: int


class RerankResponse(msgspec.Struct):
    """Answer of POST /v1/rerank; the most relevant document first."""

    object: Literal["list"]
    id: str
    model: str
    results: list[Ranked]
    usage: Usage


class Error(msgspec.Struct):
    """Body of every error."""

    message: str
    code: str
    param: str | None


def _error(problem: Problem) -> Any:
    return {"message": problem.message, "code": problem.code, "param": problem.param}


PROTOCOL = Protocol("Cohere and Jina", _error, Error)


async def _rerank(serving: Serving, call: Call) -> Reply:
    request: RerankRequest = call.request
    model = serving.repository.find(request.model)
    serving.check_inputs(request.documents, "documents")
    _check(request, model)
    texts = [each if isinstance(each, str) else each.text for each in request.documents]
    scores = await score(serving, call, model, request.query, texts)
    results: list[dict[str, Any]] = [
        {"index": index, "relevance_score": scores[index]} for index in best_first(scores)[: request.top_n]
    ]
    if request.return_documents:
        for result in results:
            result["document"] = {"text": texts[result["index"]]}
    return json_reply(
        {
            "object": "list",
            "id": call.id,
            "model": request.model or model.name,
            "results": results,
            "usage": {"total_tokens": call.tokens},
        }
    )


def _check(request: RerankRequest, model: Model) -> None:
    """Problem for what cannot be done."""
    if not request.query.strip():
        raise invalid("query is empty", "query")
    longest = task_of(model, "rerank").tokenizer.max_length
    if request.max_tokens_per_doc is not None and request.max_tokens_per_doc < longest:
        raise invalid(
            f"max_tokens_per_doc: documents can only be cut at the {longest} tokens that the model takes",
            "max_tokens_per_doc",
        )


OPERATIONS = tuple(
    Operation(
        "POST",
        path,
        _rerank,
        PROTOCOL,
        "Sorts documents by their relevance for a query",
        request=RerankRequest,
        response=RerankResponse,
        statuses=(404, 504),
        fits=has_task("rerank"),
        queued=True,
    )
    for path in ("/v1/rerank", "/v2/rerank")
)
