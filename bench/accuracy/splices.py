"""New sentences from those of a treebank: a constituent of one is replaced by a constituent of another.

SST lists the constituents of its sentences as phrases of their own, so that no parser is needed. The idea is that of
TreeMix (Zhang, Yang and Yang, 2022, "TreeMix: Compositional Constituency-based Data Augmentation"); the new sentences
have no labels here, since teachers give them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import combinations

import numpy as np

_LEAST_WORDS = 8  # of a sentence
_LONGEST = 12  # words of what is replaced
_TRIES = 20  # draws per sentence that is asked for, and per constituent
_ENDS = (".", "!", "?")


def splice(phrases: Sequence[str], count: int, seed: int) -> list[str]:
    """Up to ``count`` sentences, in which one or two constituents are replaced, and which are not phrases themselves.

    What is put in has the first word of what is taken out, by which it is mostly of the same kind, from half to twice
    as many words, and a full stop only if that had one.
    """
    known = {" ".join(phrase.split()): tuple(phrase.split()) for phrase in phrases}
    alike: defaultdict[str, list[tuple[str, ...]]] = defaultdict(list)
    for words in known.values():
        alike[words[0]].append(words)
    sentences = [words for words in known.values() if len(words) >= _LEAST_WORDS and words[-1] in _ENDS]
    spans = [_constituents(words, known) for words in sentences]
    random = np.random.default_rng(seed)
    found: dict[str, None] = {}
    for _ in range(_TRIES * count if sentences else 0):
        if len(found) == count:
            break
        place = int(random.integers(len(sentences)))
        words = _replaced(sentences[place], spans[place], alike, random)
        text = " ".join(words)
        if text not in known:
            found[text] = None
    return list(found)


def _constituents(words: tuple[str, ...], known: dict[str, tuple[str, ...]]) -> list[tuple[int, int]]:
    """Where phrases of at least two words lie in a sentence: their start and end."""
    return [
        (start, end)
        for start, end in combinations(range(len(words) + 1), 2)
        if 2 <= end - start <= min(_LONGEST, len(words) - 2) and " ".join(words[start:end]) in known
    ]


def _replaced(
    words: tuple[str, ...],
    spans: Sequence[tuple[int, int]],
    alike: dict[str, list[tuple[str, ...]]],
    random: np.random.Generator,
) -> tuple[str, ...]:
    """A sentence with other words at one or two of its constituents, which do not overlap."""
    chosen: list[tuple[int, int]] = []
    for index in random.permutation(len(spans))[: 1 + int(random.integers(2))]:
        start, end = spans[index]
        if all(end <= other[0] or other[1] <= start for other in chosen):
            chosen.append((start, end))
    for start, end in sorted(chosen, reverse=True):
        old = words[start:end]
        others = alike[old[0]]
        for number in random.integers(len(others), size=_TRIES):
            new = others[number]
            if new != old and len(old) <= 2 * len(new) <= 4 * len(old) and (new[-1] in _ENDS) == (old[-1] in _ENDS):
                words = words[:start] + new + words[end:]
                break
    return words
