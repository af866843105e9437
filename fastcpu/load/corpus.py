"""The texts of a run: from files as they are, or made of a given number of tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastcpu.errors import InputError

DISTINCT = 4096
"""How many different texts a run has at most, unless asked otherwise."""
MAX_TOKENS = 1 << 16

# Common words; most tokenizers of English have a token for each.
_COMMON = """
the of and to in is was for that on with as by at from it his her are be this which or had not but were one have they
all their has been there who when more no if out so up into them then its only some could time these two may first any
my now such like other how than our over man me even most made after also did many off before must well back through
years where much your way down should because long each just those people too little state good very make world still
own see men work here get both between life being under never day same another know while last might us great old year
come since against go came right used take three
"""
_WORDS = _COMMON.split()
_MADE_MEDIAN, _MADE_SPREAD, _MADE_LONGEST = 12.0, 0.8, 200  # words of a made text, log-normal
_TRIALS = 64


@dataclass(frozen=True)
class Corpus:
    """Texts in the order in which requests take them.

    Attributes:
        texts: one or more, none empty.
        source: where they are from, for the report.
        lengths: of each text in tokens, special tokens included; None if no tokenizer was given.
    """

    texts: Sequence[str]
    source: str = "given texts"
    lengths: Sequence[int] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.texts, str):
            raise InputError("texts must be a list of strings and not one string")
        object.__setattr__(self, "texts", tuple(self.texts))
        if not self.texts:
            raise InputError("there are no texts to send")
        for index, text in enumerate(self.texts):
            if not text or type(text) is not str:
                raise InputError(f"text {index} is empty or not a string")
            try:
                text.encode()
            except UnicodeEncodeError as error:
                raise InputError(f"text {index} has half of a surrogate pair, which UTF-8 lacks") from error

    def describe(self) -> dict[str, Any]:
        """Their number, and the distribution of their lengths in characters and, if known, tokens."""
        return {
            "source": self.source,
            "distinct": len(self.texts),
            "characters": _distribution([len(text) for text in self.texts]),
            "tokens": None if self.lengths is None else _distribution(self.lengths),
        }


def make_corpus(
    paths: Sequence[Path | str] = (),
    columns: Sequence[str] = (),
    *,
    tokens: int | None = None,
    tokenizer: Path | str | None = None,
    distinct: int = DISTINCT,
    seed: int = 0,
) -> Corpus:
    """The texts of a run, shuffled by the seed.

    Args:
        paths: files or folders of texts, which `fastcpu.data.read_texts` reads; without any, texts are made of common
            English words.
        columns: of tables, those that hold texts.
        tokens: if given, every text has exactly so many tokens, special tokens included: words of the texts, or common
            words, are put together.
        tokenizer: folder with a tokenizer.json, or that file; it also counts the tokens of texts as they are.
        distinct: how many texts there are at most; of more, a sample is taken, each with the same chance.
        seed: of sample, order and made texts.

    Raises:
        InputError: there are no texts, or a file or an option is wrong.
        FileFormatError: the tokenizer is damaged.
        MissingPackageError: `tokenizers` is needed and not installed.
    """
    if distinct < 1:
        raise InputError(f"distinct must be at least 1, not {distinct}")
    if seed < 0:
        raise InputError(f"seed must not be negative, but is {seed}")
    if columns and not paths:
        raise InputError("columns are those of files of texts (--texts)")
    if tokens is not None and tokenizer is None:
        raise InputError("a number of tokens needs a tokenizer (--tokenizer)")
    count = None if tokenizer is None else _counter(Path(tokenizer))
    random = np.random.default_rng((seed, 1))
    texts: Sequence[str]
    if paths:
        from fastcpu.data.texts import read_texts, sample

        found = sample(read_texts([Path(path) for path in paths], columns), distinct, seed)
        source = ", ".join(map(str, paths))
        if not found:
            raise InputError(f"{source}: there is no text in it")
        texts = [found[place] for place in random.permutation(len(found))]
    else:
        source = "common words"
        texts = _made(distinct, random)
    if tokens is not None and count is not None:
        return Corpus(tuple(_exact(count, tokens, distinct, texts)), f"words of {source}", (tokens,) * distinct)
    return Corpus(tuple(texts), source, None if count is None else tuple(map(count, texts)))


def _counter(path: Path) -> Callable[[str], int]:
    """Counts the tokens of a text, special tokens included and however many they are."""
    from fastcpu.tasks.tokenizer import Tokenizer

    folder = path
    if path.is_file():
        if path.name != "tokenizer.json":
            raise InputError(f"{path}: a tokenizer is a folder with tokenizer.json, or that file")
        folder = path.parent
    tokenizer = Tokenizer(folder, truncate=False)
    return lambda text: len(tokenizer.encode([text])[0].ids)


def _made(count: int, random: np.random.Generator) -> list[str]:
    lengths = np.exp(random.normal(np.log(_MADE_MEDIAN), _MADE_SPREAD, count)).round().clip(1, _MADE_LONGEST)
    places = random.integers(len(_WORDS), size=int(lengths.sum()))
    words = iter([_WORDS[place] for place in places])
    return [" ".join(next(words) for _ in range(int(length))) for length in lengths]


def _exact(count: Callable[[str], int], tokens: int, number: int, texts: Sequence[str]) -> Iterator[str]:
    """Texts of exactly `tokens` tokens, of the words of `texts` in their order, again and again."""
    if not 1 <= tokens <= MAX_TOKENS:
        raise InputError(f"tokens must be from 1 to {MAX_TOKENS}, not {tokens}")
    special = count("")
    if tokens <= special:
        raise InputError(f"{tokens} tokens leave no room beside {special} special tokens")
    filler = next((word for word in _WORDS if count(f"{word} {word} {word}") == special + 3), None)
    if filler is None:
        raise InputError("the tokenizer has no token for any common English word, so that texts cannot be made")
    words = [word for text in texts for word in text.split()]
    place, per_word = 0, 1.5
    for _ in range(number):
        text, place, per_word = _one(count, tokens, special, filler, words, place, per_word)
        yield text


def _one(
    count: Callable[[str], int],
    tokens: int,
    special: int,
    filler: str,
    words: Sequence[str],
    place: int,
    per_word: float,
) -> tuple[str, int, float]:
    """A text from the word at `place` on, the place after its words, and the tokens per word that it had."""
    taken = max(1, round((tokens - special) / per_word))
    chosen = [words[(place + step) % len(words)] for step in range(taken)]
    for _ in range(_TRIALS):
        text = " ".join(chosen)
        found = count(text)
        if found == tokens:
            return text, (place + taken) % len(words), max(1.0, (found - special) / len(chosen))
        if found < tokens:
            chosen += [filler] * (tokens - found)
        else:
            excess = max(1, int((found - tokens) / max(1.0, (found - special) / len(chosen))))
            chosen = chosen[: max(0, len(chosen) - excess)]
    raise InputError(f"the tokenizer makes no text of exactly {tokens} tokens of {words[place]!r} and what follows")


def _distribution(values: Sequence[int]) -> dict[str, float]:
    array = np.asarray(values)
    p50, p95, p99 = (int(np.percentile(array, share, method="inverted_cdf")) for share in (50, 95, 99))
    mean = round(float(array.mean()), 2)
    return {"min": int(array.min()), "mean": mean, "p50": p50, "p95": p95, "p99": p99, "max": int(array.max())}
