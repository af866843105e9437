"""The routes of text-embeddings-inference."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Annotated, Any, Literal, TypeVar

import msgspec
import numpy as np
import orjson

import fastcpu
from fastcpu.frontend.sentence_transformers import read_pooling
from fastcpu.serve import texts
from fastcpu.serve.model import Model
from fastcpu.serve.operation import Call, Operation, Protocol, Reply, has_task, json_reply
from fastcpu.serve.problems import Problem, invalid
from fastcpu.serve.protocols.signature import MOST_JSON, checked_size
from fastcpu.serve.serving import Serving, task_of
from fastcpu.tasks.classify import Classifier
from fastcpu.tasks.tokenizer import Located, Text, Tokenizer, characters, read_config

_Result = TypeVar("_Result")

RUN = (404, 504)
"""Statuses of errors of what runs a model."""
_HIDDEN = "last_hidden_state"
_MOST_IDS = 1 << 20  # that are decoded for one request
_TOKEN_BYTES = len(b'{"id":12345,"text":"","special":false,"start":12345,"stop":12345},')
_PART = 4096  # tokens that are written at a time
_TEXT = {"type": "string", "minLength": 1}
_PAIR = {"type": "array", "items": _TEXT, "minItems": 1, "maxItems": 2}
_TEXTS = {"anyOf": [_TEXT, {"type": "array", "minItems": 1, "items": _TEXT}]}
_IDS = {"type": "array", "minItems": 1, "items": {"type": "integer", "minimum": 0}}
_INPUTS = {"anyOf": [*_TEXTS["anyOf"], _IDS, {"type": "array", "minItems": 1, "items": _IDS}]}
_PREDICT = {"anyOf": [_TEXT, _PAIR, {"type": "array", "minItems": 1, "items": _PAIR}]}
TokenizerInputs = Annotated[str | list[str], msgspec.Meta(extra_json_schema={"x-schema": _TEXTS})]


Sentence = Annotated[str, msgspec.Meta(extra_json_schema=_TEXT)]


class Cut(msgspec.Struct, kw_only=True):
    """What happens to long texts.

    Attributes:
        truncate: whether to cut texts that are longer than the model takes, which is done by default; otherwise they
            are refused.
        truncation_direction: at which end to cut; only the right end can be cut.
    """

    truncate: bool | None = None
    truncation_direction: Annotated[
        Literal["Left", "Right", "left", "right"],
        msgspec.Meta(extra_json_schema={"x-schema": {"enum": ["Right", "right"], "default": "Right"}}),
    ] = "Right"


class Prompted(Cut, kw_only=True):
    """What happens to texts before they are embedded.

    Attributes:
        prompt_name: of a prompt in config_sentence_transformers.json that is put in front of every text.
    """

    prompt_name: str | None = None


class EmbedAllRequest(Prompted, kw_only=True):
    """Body of POST /embed_all.

    Attributes:
        inputs: a text, texts, the token ids of a text (special tokens included), or lists of them.
        model: which one, where there are several.
    """

    inputs: Annotated[str | list[str | int | list[int]], msgspec.Meta(extra_json_schema={"x-schema": _INPUTS})]
    model: str | None = None


class EmbedRequest(EmbedAllRequest, kw_only=True):
    """Body of POST /embed.

    Attributes:
        normalize: whether vectors have length 1.
        dimensions: how many of the first components to keep, before they are normalized.
    """

    normalize: bool = True
    dimensions: Annotated[int, msgspec.Meta(ge=1)] | None = None


class PredictRequest(Cut, kw_only=True):
    """Body of POST /predict.

    Attributes:
        inputs: a text, a list of one text or a pair, or a list of such lists.
        raw_scores: logits instead of probabilities.
        model: which one, where there are several.
    """

    inputs: Annotated[str | list[str | list[str]], msgspec.Meta(extra_json_schema={"x-schema": _PREDICT})]
    raw_scores: bool = False
    model: str | None = None


class RerankRequest(Cut, kw_only=True):
    """Body of POST /rerank.

    Attributes:
        query: what is looked for.
        texts: what is sorted.
        raw_scores: logits instead of numbers from 0 to 1.
        return_text: whether the answer repeats the texts.
        model: which one, where there are several.
    """

    query: str
    texts: Annotated[list[str], msgspec.Meta(min_length=1)]
    raw_scores: bool = False
    return_text: bool = False
    model: str | None = None


class SimilarityInputs(msgspec.Struct):
    """A sentence and those it is compared with."""

    source_sentence: Sentence
    sentences: Annotated[list[Sentence], msgspec.Meta(min_length=1)]


class SimilarityRequest(msgspec.Struct, kw_only=True):
    """Body of POST /similarity.

    Attributes:
        model: which one, where there are several.
    """

    inputs: SimilarityInputs
    parameters: Prompted | None = None
    model: str | None = None


class TokenizeRequest(msgspec.Struct, kw_only=True):
    """Body of POST /tokenize.

    Attributes:
        add_special_tokens: whether the answer has them.
        prompt_name: as for POST /embed.
        model: which one, where there are several.
    """

    inputs: TokenizerInputs
    add_special_tokens: bool = True
    prompt_name: str | None = None
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
            extra_json_schema={"x-schema": {"anyOf": [_IDS, {"type": "array", "minItems": 1, "items": _IDS}]}}
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
    """Answer of GET /info; of the first model."""

    model_id: str
    model_sha: str | None
    model_dtype: str
    served_model_name: str
    model_type: dict[str, Any]
    max_concurrent_requests: int
    max_input_length: int
    max_batch_tokens: int
    max_batch_requests: int | None
    max_client_batch_size: int
    auto_truncate: bool
    tokenization_workers: int
    version: str
    sha: str | None
    docker_label: str | None


class Error(msgspec.Struct):
    """Body of every error."""

    error: str
    error_type: Literal["Unhealthy", "Backend", "Overloaded", "Validation", "Tokenizer", "Empty"]


_KINDS = {429: "Overloaded", 503: "Unhealthy", 504: "Overloaded"}


def _error(problem: Problem) -> Any:
    kind = "Empty" if problem.code == _EMPTY else "Validation" if problem.status < 500 else "Backend"
    return {"error": problem.message, "error_type": _KINDS.get(problem.status, kind)}


_EMPTY = "empty"  # code of requests without inputs, and of inputs without text


PROTOCOL = Protocol("text-embeddings-inference", _error, Error, invalid_status=422)


def _check(serving: Serving, inputs: Sequence[Any], param: str) -> None:
    """Problem if there are no inputs, if one is empty, or if there are too many."""
    if inputs:
        serving.check_inputs(inputs, param)
    if not inputs or not all(inputs):
        raise Problem(400, _EMPTY, f"{param} cannot be empty", param=param)


def _check_answer(size: int) -> None:
    """Problem for an answer that would be too large."""
    if size > MOST_JSON:
        raise Problem(
            413, "answer_too_large", f"the answer would have about {size} bytes; at most {MOST_JSON}: send less"
        )


def _whole(cut: Cut) -> bool:
    """Whether texts must not be cut; Problem if they are to be cut at the left end."""
    if cut.truncation_direction.lower() == "left":
        raise invalid("truncation_direction: only the right end can be cut", "truncation_direction")
    return cut.truncate is False


def _prompt(model: Model, name: str | None) -> str:
    """What is put in front of texts."""
    if name is None:
        return ""
    prompts = read_config(model.directory / "config_sentence_transformers.json").get("prompts")
    found = prompts.get(name) if isinstance(prompts, dict) else None
    if not isinstance(found, str):
        there = ", ".join(prompts) if isinstance(prompts, dict) and prompts else "none"
        raise invalid(f"prompt_name: the model has no prompt {name!r:.100}; it has {there}", "prompt_name")
    return found


def _embedded(serving: Serving, model: Model, request: EmbedAllRequest) -> list[Any]:
    """The inputs of a request, with their prompt."""
    inputs = texts.listed(request.inputs)
    _check(serving, inputs, "inputs")
    prompt = _prompt(model, request.prompt_name)
    if not prompt:
        return inputs
    if not all(isinstance(each, str) for each in inputs):
        raise invalid("prompt_name: only texts can have a prompt", "prompt_name")
    return [prompt + text for text in inputs]


async def embed(serving: Serving, call: Call, model: Model, request: EmbedRequest) -> Reply:
    """Answers POST /embed with a model."""
    task_of(model, "embed")
    inputs = _embedded(serving, model, request)
    whole = _whole(request)
    return json_reply(
        await texts.embed(serving, call, model, inputs, request.normalize, request.dimensions, whole=whole)
    )


async def _embed(serving: Serving, call: Call) -> Reply:
    return await embed(serving, call, serving.repository.find(call.request.model), call.request)


def _has_token_vectors(model: Model) -> bool:
    return _HIDDEN in model.engine.outputs


async def _embed_all(serving: Serving, call: Call) -> Reply:
    request: EmbedAllRequest = call.request
    model = serving.repository.find(request.model)
    if not _has_token_vectors(model):
        raise Problem(400, "wrong_task", f"model {model.name!r} has no vectors of tokens", param="model")
    inputs = _embedded(serving, model, request)
    channels = int(model.engine.outputs[_HIDDEN][-1])

    def size(tokens: int) -> int:
        return checked_size([(tokens, channels)], [False], serving.bodies.limit)

    vectors = await texts.embed_tokens(serving, call, model, inputs, size, _whole(request))
    call.hold(size(sum(map(len, vectors))))
    return json_reply(vectors)


async def _predict(serving: Serving, call: Call) -> Reply:
    request: PredictRequest = call.request
    model = serving.repository.find(request.model)
    task: Classifier = task_of(model, "classify")
    if isinstance(request.inputs, list) and len(request.inputs) > 2:  # otherwise it may be a pair, which is one input
        serving.check_inputs(request.inputs, "inputs")
    single, inputs = _predicted(request.inputs)
    _check(serving, [each if isinstance(each, str) else "".join(each) for each in inputs], "inputs")
    whole = task if _whole(request) else None
    found = await texts.infer(serving, call, model, "classify", inputs, task.prepare, whole)
    answers = [ranked(task.labels, each.logits if request.raw_scores else each.scores) for each in found]
    return json_reply(answers[0] if single else answers)


def ranked(labels: Sequence[str], scores: Sequence[float]) -> list[dict[str, Any]]:
    """Labels with their scores, the best first."""
    return [{"score": scores[index], "label": labels[index]} for index in texts.best_first(scores)]


def _predicted(inputs: str | list[str | list[str]]) -> tuple[bool, list[Text]]:
    """Whether one answer is wanted, and what is classified: texts and pairs of them."""
    if isinstance(inputs, str):
        return True, [inputs]
    single = bool(inputs) and all(isinstance(each, str) for each in inputs)
    found: list[Text] = []
    for number, each in enumerate([inputs] if single else inputs):
        match each:
            case [str(text)]:
                found.append(text)
            case [str(text), str(other)]:
                found.append((text, other))
            case _:
                raise invalid(f"inputs: item {number} is no list of one text or two", "inputs")
    return single, found


async def rerank(serving: Serving, call: Call, model: Model, request: RerankRequest) -> Reply:
    """Answers POST /rerank with a model."""
    task_of(model, "rerank")
    serving.check_inputs(request.texts, "texts")
    _check(serving, [request.query or text for text in request.texts], "texts")
    whole = _whole(request)
    scores = await texts.score(serving, call, model, request.query, request.texts, request.raw_scores, whole=whole)
    found: list[dict[str, Any]] = [{"index": index, "score": scores[index]} for index in texts.best_first(scores)]
    if request.return_text:
        for rank in found:
            rank["text"] = request.texts[rank["index"]]
    return json_reply(found)


async def _rerank(serving: Serving, call: Call) -> Reply:
    return await rerank(serving, call, serving.repository.find(call.request.model), call.request)


async def similarity(serving: Serving, call: Call, model: Model, request: SimilarityRequest) -> Reply:
    """Answers POST /similarity with a model."""
    task_of(model, "embed")
    parameters = request.parameters or Prompted()
    sentences = [request.inputs.source_sentence, *request.inputs.sentences]
    _check(serving, sentences, "inputs")
    prompt, whole = _prompt(model, parameters.prompt_name), _whole(parameters)
    vectors = await texts.embed(serving, call, model, [prompt + text for text in sentences], whole=whole)
    return json_reply((np.stack(vectors[1:]) @ vectors[0]).astype(np.float32))


async def _similarity(serving: Serving, call: Call) -> Reply:
    return await similarity(serving, call, serving.repository.find(call.request.model), call.request)


async def _unhurried(serving: Serving, call: Call, amount: int, function: Callable[[], _Result]) -> _Result:
    """What `function` gives, which takes long if there are many characters or token ids."""
    return await serving.tokenizing.run(amount, function, client=call.client, deadline=call.deadline(), left=call.left)


async def _tokenize(serving: Serving, call: Call) -> Reply:
    request: TokenizeRequest = call.request
    model = serving.repository.find(request.model)
    prompt = _prompt(model, request.prompt_name)
    inputs = [request.inputs] if isinstance(request.inputs, str) else request.inputs
    _check(serving, inputs, "inputs")
    inputs = [prompt + text for text in inputs]
    call.model = model.name
    tokenizer = model.tasks[model.main].tokenizer
    body = await _unhurried(
        serving, call, characters(inputs), lambda: _tokenized(tokenizer, inputs, request.add_special_tokens)
    )
    return Reply(body)


def _tokenized(tokenizer: Tokenizer, inputs: Sequence[str], special: bool) -> bytes:
    """The tokens of texts, as many as there are, in JSON."""
    size = 0
    lists = []
    for text in inputs:
        (located,) = tokenizer.locate_whole([text])
        size += len(located.ids) * _TOKEN_BYTES + len(text)
        _check_answer(size)
        tokens = _tokens(tokenizer, text, located, special)
        parts = []
        while part := list(islice(tokens, _PART)):
            parts.append(orjson.dumps(part)[1:-1])
        lists.append(b"[" + b",".join(parts) + b"]")
    return b"[" + b",".join(lists) + b"]"


def _tokens(tokenizer: Tokenizer, text: str, located: Located, special: bool) -> Iterator[dict[str, Any]]:
    for place, index in enumerate(located.ids.tolist()):
        if located.parts[place] >= 0:
            start, stop = located.offsets[place].tolist()
            yield {"id": index, "text": text[start:stop], "special": False, "start": start, "stop": stop}
        elif special:
            yield {"id": index, "text": tokenizer.token(index), "special": True, "start": None, "stop": None}


async def _decode(serving: Serving, call: Call) -> Reply:
    request: DecodeRequest = call.request
    model = serving.repository.find(request.model)
    lists: list[Any] = request.ids
    if lists and isinstance(lists[0], int):
        lists = [lists]
    _check(serving, lists, "ids")
    count = sum(1 if isinstance(each, int) else len(each) for each in lists)
    if count > _MOST_IDS:
        raise Problem(
            413, "too_large", f"ids: there are {count}; at most {_MOST_IDS} are decoded at a time", param="ids"
        )
    call.model = model.name
    tokenizer = model.tasks[model.main].tokenizer
    found = await _unhurried(serving, call, count, lambda: _decoded(tokenizer, lists, request.skip_special_tokens))
    return json_reply(found)


def _decoded(tokenizer: Tokenizer, lists: Sequence[Any], skip_special_tokens: bool) -> list[str]:
    """The texts of lists of token ids; Problem for what is none."""
    size = 0
    for number, ids in enumerate(lists):
        if isinstance(ids, int) or set(map(type, ids)) != {int} or min(ids) < 0 or max(ids) >= tokenizer.size:
            raise invalid(f"ids: list {number} has something else than token ids below {tokenizer.size}", "ids")
        kinds, counts = np.unique(np.array(ids, np.int64), return_counts=True)
        lengths = [len(tokenizer.token(index)) + 1 for index in kinds.tolist()]  # a space stands between words
        size += int(np.dot(lengths, counts))
        _check_answer(size)
    return [tokenizer.decode(ids, skip_special_tokens) for ids in lists]


async def _info(serving: Serving, call: Call) -> Reply:
    models = serving.repository.models()
    if not models:
        raise Problem(503, "model_not_ready", "no model is loaded", retry_after=1.0)
    model = models[0]
    quantized = any("u8" in op["kernel"] or "s8" in op["kernel"] for op in model.session.ops())
    return json_reply(
        {
            "model_id": model.name,
            "model_sha": None,
            "model_dtype": "int8" if quantized else "float32",
            "served_model_name": model.name,
            "model_type": _kind(model),
            "max_concurrent_requests": serving.config.max_requests,
            "max_input_length": model.max_length,
            "max_batch_tokens": model.config.batch_tokens,
            "max_batch_requests": model.config.batch_rows,
            "max_client_batch_size": serving.config.max_inputs,
            "auto_truncate": True,
            "tokenization_workers": serving.config.tokenizer_threads,
            "version": fastcpu.__version__,
            "sha": None,
            "docker_label": None,
        }
    )


def _kind(model: Model) -> dict[str, Any]:
    """What a model does, in the words of text-embeddings-inference as far as it has them."""
    if model.main == "embed":
        pooling = read_pooling(model.directory)
        return {"embedding": {"pooling": "mean" if pooling is None else pooling[0].mode}}
    task: Any = model.task("classify", "tag")
    if task is None:
        return {model.main: {}}
    name = {"rerank": "reranker", "classify": "classifier"}.get(model.main, model.main)
    numbers = {str(index): label for index, label in enumerate(task.labels)}
    return {name: {"id2label": numbers, "label2id": {label: int(index) for index, label in numbers.items()}}}


OPERATIONS = (
    Operation(
        "POST",
        "/embed",
        _embed,
        PROTOCOL,
        "Sentence embeddings",
        EmbedRequest,
        list[list[float]],
        statuses=RUN,
        fits=has_task("embed"),
        queued=True,
    ),
    Operation(
        "POST",
        "/embed_all",
        _embed_all,
        PROTOCOL,
        "A vector for every token",
        EmbedAllRequest,
        list[list[list[float]]],
        statuses=RUN,
        fits=_has_token_vectors,
        queued=True,
    ),
    Operation(
        "POST",
        "/predict",
        _predict,
        PROTOCOL,
        "Labels of texts or pairs of texts, the best first",
        PredictRequest,
        list[Prediction | list[Prediction]],
        statuses=RUN,
        fits=has_task("classify"),
        queued=True,
    ),
    Operation(
        "POST",
        "/rerank",
        _rerank,
        PROTOCOL,
        "Sorts texts by relevance",
        RerankRequest,
        list[Rank],
        statuses=RUN,
        fits=has_task("rerank"),
        queued=True,
    ),
    Operation(
        "POST",
        "/similarity",
        _similarity,
        PROTOCOL,
        "Cosine of one sentence with others",
        SimilarityRequest,
        list[float],
        statuses=RUN,
        fits=has_task("embed"),
        queued=True,
    ),
    Operation(
        "POST",
        "/tokenize",
        _tokenize,
        PROTOCOL,
        "The tokens of texts",
        TokenizeRequest,
        list[list[Token]],
        statuses=(404,),
    ),
    Operation("POST", "/decode", _decode, PROTOCOL, "Texts of tokens", DecodeRequest, list[str], statuses=(404,)),
    Operation(
        "GET", "/info", _info, PROTOCOL, "The first model and the limits", response=Info, light=True, statuses=(503,)
    ),
)
