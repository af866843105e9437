"""Reading texts from files, one at a time, so that a file may be larger than memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from fastcpu.data.rows import read_rows
from fastcpu.errors import InputError

SUFFIXES = (".txt", ".text", ".tsv", ".csv", ".json", ".jsonl")


def read_texts(paths: Sequence[Path], columns: Sequence[str] = ()) -> Iterator[str]:
    """The texts of files and folders, in order, stripped and not empty.

    A ``.txt`` file holds one text per line. Tables (``.csv``, ``.tsv`` with a header) and ``.json`` (a list of objects)
    or ``.jsonl`` need ``columns``: the names of those that hold texts; each cell is a text of its own. Of a folder, all
    files with such a suffix are read, by name.

    Raises:
        InputError: a file cannot be read or is not of its format, or a column is missing; file and line are named.
    """
    for path in paths:
        for file in _files(path):
            yield from _read(file, columns)


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        files = sorted(each for each in path.iterdir() if each.suffix in SUFFIXES and each.is_file())
        if not files:
            raise InputError(f"{path}: no {', '.join(SUFFIXES)} file in this folder")
        return files
    if path.suffix not in SUFFIXES:
        raise InputError(f"{path}: texts are read from {', '.join(SUFFIXES)} files")
    return [path]


def _read(path: Path, columns: Sequence[str]) -> Iterator[str]:
    plain = path.suffix in (".txt", ".text")
    if not plain and not columns:
        raise InputError(f"{path}: name the columns that hold texts (--columns)")
    cells = _lines(path) if plain else (row.cell(column) for row in read_rows(path) for column in columns)
    for cell in cells:
        text = str(cell).strip()
        if text:
            yield text


def _lines(path: Path) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8") as file:
            yield from file
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 at byte {error.start} of a block: {error.reason}") from error


def sample(texts: Iterable[str], count: int, seed: int) -> list[str]:
    """At most ``count`` of the texts, each with the same chance, in their order; memory is bounded by ``count``.

    Reservoir sampling (Vitter, 1985, algorithm R).
    """
    random = np.random.default_rng((seed, count))
    kept: list[tuple[int, str]] = []
    for index, text in enumerate(texts):
        if len(kept) < count:
            kept.append((index, text))
            continue
        place = int(random.integers(index + 1))
        if place < count:
            kept[place] = (index, text)
    return [text for _, text in sorted(kept)]
