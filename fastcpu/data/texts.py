"""Reading texts from files, one at a time, so that a file may be larger than memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import itemgetter
from pathlib import Path

import numpy as np

from fastcpu.data import splits
from fastcpu.data.contamination import Item, texts_in
from fastcpu.data.rows import Row, lines, opened, read_rows
from fastcpu.errors import InputError
from fastcpu.files import check_regular

PLAIN = (".txt", ".text")
"""Of files without columns: each line is a text."""
TABLES = (".tsv", ".csv", ".json", ".jsonl", ".arrow", ".parquet")
SUFFIXES = (*PLAIN, *TABLES)
SAMPLED_CHARACTERS = 1 << 29
"""A sample has at most so many characters, however long its texts are."""


def read_texts(paths: Sequence[Path], columns: Sequence[str] = ()) -> Iterator[str]:
    """The texts of files and folders, in order, stripped and not empty.

    A ``.txt`` file holds one text per line. Tables (``.csv``, ``.tsv`` with a header, ``.arrow``, ``.parquet``) and
    ``.json`` (a list of objects) or ``.jsonl`` need ``columns``: the names of those that hold texts; each cell is a
    text of its own. Of a folder that `datasets` saved, the part ``train`` is read, of others all files with such a
    suffix, by name. A null is no text, as an empty cell is.

    Raises:
        InputError: a file cannot be read or is not of its format, a line has more than `fastcpu.data.rows.MAX_LINE`
            characters, a column is missing, or a cell is not a text; file and line are named.
    """
    for path in paths:
        for file in text_files(path):
            yield from _read(file, columns)


def text_files(path: Path) -> list[Path]:
    """What `read_texts` reads of a path."""
    if path.is_dir():
        if splits.is_saved(path):
            return list(splits.data_files(path, "train"))
        files = sorted(each for each in path.iterdir() if each.suffix in SUFFIXES and each.is_file())
        if not files:
            raise InputError(f"{path}: no {', '.join(SUFFIXES)} file in this folder")
        return files
    check_regular(path)
    if path.suffix not in SUFFIXES:
        raise InputError(f"{path}: texts are read from {', '.join(SUFFIXES)} files")
    return [path]


def _read(path: Path, columns: Sequence[str]) -> Iterator[str]:
    plain = path.suffix in PLAIN
    if not plain and not columns:
        raise InputError(f"{path}: name the columns that hold texts (--columns)")
    cells = _lines(path) if plain else (_cell(row, column) for row in read_rows(path) for column in columns)
    for cell in cells:
        text = cell.strip()
        if text:
            yield text


def _lines(path: Path) -> Iterator[str]:
    with opened(path) as file:
        yield from lines(path, file)


def _cell(row: Row, column: str) -> str:
    cell = row.cell(column)
    if cell is None:
        return ""
    if not isinstance(cell, str):
        raise InputError(f"{row.place}: column {column!r} is {cell!r:.60} and not a text")
    try:
        cell.encode()
    except UnicodeEncodeError as error:  # JSON can escape one
        raise InputError(
            f"{row.place}: column {column!r}: {cell[error.start]!a} is half of a surrogate pair"
        ) from error
    return cell


def sample(
    texts: Iterable[Item], count: int, seed: int, texts_of: Callable[[Item], Sequence[str]] = texts_in
) -> list[Item]:
    """At most ``count`` of the texts, each with the same chance, in their order.

    Reservoir sampling (Vitter, 1985, algorithm R). Memory is bounded by ``count`` and `SAMPLED_CHARACTERS`: what would
    be more leaves the sample again at random, and the sample stays as small as it is then. ``texts_of`` gives the texts
    of an item that is neither a text nor a pair of them.
    """

    def size(item: Item) -> int:
        return sum(map(len, texts_of(item)))

    random = np.random.default_rng((seed, count))
    kept: list[tuple[int, Item]] = []
    characters = 0
    for index, text in enumerate(texts):
        if len(kept) < count:
            kept.append((index, text))
        else:
            place = int(random.integers(index + 1))
            if place >= count:
                continue
            characters -= size(kept[place][1])
            kept[place] = (index, text)
        characters += size(text)
        while characters > SAMPLED_CHARACTERS:
            place = int(random.integers(len(kept)))
            kept[place], kept[-1] = kept[-1], kept[place]
            characters -= size(kept.pop()[1])
            count = len(kept)
    kept.sort(key=itemgetter(0))
    return [text for _, text in kept]
