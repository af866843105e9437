"""Token ids word by word: what a tokenizer of the BERT kind says of a word is the same in every text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from types import NoneType
from typing import Any

import numpy as np
import numpy.typing as npt

from fastcpu import _core

IntArray = npt.NDArray[np.int64]

MOST_WORDS = 65536
"""Words that are remembered, in about 2 MB, at most 7."""

_NEW_WORDS = (256, 16)
"""New words that one call learns at most: so many, and so many per text. While that lasts, no other Python runs."""
_NEW_STRANGE_WORDS = (4, 1)
"""The same for words that the tokenizer itself is asked for: each takes as long as several within a text."""
_PARTS = re.compile(r"[0-9A-Za-z]+|[^0-9A-Za-z]")


class Words:
    """Remembers the ids of words, so that a text costs look-ups, a small part of the time that the library takes.

    A word is what is between white space, with its punctuation. The library says what its ids are, the first time that
    it comes; `words_of` knows for which tokenizers they are the same in any text.

    Any number of threads may use one object.
    """

    def __init__(self, tokenizer: Any, frames: tuple[_core.Frame, _core.Frame]) -> None:
        self._tokenizer = tokenizer
        self._known = _core.WordTable(MOST_WORDS)
        self._added = re.compile("|".join(map(re.escape, _added(tokenizer))) or "(?!)", re.IGNORECASE)
        self._model = tokenizer.model
        self._lower = tokenizer.normalizer is not None and tokenizer.normalizer.lowercase
        self._frames = frames

    def encode(self, texts: Sequence[str | tuple[str, str]], most: int | None) -> list[tuple[IntArray, IntArray]]:
        """Ids and segment ids of each text or pair of texts, as the library gives them.

        Args:
            texts: that can be encoded in UTF-8.
            most: tokens at which the library cuts, special ones included; None if it never does.
        """
        listed = list(texts)
        new = _NEW_WORDS[0] + _NEW_WORDS[1] * len(listed)
        ids, types, lengths, unknown = self._known.encode(listed, *self._frames, most, new)
        if unknown:
            self._learn(unknown, most, _NEW_STRANGE_WORDS[0] + _NEW_STRANGE_WORDS[1] * len(listed))
            ids, types, lengths, _ = self._known.encode(listed, *self._frames, most, 0)
        left = [text for text, length in zip(listed, lengths, strict=True) if length < 0]
        rest = iter(self._tokenizer.encode_batch_fast(left) if left else ())
        found = []
        start = 0
        for length in lengths:
            if length < 0:
                encoding = next(rest)
                found.append((np.array(encoding.ids, np.int64), np.array(encoding.type_ids, np.int64)))
            else:
                part = slice(start, start + length)
                found.append((ids[part], types[part]))
                start = part.stop
        return found

    def _learn(self, words: Iterable[str], most: int | None, strange: int) -> None:
        """Remembers what the library says of words, of strange ones at most so many."""
        others: list[str] = []
        tokenize = self._model.tokenize
        for word in words:
            if word.isascii() and word.isprintable() and not self._added.search(word):
                # Of normalization, ASCII sees lower case at most; then the model is asked directly.
                parts = _PARTS.findall(word.lower() if self._lower else word)
                self._known.put(word, [token.id for part in parts for token in tokenize(part)])
            elif len(others) < strange:
                others.append(word)
        if others:
            encodings = self._tokenizer.encode_batch_fast(others, add_special_tokens=False)
            for word, encoding in zip(others, encodings, strict=True):
                if most is None or len(encoding.ids) < most:  # as many may be a part of them
                    self._known.put(word, encoding.ids)


def _frame(tokenizer: Any, sides: int) -> _core.Frame:
    """The special tokens around one text or two, and the segments of all.

    ValueError if they are not known from those of short texts.
    """
    example = tokenizer.encode(*["a"] * sides)
    places: list[int | None] = example.sequence_ids
    bounds = [0, *(bound for side in range(sides) for bound in (places.index(side), places.index(side) + 1))]
    pieces = [slice(*pair) for pair in pairwise([*bounds, len(places)])]  # special tokens, a side, special tokens, ...
    segments = [example.type_ids[piece] for piece in pieces]
    if places.count(None) != len(places) - sides or bounds != sorted(bounds):
        raise ValueError("sides are left out, repeated, or in another order")
    if any(len(set(segment)) > 1 for segment in segments):
        raise ValueError("special tokens that are next to each other are of different segments")
    return _core.Frame([example.ids[piece] for piece in pieces[::2]], [(*segment, 0)[0] for segment in segments])


def _added(tokenizer: Any) -> set[str]:
    """What tokens beside the vocabulary are looked for as, in text and in normalized text."""
    contents = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    if tokenizer.normalizer is None:
        return contents
    return contents | set(map(tokenizer.normalizer.normalize_str, contents))


def words_of(tokenizer: Any) -> Words | None:
    """Remembered words of a tokenizer of the library; None if its tokens may depend on more than the word they are in.

    They do not with `BertPreTokenizer`, which ends words at white space, behind a `BertNormalizer`, which takes no
    space away and looks at nothing across one, or none; as long as no added token has white space in it.

    Args:
        tokenizer: neither pads nor cuts; it may be made to cut texts at their ends afterwards, at any length.
    """
    from tokenizers import models, normalizers, pre_tokenizers, processors

    parts = (
        (tokenizer.model, models.WordPiece),
        (tokenizer.normalizer, (normalizers.BertNormalizer, NoneType)),
        (tokenizer.pre_tokenizer, pre_tokenizers.BertPreTokenizer),
        (
            tokenizer.post_processor,
            (processors.BertProcessing, processors.RobertaProcessing, processors.TemplateProcessing),
        ),
    )
    if not all(isinstance(part, kinds) for part, kinds in parts):
        return None
    if any(content.split() != [content] for content in _added(tokenizer)):
        return None
    if tokenizer.token_to_id(tokenizer.model.unk_token) is None:  # words may be errors
        return None
    try:
        frames = _frame(tokenizer, 1), _frame(tokenizer, 2)
    except ValueError:
        return None
    return Words(tokenizer, frames)
