"""Token classification: a label for each word, and the entities that BIO labels mark."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from fastcpu.errors import InputError
from fastcpu.tasks.engine import FloatArray, Model, Rows
from fastcpu.tasks.labels import OUTSIDE, label_names, softmax, spans
from fastcpu.tasks.task import Task, Work
from fastcpu.tasks.tokenizer import Allowance, Located, Window, trimmed, windows

LabelOf = Literal["first", "average", "max", "token"]
"""What has a label: a word, by its first token, by the average of its tokens, or by the one that is surest of its
label; or every token, as if it were a word."""


@dataclass(frozen=True)
class Word:
    """One word of a text.

    Attributes:
        text: its characters ``start`` to ``end``.
        label: of its first token, unless a call says otherwise.
        score: the probability of that label.
    """

    text: str
    label: str
    score: float
    start: int
    end: int


@dataclass(frozen=True)
class Entity:
    """Words that belong together.

    Attributes:
        text: its characters ``start`` to ``end``.
        kind: its type, the label without B- or I-.
        score: mean score of its words.
    """

    text: str
    kind: str
    score: float
    start: int
    end: int


@dataclass(frozen=True)
class Tagging:
    """What a tagger says of one text.

    Attributes:
        words: all of them, in order.
        entities: what their labels mark.
    """

    words: tuple[Word, ...]
    entities: tuple[Entity, ...]


class Tagger(Task[str | Sequence[str], Tagging]):
    """Labels the words of texts, or of lists of words (offsets then count in the words joined by single spaces).

    A text's words are those of the tokenizer: letters between spaces, and mostly punctuation marks alone. A text that
    is longer than the model takes is labelled in windows that overlap; a word has its label from the window in which it
    stands further from the edge. A given word without any token gets the label O.

    Args:
        labels: their names in the model's order; by default those that config.json has.
        stride: tokens that two windows have in common; by default a third of `max_length`.

    Attributes:
        labels: their names.
    """

    name = "tag"
    head = "ForTokenClassification"
    truncate = False

    def __init__(
        self,
        model: Model,
        threads: int | None = None,
        max_length: int | None = None,
        labels: Sequence[str] | None = None,
        stride: int | None = None,
    ) -> None:
        super().__init__(model, threads, max_length)
        self._stride = self.tokenizer.stride(stride)
        self._logits, channels = self._output("logits", "batch", "sequence")
        self.labels = label_names(self.engine.directory, channels, labels)

    def prepare(
        self,
        inputs: Sequence[str | Sequence[str]],
        first: int = 0,
        label_of: LabelOf = "first",
        stride: int | None = None,
        most: int | None = None,
    ) -> Work[Tagging]:
        """As `Task.prepare`.

        Args:
            inputs: texts, or lists of words.
            first: number of the first.
            label_of: what has a label.
            stride: tokens that two windows have in common, by default what the object was made with.
            most: tokens of all windows, as for `Allowance`.
        """
        shared = self._stride if stride is None else self.tokenizer.stride(stride)
        tokens = [self._tokens(each, number) for number, each in enumerate(inputs, first)]
        allowance = Allowance(tokens, most)
        cuts = [
            windows(each, 0, self.tokenizer.max_length, shared, f"input {number}", allowance)
            for number, each in enumerate(tokens, first)
        ]
        owners = [(index, place) for index, cut in enumerate(cuts) for place in range(len(cut))]
        logits = [np.empty((int((each.parts == 0).sum()), len(self.labels)), np.float32) for each in tokens]

        def take(indices: Sequence[int], rows: tuple[Rows, ...]) -> None:
            for sequence, found in zip(indices, rows[0], strict=True):
                index, place = owners[sequence]
                begin, end = _own_range(cuts[index], place, len(logits[index]))
                window = cuts[index][place]
                own: FloatArray = found[window.tokens.parts == 0]
                logits[index][begin:end] = own[begin - window.first : end - window.first]

        def results() -> list[Tagging]:
            scores = map(softmax, logits)
            return [self._tagging(*each, label_of) for each in zip(inputs, tokens, scores, strict=True)]

        return Work([cuts[index][place].tokens for index, place in owners], (self._logits,), take, results)

    def _tokens(self, given: str | Sequence[str], number: int) -> Located:
        if isinstance(given, str):
            return self.tokenizer.locate([given], number)[0]
        if not isinstance(given, (list, tuple)) or not all(isinstance(word, str) for word in given):
            raise InputError(f"input {number} is neither a string nor a list of words")
        return self.tokenizer.locate_words(given)

    def _tagging(
        self, given: str | Sequence[str], tokens: Located, scores: npt.NDArray[np.float64], label_of: LabelOf
    ) -> Tagging:
        text = given if isinstance(given, str) else " ".join(given)
        own = tokens.parts == 0
        units, offsets = tokens.words[own], tokens.offsets[own]
        if label_of == "token":
            if not isinstance(given, str):
                begins = np.cumsum([0, *(len(word) + 1 for word in given)])
                offsets = offsets + begins[units][:, None]
            units = np.arange(len(units))
        numbers, firsts, counts = np.unique(units, return_index=True, return_counts=True)
        scores = _of_units(scores, firsts, counts, label_of)
        best = scores.argmax(axis=1)
        labelled = {
            int(number): (self.labels[label], float(row[label]))
            for number, row, label in zip(numbers, scores, best, strict=True)
        }
        if isinstance(given, str) or label_of == "token":
            ends = offsets[firsts + counts - 1, 1]
            places = [trimmed(text, *map(int, pair)) for pair in zip(offsets[firsts, 0], ends, strict=True)]
            words = [Word(text[a:b], *each, a, b) for (a, b), each in zip(places, labelled.values(), strict=True)]
        else:
            words, start = [], 0
            for number, word in enumerate(given):
                words.append(Word(word, *labelled.get(number, (OUTSIDE, 0.0)), start, start + len(word)))
                start += len(word) + 1
        return Tagging(tuple(words), tuple(_entities(text, words)))


def _of_units(
    scores: npt.NDArray[np.float64], firsts: npt.NDArray[np.intp], counts: npt.NDArray[np.intp], label_of: LabelOf
) -> npt.NDArray[np.float64]:
    """The scores [tokens, labels] as those of words: [words, labels], of `counts` tokens from `firsts` on."""
    if label_of == "average" and len(firsts):
        averages: npt.NDArray[np.float64] = np.add.reduceat(scores, firsts, axis=0) / counts[:, None]
        return averages
    if label_of == "max":
        sure = scores.max(axis=1)
        firsts = np.array([a + sure[a : a + count].argmax() for a, count in zip(firsts, counts, strict=True)], np.intp)
    return scores[firsts]


def _own_range(cut: Sequence[Window], place: int, count: int) -> tuple[int, int]:
    """Which tokens of a text take their labels from a window: the borders are in the middle of the overlaps."""

    def border(before: int) -> int:
        end = cut[before].first + int((cut[before].tokens.parts == 0).sum())
        return (cut[before + 1].first + end + 1) // 2

    return (0 if place == 0 else border(place - 1)), (count if place == len(cut) - 1 else border(place))


def _entities(text: str, words: Sequence[Word]) -> Iterator[Entity]:
    for kind, first, last in spans([word.label for word in words]):
        start, end = words[first].start, words[last - 1].end
        score = sum(word.score for word in words[first:last]) / (last - first)
        yield Entity(text[start:end], kind, score, start, end)
