"""Data sets: where they are, which columns a task reads, and how broken ones are reported."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from fastcpu.data.rows import Row, read_rows
from fastcpu.errors import InputError
from fastcpu.files import check_regular

DATA_VARIABLE = "FASTCPU_DATA"


def data_folder(path: Path | None, name: str | None) -> Path:
    """`path`, or the folder `name` of the data collection that FASTCPU_DATA names."""
    if path is None:
        if name is None:
            raise InputError("this task has no default data set: give --data")
        root = os.environ.get(DATA_VARIABLE)
        if not root:
            raise InputError(f"no data set: give --data, or set {DATA_VARIABLE} to a folder that holds {name}/")
        path = Path(root) / name
    if not path.exists():
        raise InputError(f"data set {str(path)!r} does not exist")
    return path


# ---- tables ----


@dataclass(frozen=True)
class Column:
    """A column that a task reads.

    Attributes:
        names: what it is called, where --columns does not say.
        required: whether a table without it is refused.
    """

    names: tuple[str, ...]
    required: bool = True


@dataclass(frozen=True)
class Table:
    """Rows, and which of their columns play the roles of a task.

    Attributes:
        rows: at least one.
        columns: name of the column by role; a role that is not required may be missing.
        classes: by role, what the numbers in it stand for, where the data set says so.
    """

    rows: list[Row]
    columns: dict[str, str]
    classes: dict[str, tuple[str, ...]]

    def cell(self, row: Row, role: str) -> Any:
        """InputError if the row has no such column or nothing in it."""
        value = row.cell(self.columns[role])
        if value is None:
            raise self.error(row, role, "is empty")
        return value

    def text(self, row: Row, role: str) -> str:
        """A cell that must be a text with something in it."""
        value = self.cell(row, role)
        if not isinstance(value, str) or not value.strip():
            raise self.error(row, role, f"is {shown(value)} and not a text")
        return value.strip()

    def number(self, row: Row, role: str) -> float:
        """A cell that must be a finite number."""
        value = self.cell(row, role)
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            number = float("nan")
        if not isfinite(number):
            raise self.error(row, role, f"is {shown(value)} and not a number")
        return number

    def places(self, role: str) -> list[str]:
        """Where the cells of a role are written, for errors."""
        return [f"{row.place}: column {self.columns[role]!r}" for row in self.rows]

    def error(self, row: Row, role: str, what: str) -> InputError:
        """An error that names the place and the column."""
        return InputError(f"{row.place}: column {self.columns[role]!r} {what}")


def shown(value: Any) -> str:
    """A value in an error, not too long."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def parse_columns(text: str) -> dict[str, str]:
    """``role=column,role=column``; InputError for anything else."""
    columns: dict[str, str] = {}
    for part in filter(None, text.split(",")):
        role, sign, column = part.partition("=")
        if not (role and sign and column) or role in columns:
            raise InputError(f"columns are given as role=column,role=column with every role once, not {text!r}")
        columns[role] = column
    return columns


def read_table(files: Sequence[Path], roles: Mapping[str, Column], columns: Mapping[str, str]) -> Table:
    """All rows of the files of a data set.

    Args:
        files: of one kind.
        roles: what the task reads.
        columns: names of columns by role, where they differ from those in `roles`. Numbers, from 1, count the columns
            of a table without a header.

    Raises:
        InputError: a file cannot be read, a column is missing, or there is no row.
    """
    header = check_columns(roles, columns)
    rows = [row for file in files for row in read_rows(file, header)]
    if not rows:
        raise InputError(f"{files[0]}: holds no rows")
    found = find_columns(rows[0], roles, columns)
    return Table(rows, found, class_names_of(files, found))


def check_columns(roles: Mapping[str, Column], columns: Mapping[str, str]) -> bool:
    """Whether tables have a header: they have none where `columns` are numbers. InputError for an unknown role."""
    unknown = sorted(set(columns) - set(roles))
    if unknown:
        raise InputError(f"no column {unknown[0]!r} is read by this task; it reads {', '.join(roles)}")
    if len({name.isdecimal() for name in columns.values()}) > 1:
        raise InputError("columns are either all names or all numbers")
    return not _numbered(columns)


def _numbered(columns: Mapping[str, str]) -> bool:
    return any(name.isdecimal() for name in columns.values())


def find_columns(row: Row, roles: Mapping[str, Column], columns: Mapping[str, str]) -> dict[str, str]:
    """The name of the column by role, from the first row of a table; InputError if a required one is missing."""
    found = {}
    for role, column in roles.items():
        names = (columns[role],) if role in columns else () if _numbered(columns) else column.names
        name = next((name for name in names if name in row.cells), None)
        if name is not None:
            found[role] = name
        elif column.required or role in columns:
            wanted = " or ".join(map(repr, names)) or repr(role)
            there = ", ".join(row.cells)
            raise InputError(f"{row.place}: no column {wanted} for {role}; there are {there} (--columns {role}=NAME)")
    return found


def class_names_of(files: Sequence[Path], columns: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """By role, what the numbers in its column stand for, where the files say so."""
    if files[0].suffix not in (".arrow", ".parquet"):
        return {}
    from fastcpu.data.arrow import class_names

    names = class_names(files[0])
    return {role: names[column] for role, column in columns.items() if column in names}


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a UTF-8 file that are not empty, with their numbers from 1."""
    check_regular(path)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 at byte {error.start}") from error
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield number, line.rstrip("\r")
