"""Reranking as Cohere and Jina offer it."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from fastcpu.serve.operation import Call, Operation, Reply, json_reply
from fastcpu.serve.protocols.openai import PROTOCOL as ERRORS
from fastcpu.serve.serving import Serving, task_of
from fastcpu.tasks.labels import sigmoid
from fastcpu.tasks.rerank import Reranker

PROTOCOL = ERRORS


class Document(msgspec.Struct):
    """A document as an object."""

    text: str


class RerankRequest(msgspec.Struct, kw_only=True):
    """Body of POST /v1/rerank.

    Attributes:
        query: what is looked for.
        documents: texts, or objects with a text.
        model: which one; not needed where there is one.
        top_n: how many to return, by default all.
        return_documents: whether the answer repeats the texts.
    """

    query: str
    documents: Annotated[list[str | Document], msgspec.Meta(min_length=1)]
    model: str | None = None
    top_n: Annotated[int, msgspec.Meta(ge=1)] | None = None
    return_documents: bool = False


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

    id: str
    model: str
    results: list[Ranked]
    usage: Usage


async def _rerank(serving: Serving, call: Call) -> Reply:
    request: RerankRequest = call.request
    model = serving.repository.find(request.model)
    task: Reranker = task_of(model, "rerank")
    serving.check_inputs(request.documents, "documents")
    texts = [each if isinstance(each, str) else each.text for each in request.documents]
    scores = await score(serving, call, model, task, request.query, texts)
    order = sorted(range(len(texts)), key=lambda index: -scores[index])[: request.top_n]
    results: list[dict[str, Any]] = [{"index": index, "relevance_score": scores[index]} for index in order]
    if request.return_documents:
        for result in results:
            result["document"] = {"text": texts[result["index"]]}
    return json_reply({"id": call.id, "model": model.name, "results": results, "usage": {"total_tokens": call.tokens}})


async def score(
    serving: Serving, call: Call, model: Any, task: Reranker, query: str, texts: list[str], raw: bool = False
) -> list[float]:
    """The relevance of texts for a query: 0 to 1, or with `raw` the logits."""
    import numpy as np

    pairs = [(query, text) for text in texts]
    logits = np.array(await serving.infer_texts(call, model, "rerank", pairs, task.prepare_scores), np.float32)
    found: list[float] = (logits if raw else sigmoid(logits)).tolist()
    return found


OPERATIONS = tuple(
    Operation(
        "POST",
        path,
        _rerank,
        PROTOCOL,
        "Sorts documents by their relevance for a query",
        request=RerankRequest,
        response=RerankResponse,
        statuses=(404, 429, 503, 504),
    )
    for path in ("/v1/rerank", "/v2/rerank")
)
