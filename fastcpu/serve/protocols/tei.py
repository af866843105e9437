"""The routes of text-embeddings-inference."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
import numpy as np

import fastcpu
from fastcpu.serve.operation import Call, Operation, Protocol, Reply, json_reply
from fastcpu.serve.problems import Problem, invalid
from fastcpu.serve.protocols.cohere import score
from fastcpu.serve.serving import Serving, task_of
from fastcpu.tasks.classify import Classifier
from fastcpu.tasks.embed import Embedder
from fastcpu.tasks.rerank import Reranker

Side = Literal["Left", "Right", "left", "right"]
_PAIR = {"type": "array", "items": {"type": "string"}, "minItems": 2, "maxItems": 2}
_TEXT = {"type": "string"}
_TEXTS = {"anyOf": [_TEXT, {"type": "array", "minItems": 1, "items": _TEXT}]}
_PREDICT = {
    "anyOf": [
        _TEXT,
        {**_PAIR},
        {
            "type": "array",
            "minItems": 1,
            "items": {"anyOf": [{"type": "array", "items": _TEXT, "minItems": 1, "maxItems": 2}]},
        },
    ]
}
Texts = Annotated[str | list[str], msgspec.Meta(extra_json_schema=_TEXTS)]


class Common(msgspec.Struct, kw_only=True):
    """What requests have in common.

    Attributes:
        truncate: whether to cut texts that are longer than the model takes; without it they are refused.
        truncation_direction: at which end to cut; only the right end can be cut.
        model: which one, where there are several.
    """

    truncate: bool | None = None
    truncation_direction: Side = "Right"
    model: str | None = None


class EmbedRequest(Common, kw_only=True):
    """Body of POST /embed.

    Attributes:
        inputs: a text or texts.
        normalize: whether vectors have length 1.
        dimensions: how many of the first components to keep, before they are normalized.
    """

    inputs: Texts
    normalize: bool = True
    dimensions: Annotated[int, msgspec.Meta(ge=1)] | None = None


class PredictRequest(Common, kw_only=True):
    """Body of POST /predict.

    Attributes:
        inputs: a text, a pair of texts, or a list of lists with one text or two.
        raw_scores: logits instead of probabilities.
    """

    inputs: Annotated[str | list[str | list[str]], msgspec.Meta(extra_json_schema=_PREDICT)]
    raw_scores: bool = False


class RerankRequest(Common, kw_only=True):
    """Body of POST /rerank.

    Attributes:
        query: what is looked for.
        texts: what is sorted.
        raw_scores: logits instead of numbers from 0 to 1.
        return_text: whether the answer repeats the texts.
    """

    query: str
    texts: Annotated[list[str], msgspec.Meta(min_length=1)]
    raw_scores: bool = False
    return_text: bool = False


class SimilarityInputs(msgspec.Struct):
    """A sentence and those it is compared with."""

    source_sentence: str
    sentences: Annotated[list[str], msgspec.Meta(min_length=1)]


class SimilarityRequest(msgspec.Struct, kw_only=True):
    """Body of POST /similarity."""

    inputs: SimilarityInputs
    model: str | None = None


class TokenizeRequest(msgspec.Struct, kw_only=True):
    """Body of POST /tokenize."""

    inputs: Texts
    add_special_tokens: bool = True
    model: str | None = None


class DecodeRequest(msgspec.Struct, kw_only=True):
    """Body of POST /decode.

    Attributes:
        ids: token ids of a text, or lists of them.
        skip_special_tokens: whether the text is without them.
    """

    ids: Annotated[
        list[int | list[int]],
        msgspec.Meta(
            extra_json_schema={
                "type": "array",
                "minItems": 1,
                "items": {
                    "anyOf": [
                        {"type": "integer", "minimum": 0},
                        {"type": "array", "items": {"type": "integer", "minimum": 0}},
                    ]
                },
            }
        ),
    ]
    skip_special_tokens: bool = True
    model: str | None = None


class Prediction(msgspec.Struct):
    """A label and its score."""

    score: float
    label: str


class Rank(msgspec.Struct, omit_defaults=True):
    """A text's place."""

    index: int
    score: float
    text: str | None = None


class Token(msgspec.Struct):
    """A token of a text; `start` and `stop` are characters, none for special tokens."""

    id: int
    text: str
    special: bool
    start: int | None
    stop: int | None


class Info(msgspec.Struct):
    """Answer of GET /info."""

    model_id: str
    model_type: dict[str, Any]
    max_input_length: int
    max_batch_tokens: int
    max_client_batch_size: int
    max_concurrent_requests: int
    auto_truncate: bool
    tokenization_workers: int
    version: str


class Error(msgspec.Struct):
    """Body of every error."""

    error: str
    error_type: str


_KINDS = {401: "Unauthorized", 404: "NotFound", 413: "Validation", 429: "Overloaded", 503: "Unhealthy", 504: "Timeout"}


def _error(problem: Problem) -> Any:
    kind = _KINDS.get(problem.status, "Validation" if problem.status < 500 else "Backend")
    return {"error": problem.message, "error_type": kind}


PROTOCOL = Protocol("text-embeddings-inference", _error, Error, invalid_status=422)


def _listed(serving: Serving, inputs: str | list[str]) -> list[str]:
    texts = [inputs] if isinstance(inputs, str) else inputs
    serving.check_inputs(texts, "inputs")
    return texts


def _check_lengths(task: Any, request: Common, texts: list[Any]) -> None:
    """Problem for a text that would be cut although the request forbids it, or cut at the left end."""
    if request.truncation_direction.lower() == "left":
        raise invalid("truncation_direction: only the right end can be cut", "truncation_direction")
    if request.truncate is not False:
        return
    for number, cut in enumerate(task.tokenizer.cut_off(texts)):
        if len(cut):
            raise invalid(
                f"input {number} has more than {task.tokenizer.max_length} tokens, and truncate is false", "inputs"
            )


async def _embed(serving: Serving, call: Call) -> Reply:
    request: EmbedRequest = call.request
    model = serving.repository.find(request.model)
    task: Embedder = task_of(model, "embed")
    texts = _listed(serving, request.inputs)
    _check_lengths(task, request, texts)
    size = request.dimensions
    if size is not None and size > task.channels:
        raise invalid(f"dimensions: the vectors have {task.channels}, not {size}", "dimensions")
    normalize = request.normalize and size is None
    vectors = await serving.infer_texts(
        call,
        model,
        f"embed {normalize}",
        texts,
        lambda some: task.prepare_tokens(task.tokenizer.encode(some), normalize),
    )
    if size is not None:
        vectors = [vector[:size] for vector in vectors]
        if request.normalize:
            vectors = [vector / max(float(np.sqrt((vector * vector).sum())), 1e-12) for vector in vectors]
    return json_reply([np.ascontiguousarray(vector) for vector in vectors])


async def _embed_all(serving: Serving, call: Call) -> Reply:
    request: EmbedRequest = call.request
    model = serving.repository.find(request.model)
    task: Embedder = task_of(model, "embed")
    texts = _listed(serving, request.inputs)
    _check_lengths(task, request, texts)
    if "last_hidden_state" not in model.engine.outputs:
        raise Problem(400, "wrong_task", f"model {model.name!r} has no vectors of tokens", param="model")
    work = lambda: task.prepare_hidden(task.tokenizer.encode(texts))  # noqa: E731
    return json_reply(await serving.infer(call, model, sum(map(len, texts)), work))


async def _predict(serving: Serving, call: Call) -> Reply:
    request: PredictRequest = call.request
    model = serving.repository.find(request.model)
    task: Classifier = task_of(model, "classify")
    single, texts = _predicted(request.inputs)
    serving.check_inputs(texts, "inputs")
    _check_lengths(task, request, texts)
    found = await serving.infer_texts(call, model, "classify", texts, task.prepare)
    answers = [
        sorted(
            (
                {"score": score, "label": label}
                for label, score in zip(task.labels, each.logits if request.raw_scores else each.scores, strict=True)
            ),
            key=lambda item: -item["score"],
        )
        for each in found
    ]
    return json_reply(answers[0] if single else answers)


def _predicted(inputs: Any) -> tuple[bool, list[Any]]:
    """Whether one answer is wanted, and what is classified: texts and pairs of them."""
    if isinstance(inputs, str):
        return True, [inputs]
    if len(inputs) == 2 and all(isinstance(each, str) for each in inputs):
        return True, [tuple(inputs)]
    texts: list[Any] = []
    for number, each in enumerate(inputs):
        if not isinstance(each, list) or not 1 <= len(each) <= 2:
            raise invalid(f"inputs: item {number} is no list of one text or two", "inputs")
        texts.append(each[0] if len(each) == 1 else tuple(each))
    return False, texts


async def _rerank(serving: Serving, call: Call) -> Reply:
    request: RerankRequest = call.request
    model = serving.repository.find(request.model)
    task: Reranker = task_of(model, "rerank")
    texts = request.texts
    serving.check_inputs(texts, "texts")
    _check_lengths(task, request, [(request.query, text) for text in texts])
    scores = await score(serving, call, model, task, request.query, texts, request.raw_scores)
    order = sorted(range(len(texts)), key=lambda index: -scores[index])
    shown = [{"text": texts[index]} if request.return_text else {} for index in order]
    return json_reply(
        [{"index": index, "score": scores[index], **text} for index, text in zip(order, shown, strict=True)]
    )


async def _similarity(serving: Serving, call: Call) -> Reply:
    request: SimilarityRequest = call.request
    model = serving.repository.find(request.model)
    task: Embedder = task_of(model, "embed")
    texts = [request.inputs.source_sentence, *request.inputs.sentences]
    serving.check_inputs(texts, "inputs")
    source, *others = await serving.infer_texts(call, model, "embed True", texts, task.prepare)
    return json_reply((np.stack(others) @ source).astype(np.float32))


async def _tokenize(serving: Serving, call: Call) -> Reply:
    request: TokenizeRequest = call.request
    model = serving.repository.find(request.model)
    texts = _listed(serving, request.inputs)
    tokenizer = model.tasks[model.main].tokenizer
    found = []
    for text, located in zip(texts, tokenizer.locate(texts), strict=True):
        tokens = []
        for identifier, part, (start, stop) in zip(located.ids, located.parts, located.offsets, strict=True):
            special = part < 0
            if special and not request.add_special_tokens:
                continue
            tokens.append(
                {
                    "id": int(identifier),
                    "text": tokenizer.token(int(identifier)) if special else text[start:stop],
                    "special": bool(special),
                    "start": None if special else int(start),
                    "stop": None if special else int(stop),
                }
            )
        found.append(tokens)
    return json_reply(found)


async def _decode(serving: Serving, call: Call) -> Reply:
    request: DecodeRequest = call.request
    model = serving.repository.find(request.model)
    lists = request.ids
    if lists and all(isinstance(each, int) for each in lists):
        lists = [lists]  # type: ignore[list-item]
    serving.check_inputs(lists, "ids")
    tokenizer = model.tasks[model.main].tokenizer
    texts = []
    for number, ids in enumerate(lists):
        if isinstance(ids, int) or not all(0 <= each < tokenizer.size for each in ids):
            raise invalid(f"ids: list {number} has something else than token ids below {tokenizer.size}", "ids")
        texts.append(tokenizer.decode(ids, request.skip_special_tokens))
    return json_reply(texts)


async def _info(serving: Serving, call: Call) -> Reply:
    models = serving.repository.models()
    if not models:
        raise Problem(503, "model_not_ready", "no model is loaded", retry_after=1.0)
    model = models[0]
    kinds: dict[str, Any] = {"embed": {"embedding": {"pooling": "model"}}}
    if model.main in ("classify", "tag"):
        task: Any = model.tasks[model.main]
        names = dict(enumerate(task.labels))
        kinds[model.main] = {
            "classifier": {
                "id2label": {str(index): label for index, label in names.items()},
                "label2id": {label: index for index, label in names.items()},
            }
        }
    return json_reply(
        {
            "model_id": model.name,
            "model_type": kinds.get(model.main, {model.main: {}}),
            "max_input_length": model.max_length,
            "max_batch_tokens": model.config.batch_tokens,
            "max_client_batch_size": serving.config.max_inputs,
            "max_concurrent_requests": serving.config.max_requests,
            "auto_truncate": True,
            "tokenization_workers": serving.config.tokenizer_threads,
            "version": fastcpu.__version__,
        }
    )


_RUN = (404, 429, 503, 504)
OPERATIONS = (
    Operation(
        "POST", "/embed", _embed, PROTOCOL, "Sentence embeddings", EmbedRequest, list[list[float]], statuses=_RUN
    ),
    Operation(
        "POST",
        "/embed_all",
        _embed_all,
        PROTOCOL,
        "A vector for every token",
        EmbedRequest,
        list[list[list[float]]],
        statuses=_RUN,
    ),
    Operation(
        "POST",
        "/predict",
        _predict,
        PROTOCOL,
        "Labels of texts or pairs of texts, the best first",
        PredictRequest,
        list[Prediction | list[Prediction]],
        statuses=_RUN,
    ),
    Operation(
        "POST", "/rerank", _rerank, PROTOCOL, "Sorts texts by relevance", RerankRequest, list[Rank], statuses=_RUN
    ),
    Operation(
        "POST",
        "/similarity",
        _similarity,
        PROTOCOL,
        "Cosine of one sentence with others",
        SimilarityRequest,
        list[float],
        statuses=_RUN,
    ),
    Operation(
        "POST",
        "/tokenize",
        _tokenize,
        PROTOCOL,
        "The tokens of texts",
        TokenizeRequest,
        list[list[Token]],
        statuses=(404, 429, 503),
    ),
    Operation(
        "POST", "/decode", _decode, PROTOCOL, "Texts of tokens", DecodeRequest, list[str], statuses=(404, 429, 503)
    ),
    Operation("GET", "/info", _info, PROTOCOL, "The first model and the limits", response=Info, light=True),
)
