"""Rows of tables and lists of objects, one at a time, so that a file may be larger than memory."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from fastcpu.errors import InputError
from fastcpu.files import check_regular

_ARROW_SUFFIXES = (".arrow", ".parquet")

MAX_LINE = 1 << 24
"""Most characters of a line of a text file, and of a cell of a table."""
MAX_LIST = 1 << 30
"""Most bytes of a .json file, which is read as a whole."""


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
        place: file and number of the line, or of the object or row, for errors.
        cells: by the name of the column, or by its number from "1" in a table without a header. Cells of .csv, .tsv and
            .txt are strings.
    """

    place: str
    cells: Mapping[str, Any]

    def cell(self, column: str) -> Any:
        """InputError if there is no such column."""
        if column not in self.cells:
            raise InputError(f"{self.place}: no column {column!r}; there are {', '.join(self.cells) or 'none'}")
        return self.cells[column]


def read_rows(path: Path, header: bool = True) -> Iterator[Row]:
    """The rows of a file, in order.

    ``.csv`` is separated by commas and may have quotes; ``.tsv`` and ``.txt`` are separated by tabs, without quotes, as
    GLUE writes its tables. ``.jsonl`` has an object per line and ``.json`` is a list of objects. ``.arrow`` and
    ``.parquet`` need pyarrow.

    Args:
        path: the file; its suffix says what it is.
        header: whether the first line of a table names its columns.

    Raises:
        InputError: the file cannot be read or is not of its format; file and line are named.
        MissingPackageError: pyarrow is needed and not installed.
    """
    if path.suffix in _ARROW_SUFFIXES:
        check_regular(path)
        from fastcpu.data.arrow import read_arrow

        yield from read_arrow(path)
        return
    reader = _READERS.get(path.suffix)
    if reader is None:
        raise InputError(f"{path}: rows are read from {', '.join(SUFFIXES)} files")
    with opened(path) as file:
        yield from reader(path, file, header)


@contextmanager
def opened(path: Path) -> Iterator[TextIO]:
    """A UTF-8 file for reading, line ends as they are. InputError names what is wrong with it, in the block too."""
    check_regular(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield file
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 at byte {error.start} of a block: {error.reason}") from error


def lines(path: Path, file: TextIO) -> Iterator[str]:
    """The lines of a file; InputError for one of more than `MAX_LINE` characters, before it fills the memory."""
    number = 0
    while line := file.readline(MAX_LINE + 1):
        number += 1
        if len(line) > MAX_LINE:
            raise InputError(f"{path}:{number}: the line has more than {MAX_LINE:,} characters")
        yield line


def _commas(path: Path, file: TextIO, header: bool) -> Iterator[Row]:
    return _table(path, csv.reader(lines(path, file), strict=True), header)


def _tabs(path: Path, file: TextIO, header: bool) -> Iterator[Row]:
    return _table(path, csv.reader(lines(path, file), delimiter="\t", quoting=csv.QUOTE_NONE), header)


def _table(path: Path, reader: Any, header: bool) -> Iterator[Row]:
    try:
        names = (_cells(reader) or []) if header else None
        while (cells := _cells(reader)) is not None:
            if not cells:
                continue
            place = f"{path}:{reader.line_num}"
            if names is None:
                yield Row(place, {str(number): cell for number, cell in enumerate(cells, 1)})
                continue
            if len(cells) != len(names):
                surplus = f", the first surplus one is {cells[len(names)]!r:.60}" if len(cells) > len(names) else ""
                raise InputError(f"{place}: {len(cells)} columns, but the header has {len(names)}{surplus}")
            yield Row(place, dict(zip(names, cells, strict=True)))
    except csv.Error as error:
        raise InputError(f"{path}:{reader.line_num}: {error}") from error


def _cells(reader: Any) -> list[str] | None:
    """The next row of a reader of `csv`, None after the last; a passage may have more than 128 KiB, the usual limit,
    but not more than `MAX_LINE`: a quote that nobody closes would take the rest of the file.

    The limit is one for the whole process, and is what it was when this returns.
    """
    limit = csv.field_size_limit(MAX_LINE)
    try:
        return next(reader, None)
    finally:
        csv.field_size_limit(limit)


def _lines(path: Path, file: TextIO, header: bool) -> Iterator[Row]:  # noqa: ARG001  (one signature for all readers)
    for number, line in enumerate(lines(path, file), 1):
        if line.strip():
            yield _object(f"{path}:{number}", _parsed(f"{path}:{number}", line))


def _list(path: Path, file: TextIO, header: bool) -> Iterator[Row]:  # noqa: ARG001
    if os.fstat(file.fileno()).st_size > MAX_LIST:
        raise InputError(f"{path}: a list of more than {MAX_LIST:,} bytes; write one object per line (.jsonl)")
    content = _parsed(str(path), file.read())
    if not isinstance(content, list):
        raise InputError(f"{path}: not a list of objects")
    for number, item in enumerate(content, 1):
        yield _object(f"{path}: object {number}", item)


def _object(place: str, item: Any) -> Row:
    if not isinstance(item, dict):
        raise InputError(f"{place}: not a JSON object")
    return Row(place, item)


def _parsed(place: str, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise InputError(f"{place}: not JSON: {error}") from error
    except RecursionError as error:
        raise InputError(f"{place}: not JSON: nested too deeply") from error


_READERS: Mapping[str, Callable[[Path, TextIO, bool], Iterable[Row]]] = {
    ".csv": _commas,
    ".tsv": _tabs,
    ".txt": _tabs,
    ".json": _list,
    ".jsonl": _lines,
}
SUFFIXES = (*_READERS, *_ARROW_SUFFIXES)
