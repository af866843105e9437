"""Question answering, tagging and gaps: what `fastcpu.tasks` does, with results of the same form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from fastcpu.serve.operation import Call, Operation, Reply, has_task, json_reply
from fastcpu.serve.problems import Problem, invalid
from fastcpu.serve.protocols.tei import PROTOCOL as ERRORS
from fastcpu.serve.protocols.tei import RUN
from fastcpu.serve.serving import Serving, task_of
from fastcpu.serve.texts import check_size
from fastcpu.tasks.fill_mask import Fill, MaskFiller
from fastcpu.tasks.qa import Answer, QuestionAnswerer
from fastcpu.tasks.tag import LabelOf, Tagger, Tagging
from fastcpu.tasks.tokenizer import MOST_WINDOW_TOKENS

PROTOCOL = replace(ERRORS, name="Questions, tags and gaps")

MOST_ANSWERS = 100
"""To one question."""
_MOST_FILLS = 100_000
"""In one reply."""

TextOrTexts = str | Annotated[list[str], Meta(min_length=1)]
Count = Annotated[int, Meta(ge=1)]
Overlap = Annotated[int, Meta(ge=0)]


class AnswerRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Body of POST /qa.

    Attributes:
        question: a question, or questions.
        context: the passage with the answer: one for all questions, or one for each.
        n_best: how many answers there are to each question, that there is none not counted; without it, the best one.
        no_answer: whether a passage may have none, which is an empty answer then.
        threshold: by how much the logit of no answer must be above the best answer's.
        max_answer: longest answer in tokens.
        stride: tokens that the windows over a long passage have in common.
        whole_words: whether answers begin and end with words, and not within one.
        model: which one, where there are several.
    """

    question: TextOrTexts
    context: TextOrTexts
    n_best: Annotated[int, Meta(ge=1, le=MOST_ANSWERS)] | None = None
    no_answer: bool | None = None
    threshold: float | None = None
    max_answer: Count | None = None
    stride: Overlap | None = None
    whole_words: bool | None = None
    model: str | None = None


class TagRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Body of POST /tag.

    Attributes:
        text: a text, or a list of texts and of lists of words.
        label_of: what has a label: a word, by its first token, by the average of its tokens, or by the one that is
            surest of its label; or every token, as if it were a word.
        stride: tokens that the windows over a long text have in common.
        model: which one, where there are several.
    """

    text: str | Annotated[list[str | list[str]], Meta(min_length=1)]
    label_of: LabelOf = "first"
    stride: Overlap | None = None
    model: str | None = None


class FillRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Body of POST /fill.

    Attributes:
        text: a text with mask tokens of the model's vocabulary, or texts.
        top_k: how many tokens there are for every gap.
        targets: tokens of the vocabulary to choose from, by default all.
        model: which one, where there are several.
    """

    text: TextOrTexts
    top_k: Count = 5
    targets: Annotated[list[str], Meta(min_length=1)] | None = None
    model: str | None = None


async def answers(
    serving: Serving, call: Call, model: Any, pairs: Sequence[tuple[str, str]], options: dict[str, Any]
) -> list[list[Answer]]:
    """The best answers to questions about passages; `options` are those of `fastcpu.tasks.qa.Options` that differ."""
    task: QuestionAnswerer = task_of(model, "qa")
    wanted = replace(task.options, **options)
    return await serving.infer_texts(
        call,
        model,
        f"qa {wanted}",
        pairs,
        lambda some: task.prepare_n_best(some, options=wanted, most=MOST_WINDOW_TOKENS),
    )


async def taggings(
    serving: Serving,
    call: Call,
    model: Any,
    texts: Sequence[str | Sequence[str]],
    label_of: LabelOf = "first",
    stride: int | None = None,
) -> list[Tagging]:
    """The labels of texts or lists of words."""
    task: Tagger = task_of(model, "tag")
    kept = [each if isinstance(each, str) else tuple(each) for each in texts]
    return await serving.infer_texts(
        call,
        model,
        f"tag {label_of} {stride}",
        kept,
        lambda some: task.prepare(some, 0, label_of, stride, MOST_WINDOW_TOKENS),
    )


def check_fills(task: MaskFiller, texts: Sequence[str], top_k: int, targets: Sequence[str] | None, most: int) -> None:
    """Problem if that many tokens for every gap are more than a reply may have, or if there are too many targets."""
    if targets is not None and len(targets) > task.tokenizer.size:
        raise invalid(f"targets: there are {len(targets)}, and {task.tokenizer.size} tokens", "targets")
    gaps = sum(text.count(task.mask) for text in texts)
    if gaps * min(top_k, task.tokenizer.size) > most:
        raise Problem(
            413, "too_many_results", f"top_k: {top_k} tokens for {gaps} gaps are more than {most}", param="top_k"
        )


async def _qa(serving: Serving, call: Call) -> Reply:
    request: AnswerRequest = call.request
    model = serving.repository.find(request.model)
    if isinstance(request.question, list):
        serving.check_inputs(request.question, "question")
    single, pairs = _pairs(request)
    check_size(serving, sum(len(question) + len(context) for question, context in pairs), "context")
    if request.threshold is not None and not request.no_answer:
        raise invalid("threshold: of no use without no_answer", "threshold")
    names = ("n_best", "no_answer", "threshold", "max_answer", "stride", "whole_words")
    options = {name: value for name in names if (value := getattr(request, name)) is not None}
    found: list[Any] = await answers(serving, call, model, pairs, options)
    if request.n_best is None:
        found = [best for best, *_ in found]
    return json_reply(found[0] if single else found)


def _pairs(request: AnswerRequest) -> tuple[bool, list[tuple[str, str]]]:
    """Whether there is one question, and every question with its passage."""
    question, context = request.question, request.context
    if isinstance(question, str):
        if not isinstance(context, str):
            raise invalid("context: one question has one context", "context")
        return True, [(question, context)]
    contexts = [context] * len(question) if isinstance(context, str) else context
    if len(contexts) != len(question):
        raise invalid(f"context: there are {len(contexts)} for {len(question)} questions", "context")
    return False, list(zip(question, contexts, strict=True))


async def _tag(serving: Serving, call: Call) -> Reply:
    request: TagRequest = call.request
    model = serving.repository.find(request.model)
    texts = [request.text] if isinstance(request.text, str) else request.text
    serving.check_inputs(texts, "text")
    found = await taggings(serving, call, model, texts, request.label_of, request.stride)
    return json_reply(found[0] if isinstance(request.text, str) else found)


async def _fill(serving: Serving, call: Call) -> Reply:
    request: FillRequest = call.request
    model = serving.repository.find(request.model)
    task: MaskFiller = task_of(model, "fill_mask")
    texts = [request.text] if isinstance(request.text, str) else request.text
    serving.check_inputs(texts, "text")
    top_k, targets = request.top_k, request.targets
    check_fills(task, texts, top_k, targets, _MOST_FILLS)
    found = await serving.infer_texts(
        call,
        model,
        f"fill {top_k} {targets}",
        texts,
        lambda some: task.prepare(some, top_k=top_k, targets=targets),
    )
    return json_reply(found[0] if isinstance(request.text, str) else found)


OPERATIONS = (
    Operation(
        "POST",
        "/qa",
        _qa,
        PROTOCOL,
        "The parts of passages that answer questions",
        AnswerRequest,
        Answer | list[Answer | list[Answer]],
        statuses=RUN,
        fits=has_task("qa"),
        queued=True,
    ),
    Operation(
        "POST",
        "/tag",
        _tag,
        PROTOCOL,
        "The labels of words, and the entities that they mark",
        TagRequest,
        Tagging | list[Tagging],
        statuses=RUN,
        fits=has_task("tag"),
        queued=True,
    ),
    Operation(
        "POST",
        "/fill",
        _fill,
        PROTOCOL,
        "The tokens that fit the gaps of texts",
        FillRequest,
        list[list[Fill | list[Fill]]],
        statuses=RUN,
        fits=has_task("fill_mask"),
        queued=True,
    ),
)
