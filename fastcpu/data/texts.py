"""Reading texts from files, one at a time, so that a file may be larger than memory."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

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
    if path.suffix not in (".txt", ".text") and not columns:
        raise InputError(f"{path}: name the columns that hold texts (--columns)")
    try:
        with path.open(encoding="utf-8", newline="") as file:
            if path.suffix in (".txt", ".text"):
                cells: Iterable[Any] = file
            elif path.suffix in (".csv", ".tsv"):
                cells = _table(path, file, "\t" if path.suffix == ".tsv" else ",", columns)
            else:
                cells = _objects(path, file, columns)
            for cell in cells:
                text = str(cell).strip()
                if text:
                    yield text
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 at byte {error.start} of a block: {error.reason}") from error


def _table(path: Path, lines: Iterable[str], delimiter: str, columns: Sequence[str]) -> Iterator[str]:
    reader = (
        csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE)  # as GLUE writes its tables
        if delimiter == "\t"
        else csv.reader(lines, delimiter=delimiter)
    )
    header = next(reader, [])
    places = [_place(path, header, column) for column in columns]
    try:
        for row in reader:
            if not row:
                continue
            if len(row) < len(header):
                raise InputError(f"{path}:{reader.line_num}: {len(row)} columns, but the header has {len(header)}")
            yield from (row[place] for place in places)
    except csv.Error as error:
        raise InputError(f"{path}:{reader.line_num}: {error}") from error


def _place(path: Path, header: Sequence[str], column: str) -> int:
    if column not in header:
        raise InputError(f"{path}: no column {column!r}; there are {', '.join(header) or 'none'}")
    return header.index(column)


def _objects(path: Path, lines: Iterable[str], columns: Sequence[str]) -> Iterator[Any]:
    if path.suffix == ".jsonl":
        rows: Iterable[tuple[int, Any]] = (
            (number, _parsed(path, number, line)) for number, line in enumerate(lines, 1) if line.strip()
        )
    else:
        content = _parsed(path, 1, "".join(lines))
        if not isinstance(content, list):
            raise InputError(f"{path}: not a list of objects")
        rows = enumerate(content, 1)
    for number, row in rows:
        for column in columns:
            if not isinstance(row, dict) or column not in row:
                raise InputError(f"{path}: object {number} has no {column!r}")
            yield row[column]


def _parsed(path: Path, number: int, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise InputError(f"{path}:{number}: not JSON: {error}") from error


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
