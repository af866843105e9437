"""Extractive question answering: the part of a passage that answers a question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fastcpu.errors import InputError
from fastcpu.tasks.engine import FloatArray, Model, Rows
from fastcpu.tasks.labels import softmax
from fastcpu.tasks.task import Task, Work, in_groups
from fastcpu.tasks.tokenizer import Allowance, IntArray, Located, trimmed, windows

MAX_LENGTH, MAX_ANSWER, N_BEST = 384, 30, 20
_PASSAGE = 1  # the second text of a pair


@dataclass(frozen=True)
class Answer:
    """A part of a passage, or that it has no answer.

    Attributes:
        text: the characters ``start`` to ``end`` of the passage; empty, with both 0, if it has no answer.
        score: its probability among the best answers.
        logit: start logit plus end logit.
    """

    text: str
    score: float
    logit: float
    start: int
    end: int


@dataclass(frozen=True)
class Options:
    """How passages are read.

    Attributes:
        length: longest window in tokens, with the question; no longer than the model takes.
        stride: tokens of the passage that two windows have in common.
        max_answer: longest answer in tokens.
        n_best: how many answers of a question are compared.
        no_answer: whether a passage may have none, as in SQuAD 2. The logit of that is the one of the first token, the
            smallest over all windows.
        threshold: by how much the logit of no answer must be above the best answer's.
        whole_words: whether answers are made longer until they begin and end with a word, as the tokenizer has them.

    Raises:
        InputError: a value is out of range.
    """

    length: int
    stride: int
    max_answer: int = MAX_ANSWER
    n_best: int = N_BEST
    no_answer: bool = False
    threshold: float = 0.0
    whole_words: bool = False

    def __post_init__(self) -> None:
        for option, least in (("length", 1), ("stride", 0), ("max_answer", 1), ("n_best", 1)):
            value = getattr(self, option)
            if value < least:
                raise InputError(f"{option} must be at least {least}, not {value}")


class QuestionAnswerer(Task[tuple[str, str], Answer]):
    """Answers inputs ``(question, passage)``.

    A passage that is longer than the model takes is read in windows that overlap; the best answer of all is given.

    Args:
        max_length: longest window in tokens, with the question.
        stride: tokens of the passage that two windows have in common; by default a third of `max_length`, 128 of 384.
        max_answer, n_best, no_answer, threshold: as in `Options`.

    Attributes:
        options: how passages are read unless a call says otherwise.
    """

    name = "qa"
    head = "ForQuestionAnswering"
    truncate = False

    def __init__(
        self,
        model: Model,
        threads: int | None = None,
        max_length: int | None = MAX_LENGTH,
        stride: int | None = None,
        max_answer: int = MAX_ANSWER,
        n_best: int = N_BEST,
        no_answer: bool = False,
        threshold: float = 0.0,
    ) -> None:
        super().__init__(model, threads, max_length)
        for output in ("start_logits", "end_logits"):
            if self.engine.outputs.get(output, ())[:1] != ("batch",) or len(self.engine.outputs[output]) != 2:
                raise self._refusal("start_logits and end_logits [batch, sequence]")
        length = self.tokenizer.max_length
        self.options = Options(length, self.tokenizer.stride(stride), max_answer, n_best, no_answer, threshold)

    def n_best(self, inputs: Sequence[tuple[str, str]]) -> list[list[Answer]]:
        """The best answers to each question, the best first; with `no_answer`, that there is none is one of them."""
        return in_groups(lambda group, first: self.run(self.prepare_n_best(group, first)), inputs)

    def prepare(
        self, inputs: Sequence[tuple[str, str]], first: int = 0, options: Options | None = None
    ) -> Work[Answer]:
        work = self.prepare_n_best(inputs, first, options)
        return Work(work.sequences, work.outputs, work.take, lambda: [answers[0] for answers in work.results()])

    def prepare_n_best(
        self,
        inputs: Sequence[tuple[str, str]],
        first: int = 0,
        options: Options | None = None,
        most: int | None = None,
    ) -> Work[list[Answer]]:
        """The work of `n_best`; `options` by default those of the object, `most` as for `Allowance`."""
        wanted = options or self.options
        length = min(wanted.length, self.tokenizer.max_length)
        wholes = self.tokenizer.locate(inputs, first)
        allowance = Allowance(wholes, most)
        cuts = []
        for number, whole in enumerate(wholes, first):
            if not (whole.parts == _PASSAGE).any():
                raise InputError(f"input {number} is no pair of a question and a passage with words")
            places = _places(whole, wanted.whole_words)
            cuts += [
                (number - first, window.tokens, places[window.first :])
                for window in windows(whole, _PASSAGE, length, wanted.stride, f"input {number}", allowance)
            ]
        spans: list[list[tuple[float, int, int]]] = [[] for _ in cuts]
        none = [np.inf] * len(cuts)

        def take(indices: Sequence[int], rows: tuple[Rows, ...]) -> None:
            for sequence, starts, ends in zip(indices, *rows, strict=True):
                own = cuts[sequence][1].parts == _PASSAGE
                none[sequence] = float(starts[0] + ends[0])
                spans[sequence] = best_spans(starts[own], ends[own], wanted.max_answer, wanted.n_best)

        def results() -> list[list[Answer]]:
            found: list[dict[tuple[int, int], float]] = [{} for _ in inputs]
            least = [np.inf] * len(inputs)
            for (index, _, places), best, logit_of_none in zip(cuts, spans, none, strict=True):
                least[index] = min(least[index], logit_of_none)
                for logit, begin, end in best:
                    place = int(places[begin, 0]), int(places[end, 1])
                    found[index][place] = max(logit, found[index].get(place, -np.inf))
            passages = [passage for _, passage in inputs]
            return [_ranked(*each, wanted) for each in zip(passages, found, least, strict=True)]

        return Work([tokens for _, tokens, _ in cuts], ("start_logits", "end_logits"), take, results)


def _places(whole: Located, whole_words: bool) -> IntArray:
    """[tokens of the passage, 2]: the first character of an answer that begins with a token, the one after its last if
    it ends with the token; with `whole_words` those of the token's word.
    """
    own = whole.parts == _PASSAGE
    offsets: IntArray = whole.offsets[own]
    if not whole_words:
        return offsets
    _, firsts, word, counts = np.unique(whole.words[own], return_index=True, return_inverse=True, return_counts=True)
    places: IntArray = np.stack([offsets[firsts, 0], offsets[firsts + counts - 1, 1]], axis=1)[word]
    return places


def _ranked(passage: str, found: dict[tuple[int, int], float], none: float, options: Options) -> list[Answer]:
    """The answers with the highest logits, and their probabilities; equally good ones in the order of the text."""
    ranked = sorted(found.items(), key=lambda item: (-item[1], item[0]))[: options.n_best]
    if options.no_answer:
        above = sum(logit >= none - options.threshold for _, logit in ranked)
        ranked.insert(above, ((0, 0), none))
    scores = softmax(np.array([logit for _, logit in ranked]))
    places = [trimmed(passage, *place) for place, _ in ranked]
    return [
        Answer(passage[start:end], float(score), logit, start, end)
        for (start, end), (_, logit), score in zip(places, ranked, scores, strict=True)
    ]


def best_spans(starts: FloatArray, ends: FloatArray, longest: int, count: int) -> list[tuple[float, int, int]]:
    """The spans with the highest sum of a start and an end logit: (sum, first token, last token), the best first.

    Args:
        starts, ends: logits, [tokens].
        longest: most tokens of a span.
        count: how many spans.
    """
    tokens = len(starts)
    longest = min(longest, tokens)
    sums: npt.NDArray[np.float64] = np.full((tokens, longest), -np.inf)
    for extra in range(longest):
        sums[: tokens - extra, extra] = starts[: tokens - extra].astype(np.float64) + ends[extra:]
    flat = sums.ravel()
    count = min(count, int(np.isfinite(flat).sum()))
    best = np.argpartition(-flat, count - 1)[:count]
    best = best[np.lexsort((best, -flat[best]))]
    return [(float(flat[i]), int(i) // longest, int(i) // longest + int(i) % longest) for i in best]
