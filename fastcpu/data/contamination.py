"""Keeping evaluation sentences out of training and calibration data."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

Item = TypeVar("Item")

JACCARD = 0.8
_WORD = re.compile(r"[^\W_]+")


@dataclass
class Contamination:
    """How many texts were seen and why some were dropped.

    Attributes:
        seen: all texts.
        equal: texts whose lower-cased alphanumeric form is that of an evaluation sentence.
        similar: further texts whose set of words has a Jaccard index of at least 0.8 with that of one.
    """

    seen: int = 0
    equal: int = 0
    similar: int = 0

    def to_json(self) -> dict[str, int]:
        """For reports."""
        return {"seen": self.seen, "equal": self.equal, "similar": self.similar}


def words(text: str) -> list[str]:
    """The lower-cased alphanumeric words of a text."""
    return _WORD.findall(text.lower())


class _Index:
    """Finds evaluation sentences that share most words with a text."""

    def __init__(self, sentences: Iterable[str]) -> None:
        self.forms: set[str] = set()
        self.sets: list[frozenset[str]] = []
        count: dict[str, int] = defaultdict(int)
        for sentence in sentences:
            split = words(sentence)
            self.forms.add("".join(split))
            self.sets.append(frozenset(split))
        self.sets = sorted(set(self.sets) - {frozenset()}, key=sorted)
        for each in self.sets:
            for word in each:
                count[word] += 1
        self.count = dict(count)
        self.by_word: dict[str, list[int]] = defaultdict(list)
        for index, each in enumerate(self.sets):
            for word in self._rare(each):
                self.by_word[word].append(index)

    def _rare(self, own: frozenset[str]) -> list[str]:
        """The rarest words of a set, one of which is among those of every set that is similar to it.

        With a Jaccard index of at least t these are |set| - ceil(t |set|) + 1 in an order that is the same for all
        sets (prefix filter of Chaudhuri et al., 2006).
        """
        rare = sorted(own, key=lambda word: (self.count.get(word, 0), word))
        return rare[: len(own) - _least_shared(len(own)) + 1]

    def similar(self, own: frozenset[str]) -> bool:
        candidates = {index for word in self._rare(own) for index in self.by_word.get(word, ())}
        for index in candidates:
            other = self.sets[index]
            shared = len(own & other)
            if shared >= JACCARD * (len(own) + len(other) - shared):
                return True
        return False


def _least_shared(size: int) -> int:
    """The fewest words that a set of this size shares with one that is similar to it."""
    return max(1, -int(-JACCARD * size // 1))


def texts_in(item: Any) -> Sequence[str]:
    """The texts of an item that is one, or a pair of them."""
    return (item,) if isinstance(item, str) else item


def decontaminate(
    texts: Iterable[Item],
    evaluation: Iterable[str],
    counts: Contamination | None = None,
    texts_of: Callable[[Item], Sequence[str]] = texts_in,
) -> Iterator[Item]:
    """The texts that are neither equal nor similar to an evaluation sentence.

    Equal: the lower-cased alphanumeric forms are. Similar: the Jaccard index of the sets of words is at least 0.8.
    ``counts`` is brought up to date while texts are taken. ``texts_of`` gives the texts of an item that is neither a
    text nor a pair of them; an item is dropped for any of its texts.
    """
    index = _Index(evaluation)
    counts = Contamination() if counts is None else counts
    for item in texts:
        counts.seen += 1
        split = [words(text) for text in texts_of(item)]
        if any("".join(each) in index.forms for each in split):
            counts.equal += 1
        elif any(index.similar(frozenset(each)) for each in split):
            counts.similar += 1
        else:
            yield item
