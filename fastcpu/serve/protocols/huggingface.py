"""What Hugging Face's InferenceClient sends to an endpoint, answered as the task of the model says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from msgspec import UNSET, Meta, UnsetType

from fastcpu.serve.model import Model
from fastcpu.serve.operation import Call, Operation, Reply, decode, json_reply
from fastcpu.serve.problems import invalid
from fastcpu.serve.protocols import tei
from fastcpu.serve.protocols.tasks import (
    MOST_ANSWERS,
    Count,
    Overlap,
    TextOrTexts,
    answers,
    check_fills,
    taggings,
)
from fastcpu.serve.serving import Serving, task_of
from fastcpu.tasks.classify import Classifier
from fastcpu.tasks.fill_mask import Fill, MaskFiller
from fastcpu.tasks.labels import OUTSIDE, sigmoid, softmax
from fastcpu.tasks.qa import N_BEST, Answer
from fastcpu.tasks.tag import LabelOf, Tagging, Word
from fastcpu.tasks.task import Work
from fastcpu.tasks.tokenizer import Encoded, characters

PROTOCOL = replace(tei.PROTOCOL, name="Hugging Face")

_MOST_SEQUENCES = 1000  # texts with a filled gap in one reply


class Options(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Wishes of older clients that need nothing here: models that are configured are loaded, and texts have one answer.

    They are not used.
    """

    use_cache: bool | None = None
    wait_for_model: bool | None = None


class Body(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What all bodies have.

    Attributes:
        options: are not used.
        model: which one, where the path does not say it and there are several.
    """

    options: Options | None = None
    model: str | None = None


class FeatureParameters(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """As the fields of the same names beside them."""

    normalize: bool | UnsetType = UNSET
    truncate: bool | UnsetType = UNSET
    truncation_direction: Literal["Left", "Right", "left", "right"] | UnsetType = UNSET
    prompt_name: str | UnsetType = UNSET
    dimensions: Count | UnsetType = UNSET
    encoding_format: Literal["float"] | UnsetType = UNSET


class FeatureBody(tei.EmbedRequest, kw_only=True, forbid_unknown_fields=True):
    """Of feature-extraction: as POST /embed.

    Attributes:
        encoding_format: float.
        parameters: the same options once more, which count then.
        options: are not used.
    """

    encoding_format: Literal["float"] = "float"
    parameters: FeatureParameters | None = None
    options: Options | None = None


class SimilarityBody(tei.SimilarityRequest, kw_only=True, forbid_unknown_fields=True):
    """Of sentence-similarity: as POST /similarity.

    Attributes:
        options: are not used.
    """

    options: Options | None = None


class RankBody(tei.RerankRequest, kw_only=True, forbid_unknown_fields=True):
    """Of text-ranking: as POST /rerank."""


class Pair(msgspec.Struct, forbid_unknown_fields=True):
    """Two texts that are classified together."""

    text: str
    text_pair: str


class ClassificationParameters(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Of text-classification.

    Attributes:
        top_k: how many labels, by default all.
        function_to_apply: what makes scores of logits, by default what the model was trained with.
    """

    top_k: Count | None = None
    function_to_apply: Literal["sigmoid", "softmax", "none"] | None = None


class ClassificationBody(Body, kw_only=True):
    """Of text-classification.

    Attributes:
        inputs: a text, a pair, or a list of them.
    """

    inputs: str | Pair | Annotated[list[str | Pair], Meta(min_length=1)]
    parameters: ClassificationParameters | None = None


class TokenParameters(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Of token-classification.

    Attributes:
        aggregation_strategy: none: a result for every token. simple: one for tokens with the same label in a row.
            first, average, max: one for words with the same label in a row, which they have from their first token,
            the average of their tokens, or the one that is surest.
        ignore_labels: labels that are left out, by default O.
        stride: tokens that the windows over a long text have in common.
    """

    aggregation_strategy: Literal["none", "simple", "first", "average", "max"] = "simple"
    ignore_labels: list[str] | None = None
    stride: Overlap | None = None


class TokenBody(Body, kw_only=True):
    """Of token-classification."""

    inputs: TextOrTexts
    parameters: TokenParameters | None = None


class Question(msgspec.Struct, forbid_unknown_fields=True):
    """A question and the passage that answers it."""

    question: str
    context: str


class QuestionParameters(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Of question-answering.

    Attributes:
        top_k: how many answers; a list of answers for more than one.
        handle_impossible_answer: whether a passage may have no answer, which is an empty one then.
        max_answer_len: longest answer in tokens.
        max_seq_len: longest window in tokens, with the question.
        doc_stride: tokens that the windows over a long passage have in common.
        align_to_words: whether answers begin and end with words, and not within one.
    """

    top_k: Annotated[int, Meta(ge=1, le=MOST_ANSWERS)] = 1
    handle_impossible_answer: bool = False
    max_answer_len: Count | None = None
    max_seq_len: Count | None = None
    doc_stride: Overlap | None = None
    align_to_words: bool = True


class QuestionBody(Body, kw_only=True):
    """Of question-answering."""

    inputs: Question | Annotated[list[Question], Meta(min_length=1)]
    parameters: QuestionParameters | None = None


class FillParameters(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Of fill-mask.

    Attributes:
        top_k: how many tokens for every gap.
        targets: tokens of the vocabulary to choose from, by default all.
    """

    top_k: Count = 5
    targets: Annotated[list[str], Meta(min_length=1)] | None = None


class FillBody(Body, kw_only=True):
    """Of fill-mask."""

    inputs: TextOrTexts
    parameters: FillParameters | None = None


class _Which(msgspec.Struct):
    """What must be known of a body before it is read."""

    model: str | None = None
    inputs: msgspec.Raw = msgspec.Raw(b"null")


async def _infer(serving: Serving, call: Call) -> Reply:
    call.check_media()
    content = await call.body(serving.config.max_body_bytes)
    which: _Which = decode(content, _Which)
    given = call.parameters.get("model")
    if given is not None and which.model not in (None, given):
        raise invalid("model: the path names another one", "model")
    model = serving.repository.find(given or which.model)
    similar = bytes(memoryview(which.inputs)[:1]) == b"{" and model.main == "embed"
    kind, handler = _TASKS["similarity" if similar else model.main]
    found: Reply = await handler(serving, call, model, decode(content, kind))
    return found


async def _features(serving: Serving, call: Call, model: Model, body: FeatureBody) -> Reply:
    if body.parameters is not None:
        given = {name: getattr(body.parameters, name) for name in body.parameters.__struct_fields__}
        body = msgspec.structs.replace(body, **{name: value for name, value in given.items() if value is not UNSET})
    return await tei.embed(serving, call, model, body)


async def _classification(serving: Serving, call: Call, model: Model, body: ClassificationBody) -> Reply:
    task: Classifier = task_of(model, "classify")
    parameters = body.parameters or ClassificationParameters()
    given = body.inputs if isinstance(body.inputs, list) else [body.inputs]
    serving.check_inputs(given, "inputs")
    inputs = [each if isinstance(each, str) else (each.text, each.text_pair) for each in given]
    found = await serving.infer_texts(call, model, "classify", inputs, task.prepare)
    answered = []
    for each in found:
        scores: Sequence[float] = each.scores
        if parameters.function_to_apply == "none":
            scores = each.logits
        elif parameters.function_to_apply is not None:
            function = softmax if parameters.function_to_apply == "softmax" else sigmoid
            scores = function(np.array(each.logits)).tolist()
        answered.append(tei.ranked(task.labels, scores)[: parameters.top_k])
    return json_reply(answered)


async def _tokens(serving: Serving, call: Call, model: Model, body: TokenBody) -> Reply:
    parameters = body.parameters or TokenParameters()
    texts = body.inputs if isinstance(body.inputs, list) else [body.inputs]
    serving.check_inputs(texts, "inputs")
    strategy = parameters.aggregation_strategy
    label_of: LabelOf = "token" if strategy in ("none", "simple") else strategy  # type: ignore[assignment]
    found = await taggings(serving, call, model, texts, label_of, parameters.stride)
    ignored = {OUTSIDE} if parameters.ignore_labels is None else set(parameters.ignore_labels)
    if strategy == "none":
        answered = [[_token(word) for word in each.words if word.label not in ignored] for each in found]
    else:
        answered = [
            [group for group in _groups(text, each) if group["entity_group"] not in ignored]
            for text, each in zip(texts, found, strict=True)
        ]
    return json_reply(answered if isinstance(body.inputs, list) else answered[0])


def _token(word: Word) -> dict[str, Any]:
    return {"entity": word.label, "score": word.score, "word": word.text, "start": word.start, "end": word.end}


def _groups(text: str, tagging: Tagging) -> list[dict[str, Any]]:
    """The entities of a text, and between them what is none, in order."""
    found = [
        {"entity_group": each.kind, "score": each.score, "word": each.text, "start": each.start, "end": each.end}
        for each in tagging.entities
    ]
    row: list[Word] = []
    for word in (*tagging.words, None):
        if word is not None and word.label == OUTSIDE:
            row.append(word)
        elif row:
            start, end = row[0].start, row[-1].end
            score = sum(each.score for each in row) / len(row)
            found.append({"entity_group": OUTSIDE, "score": score, "word": text[start:end], "start": start, "end": end})
            row = []
    return sorted(found, key=lambda group: group["start"])


async def _questions(serving: Serving, call: Call, model: Model, body: QuestionBody) -> Reply:
    parameters = body.parameters or QuestionParameters()
    given = body.inputs if isinstance(body.inputs, list) else [body.inputs]
    serving.check_inputs(given, "inputs")
    given_options = {
        "no_answer": parameters.handle_impossible_answer,
        "whole_words": parameters.align_to_words,
        "n_best": max(N_BEST, parameters.top_k),
        "max_answer": parameters.max_answer_len,
        "length": parameters.max_seq_len,
        "stride": parameters.doc_stride,
    }
    options = {name: value for name, value in given_options.items() if value is not None}
    if "length" in options:
        options.setdefault("stride", options["length"] // 3)
    pairs = [(each.question, each.context) for each in given]
    found = await answers(serving, call, model, pairs, options)
    many = parameters.top_k > 1
    answered = [[_answer(answer) for answer in each[: parameters.top_k]] for each in found]
    replies = [each if many else each[0] for each in answered]
    return json_reply(replies if isinstance(body.inputs, list) else replies[0])


def _answer(answer: Answer) -> dict[str, Any]:
    return {"answer": answer.text, "score": answer.score, "start": answer.start, "end": answer.end}


async def _fills(serving: Serving, call: Call, model: Model, body: FillBody) -> Reply:
    parameters = body.parameters or FillParameters()
    task: MaskFiller = task_of(model, "fill_mask")
    texts = body.inputs if isinstance(body.inputs, list) else [body.inputs]
    serving.check_inputs(texts, "inputs")
    check_fills(task, texts, parameters.top_k, parameters.targets, _MOST_SEQUENCES)

    def prepare() -> Work[tuple[Encoded, list[list[Fill]]]]:
        work = task.prepare(texts, top_k=parameters.top_k, targets=parameters.targets)
        return Work(
            work.sequences, work.outputs, work.take, lambda: list(zip(work.sequences, work.results(), strict=True))
        )

    found = await serving.infer(call, model, characters(texts), prepare)
    answered = [_filled(task, sequence.ids.tolist(), gaps) for sequence, gaps in found]
    return json_reply(answered if isinstance(body.inputs, list) else answered[0])


def _filled(task: MaskFiller, ids: list[int], gaps: Sequence[Sequence[Fill]]) -> list[Any]:
    """The tokens for every gap of a text, and the text with each of them; not in a list for a text with one gap."""
    mask = task.tokenizer.id_of(task.mask)
    places = [place for place, index in enumerate(ids) if index == mask]
    single = len(places) == 1
    found = [
        [
            {
                "score": fill.score,
                "token": fill.id,
                "token_str": task.tokenizer.decode([fill.id], skip_special_tokens=False),
                "sequence": task.tokenizer.decode([*ids[:place], fill.id, *ids[place + 1 :]], single),
            }
            for fill in gap
        ]
        for place, gap in zip(places, gaps, strict=True)
    ]
    return found[0] if single else found


_TASKS: dict[str, tuple[Any, Any]] = {
    "embed": (FeatureBody, _features),
    "similarity": (SimilarityBody, tei.similarity),
    "rerank": (RankBody, tei.rerank),
    "classify": (ClassificationBody, _classification),
    "tag": (TokenBody, _tokens),
    "qa": (QuestionBody, _questions),
    "fill_mask": (FillBody, _fills),
}
"""By `Model.main`: the body, and what answers it. An embedder compares sentences if the inputs are an object."""


def _schema(kind: Any) -> dict[str, Any]:
    """The JSON schema of a type, with those of all types that it has."""
    (found,), components = msgspec.json.schema_components([kind], ref_template="{name}")

    def whole(part: Any) -> Any:
        if isinstance(part, list):
            return [whole(each) for each in part]
        if not isinstance(part, dict):
            return part
        if "$ref" in part:
            return whole(components[part["$ref"]])
        return {key: whole(value) for key, value in part.items()}

    result: dict[str, Any] = whole(found)
    return result


Request = Annotated[
    Any,
    Meta(
        extra_json_schema={
            "anyOf": [
                {**_schema(kind), "x-main": "embed" if name == "similarity" else name}
                for name, (kind, _) in _TASKS.items()
            ]
        }
    ),
]

OPERATIONS = tuple(
    Operation(
        "POST",
        path,
        _infer,
        PROTOCOL,
        "What the model does with the inputs, as Hugging Face's InferenceClient asks for it",
        Request,
        list[Any] | dict[str, Any],
        raw=True,
        queued=True,
        statuses=tei.RUN,
    )
    for path in ("/", "/models/{model:path}")
)
