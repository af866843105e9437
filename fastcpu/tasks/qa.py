"""Extractive question answering: the part of a passage that answers a question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fastcpu.errors import InputError
from fastcpu.tasks.engine import FloatArray, Model
from fastcpu.tasks.labels import softmax
from fastcpu.tasks.task import Task, Work, in_groups
from fastcpu.tasks.tokenizer import trimmed, windows

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


class QuestionAnswerer(Task[tuple[str, str], Answer]):
    """Answers inputs ``(question, passage)``.

    A passage that is longer than the model takes is read in windows that overlap; the best answer of all is given.

    Args:
        max_length: longest window in tokens, with the question.
        stride: tokens of the passage that two windows have in common; by default a third of `max_length`, 128 of 384.
        max_answer: longest answer in tokens.
        n_best: how many answers of a question are compared.
        no_answer: whether a passage may have none, as in SQuAD 2. The logit of that is the one of the first token, the
            smallest over all windows.
        threshold: by how much the logit of no answer must be above the best answer's.
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
        for option, value in (("max_answer", max_answer), ("n_best", n_best)):
            if value < 1:
                raise InputError(f"{option} must be at least 1, not {value}")
        for output in ("start_logits", "end_logits"):
            if self.engine.outputs.get(output, ())[:1] != ("batch",) or len(self.engine.outputs[output]) != 2:
                raise self._refusal("start_logits and end_logits [batch, sequence]")
        self._stride = self.tokenizer.stride(stride)
        self._max_answer, self._n_best = max_answer, n_best
        self._no_answer, self._threshold = no_answer, threshold

    def n_best(self, inputs: Sequence[tuple[str, str]]) -> list[list[Answer]]:
        """The best answers to each question, the best first; with `no_answer`, that there is none is one of them."""
        return in_groups(lambda group, first: self.run(self.prepare_n_best(group, first)), inputs)

    def prepare(self, inputs: Sequence[tuple[str, str]], first: int = 0) -> Work[Answer]:
        work = self.prepare_n_best(inputs, first)
        return Work(work.sequences, work.outputs, work.take, lambda: [answers[0] for answers in work.results()])

    def prepare_n_best(self, inputs: Sequence[tuple[str, str]], first: int = 0) -> Work[list[Answer]]:
        """The work of `n_best`."""
        cuts = []
        for number, whole in enumerate(self.tokenizer.locate(inputs, first), first):
            if not (whole.parts == _PASSAGE).any():
                raise InputError(f"input {number} is no pair of a question and a passage with words")
            cuts += [
                (number - first, window.tokens)
                for window in windows(whole, _PASSAGE, self.tokenizer.max_length, self._stride, f"input {number}")
            ]
        found: list[dict[tuple[int, int], float]] = [{} for _ in inputs]
        none = [np.inf] * len(inputs)

        def take(sequence: int, rows: tuple[FloatArray, ...]) -> None:
            index, tokens = cuts[sequence]
            starts, ends = rows
            none[index] = min(none[index], float(starts[0] + ends[0]))
            own = tokens.parts == _PASSAGE
            offsets = tokens.offsets[own]
            for logit, begin, end in best_spans(starts[own], ends[own], self._max_answer, self._n_best):
                place = int(offsets[begin, 0]), int(offsets[end, 1])
                found[index][place] = max(logit, found[index].get(place, -np.inf))

        def results() -> list[list[Answer]]:
            passages = [passage for _, passage in inputs]
            return [self._ranked(*each) for each in zip(passages, found, none, strict=True)]

        return Work([tokens for _, tokens in cuts], ("start_logits", "end_logits"), take, results)

    def _ranked(self, passage: str, found: dict[tuple[int, int], float], none: float) -> list[Answer]:
        """The answers with the highest logits, and their probabilities; equally good ones in the order of the text."""
        ranked = sorted(found.items(), key=lambda item: (-item[1], item[0]))[: self._n_best]
        if self._no_answer:
            above = sum(logit >= none - self._threshold for _, logit in ranked)
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
