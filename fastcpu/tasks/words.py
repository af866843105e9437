"""Token ids word by word: what a tokenizer of the BERT kind says of a word is the same in every text."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import chain, pairwise
from types import NoneType
from typing import Any

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
Ids = Sequence[int]
Row = tuple[Ids, Ids | None]
"""Ids of a sequence and its segment ids, None if all of these are 0."""

MOST_WORDS = 32768
"""Words that are remembered, in about 8 MB."""
LONGEST_WORD = 32
"""Characters of a word that is remembered."""

_SPACES = str.maketrans("\t\n\r", "   ")
_PARTS = re.compile(r"[0-9A-Za-z]+|[^0-9A-Za-z]")


class Words:
    """Remembers the ids of words, so that a text costs look-ups, a small part of the time that the library takes.

    A word is what is between spaces, with its punctuation. The library says what its ids are, the first time that it
    comes; `words_of` knows for which tokenizers they are the same in any text.

    Any number of threads may use one object.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._known: dict[str, Ids] = {}
        self._added = re.compile("|".join(map(re.escape, _added(tokenizer))) or "(?!)", re.IGNORECASE)
        self._model = tokenizer.model
        self._lower = tokenizer.normalizer is not None and tokenizer.normalizer.lowercase
        self._frames = {sides: _Frame(tokenizer, sides) for sides in (1, 2)}

    def encode(self, texts: Sequence[str | tuple[str, str]], most: int | None) -> list[tuple[IntArray, IntArray]]:
        """Ids and segment ids of each text or pair of texts, as the library gives them.

        Args:
            texts: that can be encoded in UTF-8.
            most: tokens at which the library cuts, special ones included; None if it never does.
        """
        split = [
            [_split(text, most)] if isinstance(text, str) else [_split(side, most) for side in text] for text in texts
        ]
        table = self._table({word for sides in split for side in sides for word in side})
        rows = [self._row(sides, table, most) for sides in split]
        left = [index for index, row in enumerate(rows) if row is None]
        if left:
            for index, encoding in zip(left, self._tokenizer.encode_batch_fast([texts[i] for i in left]), strict=True):
                rows[index] = encoding.ids, encoding.type_ids
        return _arrays([row for row in rows if row is not None])

    def _table(self, words: set[str]) -> Mapping[str, Ids]:
        """The ids of words, and perhaps of others. What the library has to be asked for is remembered."""
        known = self._known
        if words <= known.keys():
            return known
        table = self._asked([word for word in words if word not in known])
        kept = [word for word in table if len(word) <= LONGEST_WORD][:MOST_WORDS]
        if len(known) + len(kept) > MOST_WORDS:
            self._known = {}  # the frequent ones are soon there again
        self._known.update((word, table[word]) for word in kept)
        return table | {word: known[word] for word in words if word not in table}

    def _asked(self, words: list[str]) -> dict[str, Ids]:
        """What the library says of words."""
        found: dict[str, Ids] = {}
        others = []
        tokenize = self._model.tokenize
        for word in words:
            if word.isascii() and word.isprintable() and not self._added.search(word):
                # Of normalization, ASCII sees lower case at most; then the model is asked directly.
                parts = _PARTS.findall(word.lower() if self._lower else word)
                found[word] = tuple(token.id for part in parts for token in tokenize(part))
            else:
                others.append(word)
        if others:
            encodings = self._tokenizer.encode_batch_fast(others, add_special_tokens=False)
            found.update((word, tuple(encoding.ids)) for word, encoding in zip(others, encodings, strict=True))
        return found

    def _row(self, words: list[list[str]], table: Mapping[str, Ids], most: int | None) -> Row | None:
        """The sequence of one text or two, one alone cut at its end; None for what the library has to cut."""
        sides = [[*chain.from_iterable(map(table.__getitem__, side))] for side in words]
        frame = self._frames[len(sides)]
        if most is not None:
            room = most - frame.special
            if sum(map(len, sides)) > room:
                if len(sides) > 1:
                    return None
                del sides[0][room:]
            elif most in map(len, words):  # some have no tokens, and `_split` may have left out others that have
                return None
        return frame.around(sides)


def _split(text: str, most: int | None) -> list[str]:
    """The words of a text, as many of them as can count."""
    if not text.isprintable():
        text = text.translate(_SPACES)
    if most is None:
        return text.split(" ")
    return text.split(" ", most)[:most]


class _Frame:
    """The special tokens around a text or a pair of texts, and the segments of all.

    Attributes:
        special: how many special tokens there are.
    """

    def __init__(self, tokenizer: Any, sides: int) -> None:
        example = tokenizer.encode(*["a"] * sides)
        places: list[int | None] = example.sequence_ids
        bounds = [0, *(bound for side in range(sides) for bound in (places.index(side), places.index(side) + 1))]
        pieces = [slice(*pair) for pair in pairwise([*bounds, len(places)])]  # special tokens, a side, special tokens..
        segments = [example.type_ids[piece] for piece in pieces]
        if places.count(None) != len(places) - sides or bounds != sorted(bounds):
            raise ValueError("sides are left out, repeated, or in another order")
        if any(len(set(segment)) > 1 for segment in segments):
            raise ValueError("special tokens that are next to each other are of different segments")
        self._first, *self._between = (example.ids[piece] for piece in pieces[::2])
        self._segments = [segment[:1] or [0] for segment in segments]
        self._one_segment = not any(map(any, segments))
        self.special = len(self._first) + sum(map(len, self._between))

    def around(self, sides: list[list[int]]) -> Row:
        """The sequence of sides that are given by their ids."""
        pieces = [self._first]
        for side, special in zip(sides, self._between, strict=True):
            pieces += (side, special)
        ids = [*chain.from_iterable(pieces)]
        if self._one_segment:
            return ids, None
        parts = zip(self._segments, pieces, strict=True)
        return ids, [*chain.from_iterable(segment * len(piece) for segment, piece in parts)]


def _arrays(rows: list[Row]) -> list[tuple[IntArray, IntArray]]:
    """Ids and segment ids of sequences as parts of two arrays, which is faster than arrays of their own."""
    ids = np.array([*chain.from_iterable(row for row, _ in rows)], np.int64)
    if all(segments is None for _, segments in rows):
        types = np.zeros_like(ids)
    else:
        types = np.array([*chain.from_iterable(kinds or [0] * len(row) for row, kinds in rows)], np.int64)
    found = []
    start = 0
    for row, _ in rows:
        part = slice(start, start + len(row))
        found.append((ids[part], types[part]))
        start = part.stop
    return found


def _added(tokenizer: Any) -> set[str]:
    """What tokens beside the vocabulary are looked for as, in text and in normalized text."""
    contents = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    if tokenizer.normalizer is None:
        return contents
    return contents | set(map(tokenizer.normalizer.normalize_str, contents))


def words_of(tokenizer: Any) -> Words | None:
    """Remembered words of a tokenizer of the library; None if its tokens may depend on more than the word they are in.

    They do not with `BertPreTokenizer`, which ends words at white space, behind a `BertNormalizer`, which changes no
    spaces and nothing across them, or none; as long as no added token has white space in it.

    Args:
        tokenizer: neither pads nor cuts; it may be made to cut texts at their ends afterwards.
    """
    from tokenizers import models, normalizers, pre_tokenizers, processors

    parts = (
        (tokenizer.model, models.WordPiece),
        (tokenizer.normalizer, (normalizers.BertNormalizer, NoneType)),
        (tokenizer.pre_tokenizer, pre_tokenizers.BertPreTokenizer),
        (
            tokenizer.post_processor,
            (processors.BertProcessing, processors.RobertaProcessing, processors.TemplateProcessing, NoneType),
        ),
    )
    if not all(isinstance(part, kinds) for part, kinds in parts):
        return None
    if any(content.split() != [content] for content in _added(tokenizer)):
        return None
    try:
        return Words(tokenizer)
    except Exception:  # noqa: BLE001  (its vocabulary has not even a token for what is unknown, say)
        return None
