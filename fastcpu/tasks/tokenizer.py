"""Tokenization for ragged inputs: no padding, truncation to a length of our own choice, windows over long texts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastcpu import _core
from fastcpu.errors import FileFormatError, InputError, MissingPackageError
from fastcpu.frontend import families
from fastcpu.tasks.words import words_of

IntArray = npt.NDArray[np.int64]
Text = str | tuple[str, str]
"""What becomes one sequence: a text, or a pair of texts."""

MOST_WINDOW_TOKENS = 1 << 20
"""Tokens of windows that are made together, whatever they are windows of."""
_MOST_REPEATED = 8  # windows may always have so many times the tokens of their texts
_LEAST_WINDOW = 64  # the arrays of a shorter window take as much memory as so many tokens
_UNLIMITED = 1 << 20  # tokenizer_config.json writes 1e30 where a tokenizer has no limit
_DEFAULT_LENGTH = 512
_MANY_TEXTS, _FEW_CPUS = 64, 4
"""The library tokenizes the texts of a batch on all CPUs, which with more of both is faster than knowing the words."""
_TRANSFORMER_FILE = "sentence_bert_config.json"


def characters(inputs: Sequence[Any]) -> int:
    """How much text is in texts and lists of texts; an empty text counts as one character."""
    return sum(max(1, len(each)) if isinstance(each, str) else characters(each) for each in inputs)


@dataclass(frozen=True)
class Encoded:
    """Tokens of one text (or pair of texts), special tokens included.

    Attributes:
        ids: token ids.
        types: segment ids, 0 or 1.
    """

    ids: IntArray
    types: IntArray


@dataclass(frozen=True)
class Located(Encoded):
    """Tokens that know where they come from.

    Attributes:
        parts: 0 for a token of the first text, 1 for one of the second, -1 for a special token.
        words: number of the word in its text; -1 for a special token.
        offsets: [tokens, 2], first character of the token in its text and the one after its last; for a text that was
            given as words, in its word.
    """

    parts: IntArray
    words: IntArray
    offsets: IntArray

    def take(self, places: IntArray) -> Located:
        """The tokens at `places`."""
        return Located(
            *(array[places] for array in (self.ids, self.types, self.parts, self.words, self.offsets)),
        )


class Tokenizer:
    """The tokenizer.json of a model directory.

    Args:
        model_dir: directory with tokenizer.json.
        max_length: longest sequence in tokens, special tokens included; by default what the model was made for.
        truncate: whether to cut longer sequences, pairs at their longer side. Who does not cuts them into `windows`.

    Raises:
        InputError: there is no tokenizer.json, or `max_length` leaves no room for text.
        FileFormatError: a file of the tokenizer is damaged.
        MissingPackageError: `tokenizers` is not installed.
    """

    def __init__(self, model_dir: Path | str, max_length: int | None = None, truncate: bool = True) -> None:
        try:
            import tokenizers
        except ImportError as error:
            raise MissingPackageError(
                "texts need the package 'tokenizers' (pip install tokenizers); token ids need nothing"
            ) from error
        model_dir = Path(model_dir)
        path = model_dir / "tokenizer.json"
        if not path.is_file():
            raise InputError(f"{str(model_dir)!r} has no tokenizer.json")
        try:
            self._tokenizer = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # what the library raises for malformed files
            raise FileFormatError(f"{path}: {error}") from error
        self._lower = read_config(model_dir / _TRANSFORMER_FILE).get("do_lower_case") is True
        limit = length_limit(model_dir)
        self.max_length = min(limit, max_length) if max_length else limit
        self._pair_special = self._tokenizer.num_special_tokens_to_add(is_pair=True)
        special = self._tokenizer.num_special_tokens_to_add(is_pair=False)
        if self.max_length <= special:
            raise InputError(f"max_length {max_length} leaves no room beside {special} special tokens")
        # Both may be set in the file, and would pad every text to a fixed length.
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._words = words_of(self._tokenizer)
        self._cpus = _core.available_cpus()
        self._truncate = truncate
        if truncate:
            self._tokenizer.enable_truncation(self.max_length)

    def stride(self, given: int | None) -> int:
        """How many tokens windows share: `given`, or a third of the longest sequence. InputError below 0."""
        if given is not None and given < 0:
            raise InputError(f"stride must not be negative: {given}")
        return self.max_length // 3 if given is None else given

    @property
    def size(self) -> int:
        """Number of token ids that stand for something."""
        return self._tokenizer.get_vocab_size()

    @property
    def vocabulary(self) -> dict[str, int]:
        """The id of every token."""
        return dict(self._tokenizer.get_vocab())

    def token(self, index: int) -> str:
        """The token of an id below `size`, as the vocabulary writes it."""
        return self._tokenizer.id_to_token(index) or ""

    def id_of(self, token: str) -> int | None:
        """The id of a token, None if the vocabulary lacks it."""
        return self._tokenizer.token_to_id(token)

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        """The text of token ids, all below `size`."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=skip_special_tokens))

    def _cased(self, texts: list[Text]) -> list[Text]:
        """Texts as the model was trained on them: in lower case if sentence-transformers says so (do_lower_case)."""
        if not self._lower:
            return texts
        return [text.lower() if isinstance(text, str) else (text[0].lower(), text[1].lower()) for text in texts]

    def encode(self, texts: Sequence[Text], first: int = 0) -> list[Encoded]:
        """Tokens of each text or pair of texts; errors count them from `first`."""
        batch = self._cased(self._fitting(texts, first))
        if self._words is not None and (len(batch) < _MANY_TEXTS or self._cpus <= _FEW_CPUS):
            return [Encoded(*each) for each in self._words.encode(batch, self.max_length if self._truncate else None)]
        encodings = self._tokenizer.encode_batch_fast(batch)
        return [Encoded(np.array(each.ids, np.int64), np.array(each.type_ids, np.int64)) for each in encodings]

    def _fitting(self, texts: Sequence[Text], first: int) -> list[Text]:
        """`texts` as a list; InputError where there is no room for any text of a pair."""
        batch = checked_texts(texts, first)
        special = self._pair_special
        if self.max_length <= special and any(isinstance(text, tuple) for text in batch):
            raise InputError(f"max_length {self.max_length} leaves no room beside {special} special tokens of a pair")
        return batch

    def cut_off(self, texts: Sequence[Text]) -> list[IntArray]:
        """The ids of the tokens that `encode` cuts off from each text, among them special tokens; of valid texts."""
        encodings = self._tokenizer.encode_batch(self._cased(list(texts)))
        return [np.array([i for part in each.overflowing for i in part.ids], np.int64) for each in encodings]

    def locate(self, texts: Sequence[Text], first: int = 0) -> list[Located]:
        """As `encode`, with the origin of every token."""
        return [_located(each) for each in self._tokenizer.encode_batch(self._fitting(texts, first))]

    def locate_whole(self, texts: Sequence[str]) -> list[Located]:
        """As `locate`, of texts that are never cut."""
        found = []
        for each in self._tokenizer.encode_batch(checked_texts(texts, 0)):
            start, *others = map(_located, (each, *each.overflowing))
            own = np.flatnonzero(start.parts >= 0)
            end = own[-1] + 1 if len(own) else len(start.ids)
            rest = [other.take(np.flatnonzero(other.parts >= 0)) for other in others]
            found.append(_joined([start.take(np.arange(end)), *rest, start.take(np.arange(end, len(start.ids)))]))
        return found

    def locate_words(self, words: Sequence[str]) -> Located:
        """As `locate`, of one text that is a list of words already."""
        for index, word in enumerate(words):
            check_encodable(word, f"word {index}")
        return _located(self._tokenizer.encode(list(words), is_pretokenized=True))


def checked_texts(texts: Sequence[Any], first: int = 0) -> list[Text]:
    """`texts` as a list; InputError names what is no text and no pair, counted from `first`."""
    if isinstance(texts, str):
        raise InputError("texts must be a list of strings and not one string")
    for index, text in enumerate(texts, first):
        if isinstance(text, str):
            if not text.isascii():
                check_encodable(text, f"text {index}")
        elif isinstance(text, tuple) and len(text) == 2 and all(isinstance(side, str) for side in text):
            for side in text:
                check_encodable(side, f"text {index}")
        else:
            raise InputError(f"text {index} is of type {type(text).__name__} and not a string or a pair of strings")
    return list(texts)


def check_encodable(text: str, where: str) -> None:
    """InputError for half a surrogate pair, as JSON can escape one: it is no character, and UTF-8 has none."""
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"{where}: {text[error.start]!a} at character {error.start} is half a character, half of a surrogate pair"
        ) from error


def _located(encoding: Any) -> Located:
    def numbers(given: Sequence[int | None]) -> IntArray:
        return np.array([-1 if number is None else number for number in given], np.int64)

    return Located(
        ids=np.array(encoding.ids, np.int64),
        types=np.array(encoding.type_ids, np.int64),
        parts=numbers(encoding.sequence_ids),
        words=numbers(encoding.word_ids),
        offsets=np.array(encoding.offsets, np.int64).reshape(-1, 2),
    )


def _joined(pieces: Sequence[Located]) -> Located:
    """Tokens one after the other."""
    columns = [(each.ids, each.types, each.parts, each.words, each.offsets) for each in pieces]
    return Located(*map(np.concatenate, zip(*columns, strict=True)))


def trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """A range of characters without the spaces at its ends, which byte-level tokens take with them."""
    part = text[start:end]
    return start + len(part) - len(part.lstrip()), end - len(part) + len(part.rstrip())


@dataclass(frozen=True)
class Window:
    """A part of a long sequence.

    Attributes:
        tokens: what the model is given.
        first: number of the first token of the cut text in it, counted in that text.
    """

    tokens: Located
    first: int


class Allowance:
    """How many tokens windows may have together, which is more than their texts have: neighbours share some.

    Args:
        wholes: the sequences that are cut.
        most: tokens of all windows; by default `MOST_WINDOW_TOKENS`, or eight times those of the sequences.
    """

    def __init__(self, wholes: Sequence[Encoded], most: int | None = None) -> None:
        repeated = _MOST_REPEATED * sum(len(each.ids) for each in wholes)
        self._most = self._left = max(MOST_WINDOW_TOKENS, repeated) if most is None else most

    def take(self, count: int, length: int, stride: int, where: str) -> None:
        """Counts windows of a sequence. InputError if they are too many."""
        self._left -= count * max(length, _LEAST_WINDOW)
        if self._left < 0:
            raise InputError(
                f"{where}: {count} windows of {length} tokens are needed with a stride of {stride}, and all windows "
                f"together may have {self._most} tokens: take a smaller stride, or less text"
            )


def windows(
    whole: Located, part: int, length: int, stride: int, where: str, allowance: Allowance | None = None
) -> list[Window]:
    """A sequence as one or more of at most `length` tokens, which differ in what they hold of one text.

    Args:
        whole: the sequence, uncut.
        part: which text is cut, 0 or 1; every window has all other tokens.
        length: longest window.
        stride: how many tokens of the text neighbours have in common.
        where: what errors call the sequence.
        allowance: what the windows are counted in before they are made; by default one for this sequence.

    Raises:
        InputError: the other tokens leave no room for more than `stride` tokens of the text, or there would be too many
            windows.
    """
    own = np.flatnonzero(whole.parts == part)
    if len(whole.ids) <= length:
        return [Window(whole, 0)]
    others = len(whole.ids) - len(own)
    room = length - others
    if room <= stride:
        raise InputError(
            f"{where}: windows of {length} tokens have no room beside {others} other tokens and a stride of {stride}"
        )
    starts = range(0, len(own) - stride, room - stride)
    (allowance or Allowance([whole])).take(len(starts), length, stride, where)
    before, after = np.arange(own[0]), np.arange(own[-1] + 1, len(whole.ids))
    return [Window(whole.take(np.concatenate([before, own[start : start + room], after])), start) for start in starts]


def length_limit(model_dir: Path) -> int:
    """The longest sequence that a model directory allows: the smallest limit that its configuration files name."""
    config = read_config(model_dir / "config.json")
    family = families.of_type(str(config.get("model_type", "")))
    values = [config.get("max_position_embeddings") if family is None else family.length(config)]
    for name, key in (
        ("tokenizer_config.json", "model_max_length"),
        (_TRANSFORMER_FILE, "max_seq_length"),
    ):
        values.append(read_config(model_dir / name).get(key))
    limits = [int(value) for value in values if isinstance(value, int | float) and 0 < value < _UNLIMITED]
    return min(limits, default=_DEFAULT_LENGTH)


def read_config(path: Path) -> dict[str, Any]:
    """A JSON object of a model directory, empty where there is no such file; FileFormatError if it is no object."""
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise FileFormatError(f"{path}: not a JSON object: {error}") from error
    if not isinstance(content, dict):
        raise FileFormatError(f"{path}: not a JSON object")
    return content
