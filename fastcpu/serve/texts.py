"""What several protocols do with texts: embed them, and score passages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastcpu.serve.model import Model
from fastcpu.serve.operation import Call
from fastcpu.serve.problems import Problem, invalid
from fastcpu.serve.serving import Serving, task_of
from fastcpu.tasks.embed import Embedder
from fastcpu.tasks.engine import FloatArray
from fastcpu.tasks.labels import sigmoid
from fastcpu.tasks.rerank import Reranker
from fastcpu.tasks.task import AnyTask, Work
from fastcpu.tasks.tokenizer import Encoded, Text, characters

_SMALLEST = 1e-12  # a vector of zeros stays one


async def infer(
    serving: Serving,
    call: Call,
    model: Model,
    form: str,
    texts: Sequence[Text],
    prepare: Callable[[list[Any]], Work[Any]],
    task: AnyTask | None = None,
) -> list[Any]:
    """As `Serving.infer_texts`; Problem for a text that `task`, if that is given, would cut."""
    if task is None:
        return await serving.infer_texts(call, model, form, texts, prepare)

    def checked() -> Work[Any]:
        work = prepare(list(texts))
        _check_whole(task, texts, work.sequences)
        return work

    return await serving.infer(call, model, characters(texts), checked)


def _check_whole(task: AnyTask, texts: Sequence[Text], sequences: Sequence[Encoded]) -> None:
    """Problem names a text of which only a part is in its sequence."""
    longest = task.tokenizer.max_length
    full = [index for index, sequence in enumerate(sequences) if len(sequence.ids) >= longest]
    for index, cut in zip(full, task.tokenizer.cut_off([texts[index] for index in full]), strict=True):
        if len(cut):
            raise invalid(f"input {index} has more than {longest} tokens, and truncate is false", "truncate")


async def embed(
    serving: Serving,
    call: Call,
    model: Model,
    inputs: Sequence[Any],
    normalize: bool = True,
    size: int | None = None,
    whole: bool = False,
) -> list[FloatArray]:
    """The vectors of texts, or of lists of token ids.

    Args:
        serving, call, model: as in `Serving.infer`.
        inputs: all of one kind; token ids with those of special tokens.
        normalize: whether vectors have length 1.
        size: how many of the first components to keep, before they are normalized.
        whole: whether texts must not be cut.
    """
    task: Embedder = task_of(model, "embed")
    if size is not None and size > task.channels:
        raise invalid(f"dimensions: the vectors have {task.channels}, not {size}", "dimensions")
    found = await _embed(
        serving,
        call,
        model,
        f"embed {normalize}",
        inputs,
        lambda sequences: task.prepare_tokens(sequences, normalize),
        whole,
    )
    return found if size is None else [_shortened(vector, size, normalize) for vector in found]


async def embed_tokens(
    serving: Serving,
    call: Call,
    model: Model,
    inputs: Sequence[Any],
    check: Callable[[int], object],
    whole: bool = False,
) -> list[FloatArray]:
    """The vectors of the tokens of texts, or of lists of token ids; as `embed`.

    `check` is told how many tokens there are before anything is computed, and raises Problem if they are too many.
    """
    task: Embedder = task_of(model, "embed")

    def prepare(sequences: Sequence[Encoded]) -> Work[FloatArray]:
        check(sum(len(sequence.ids) for sequence in sequences))
        return task.prepare_hidden(sequences)

    return await _embed(serving, call, model, "tokens", inputs, prepare, whole)


async def _embed(
    serving: Serving,
    call: Call,
    model: Model,
    form: str,
    inputs: Sequence[Any],
    prepare: Callable[[Sequence[Encoded]], Work[FloatArray]],
    whole: bool,
) -> list[FloatArray]:
    task: Embedder = task_of(model, "embed")
    if all(isinstance(each, str) for each in inputs):
        kept = task if whole else None
        return await infer(
            serving, call, model, form, inputs, lambda texts: prepare(task.tokenizer.encode(texts)), kept
        )
    if all(isinstance(each, list) for each in inputs):
        return await serving.infer(
            call,
            model,
            sum(map(len, inputs)),
            lambda: prepare([_encoded(task, each, number) for number, each in enumerate(inputs)]),
        )
    raise invalid("the input must be a text, texts, token ids, or lists of token ids, and no mixture", "input")


def listed(given: Any) -> list[Any]:
    """What a request has to embed, as a list: of a text, texts, token ids, or lists of them.

    A list that begins with a token id counts as one input; the rest of it is looked at when it is known to be short.
    """
    if isinstance(given, str) or (given and isinstance(given[0], int)):
        return [given]
    found: list[Any] = given
    return found


def _encoded(task: AnyTask, ids: Any, number: int) -> Encoded:
    """Token ids of a client; Problem if the model does not take them."""
    tokenizer = task.tokenizer
    if not 0 < len(ids) <= tokenizer.max_length:
        raise invalid(f"input {number} has {len(ids)} tokens; there must be 1 to {tokenizer.max_length}", "input")
    if not all(isinstance(each, int) for each in ids):
        raise invalid(f"input {number} is no list of token ids", "input")
    if min(ids) < 0 or max(ids) >= tokenizer.size:
        raise invalid(f"input {number} has token ids that are not below {tokenizer.size}", "input")
    array = np.array(ids, np.int64)
    return Encoded(array, np.zeros_like(array))


def _shortened(vector: FloatArray, size: int, normalize: bool) -> FloatArray:
    """The first components of a vector, normalized again, as for models trained with Matryoshka losses."""
    part = vector[:size]
    return part / np.float32(max(float(np.sqrt((part * part).sum())), _SMALLEST)) if normalize else part


async def score(
    serving: Serving,
    call: Call,
    model: Model,
    query: str,
    texts: Sequence[str],
    raw: bool = False,
    whole: bool = False,
) -> list[float]:
    """The relevance of texts for a query: 0 to 1, or with `raw` the logits; `whole` as for `embed`."""
    task: Reranker = task_of(model, "rerank")
    check_size(serving, sum(len(query) + len(text) for text in texts), "query")
    pairs = [(query, text) for text in texts]
    found = await infer(serving, call, model, "rerank", pairs, task.prepare_scores, task if whole else None)
    logits = np.array(found, np.float32)
    scores: list[float] = (logits if raw else sigmoid(logits)).tolist()
    return scores


def best_first(scores: Sequence[float]) -> list[int]:
    """The places of scores, the highest first; equal ones keep their order."""
    return sorted(range(len(scores)), key=lambda index: -scores[index])


def check_size(serving: Serving, characters: int, param: str) -> None:
    """Problem for pairs of texts that together are longer than a body may be: one text may be in many of them."""
    most = serving.config.max_body_bytes
    if characters > most:
        raise Problem(413, "too_large", f"all pairs together have {characters} characters; at most {most}", param=param)
