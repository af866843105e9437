"""Training texts, and the labels that the data has for them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fastcpu.data import read_texts
from fastcpu.data.rows import read_rows
from fastcpu.data.splits import all_files, data_files
from fastcpu.data.texts import PLAIN, text_files
from fastcpu.distill.losses.loss import NO_LABEL
from fastcpu.errors import InputError
from fastcpu.eval import classify
from fastcpu.eval.data import Table, check_columns, class_names_of, find_columns, parse_columns
from fastcpu.eval.labels import LabelMap
from fastcpu.tasks.labels import label_names, problem_type
from fastcpu.tasks.tokenizer import read_config

_SENTENCES = {role: column for role, column in classify.COLUMNS.items() if role != "label"}
_UNKNOWN = (None, "", -1, "-1")
"""Cells of a text without a label; -1 is what `datasets` writes."""


class Example(NamedTuple):
    """A training text; its label by the model's numbers, or ``NO_LABEL``."""

    text: str
    label: int = NO_LABEL


def reads_tables(data: Sequence[str], columns: Sequence[str], task: str | None) -> bool:
    """True if data is read as `fastcpu eval --task classify` reads it, each row a text with a label.

    It is where ``columns`` says which column plays which role (``sentence1=text,label=class``), and where the task is
    to classify, no columns are named and no file holds plain lines.
    """
    if columns:
        return any("=" in column for column in columns)
    return task == "classify" and bool(data) and not any(Path(path).suffix in PLAIN for path in data)


def training_files(data: Sequence[str], tables: bool) -> list[Path]:
    """The files with training texts: of a folder with labelled tables those of the split ``train``.

    Raises:
        InputError: there is none, or not of a kind that is read.
    """
    paths = [Path(path) for path in data]
    return [file for path in paths for file in (data_files(path, "train") if tables else text_files(path))]


def excluded_files(exclude: Sequence[str]) -> list[Path]:
    """The files with evaluation sentences: of a folder all, whatever their split."""
    found = {Path(path): all_files(Path(path)) for path in exclude}
    for path, files in found.items():
        if not files:
            raise InputError(f"{path}: no file of evaluation sentences in this folder")
    return [file for files in found.values() for file in files]


def read_examples(files: Sequence[Path], columns: Sequence[str], labels: Sequence[str] | None) -> Iterator[Example]:
    """The rows of tables with their labels, and the lines of ``.txt`` files, which have none.

    Args:
        files: what `training_files` has found.
        columns: ``role=column`` of the roles ``sentence1`` and ``label``, where tables call them something else.
        labels: names of the model's labels; None if labels are not needed.

    Raises:
        InputError: what `fastcpu.eval.data` finds, a label that the model does not have, or pairs of texts.
    """
    given = parse_columns(",".join(columns))
    for file in files:
        if file.suffix in PLAIN:
            yield from map(Example, read_texts([file]))
        else:
            yield from _rows(file, given, labels)


def read_excluded(files: Sequence[Path], columns: Sequence[str]) -> Iterator[str]:
    """The evaluation sentences of files: the lines of ``.txt`` files, and of tables the cells of some columns.

    These are the columns that are named and that a table has, be it by a role; or else those that hold texts by their
    names, as in `fastcpu eval --task classify`.

    Raises:
        InputError: a file that cannot be read, or a table with none of these columns.
    """
    named = {column.rpartition("=")[2] for column in columns if not column.startswith("label=")}
    header = not any(name.isdecimal() for name in named)
    for file in files:
        if file.suffix in PLAIN:
            yield from read_texts([file])
            continue
        found: Sequence[str] | None = None
        for row in read_rows(file, header):
            if found is None:
                found = [name for name in row.cells if name in named]
                found = found or list(find_columns(row, _SENTENCES, {}).values())
            yield from (str(cell) for cell in map(row.cell, found) if cell is not None)


def _rows(path: Path, columns: dict[str, str], labels: Sequence[str] | None) -> Iterator[Example]:
    roles = {role: column for role, column in classify.COLUMNS.items() if role != "label" or labels is not None}
    header = check_columns(classify.COLUMNS, columns)
    columns = {role: column for role, column in columns.items() if role in roles}
    table: Table | None = None
    for row in read_rows(path, header):
        if table is None:
            found = find_columns(row, roles, columns)
            if "sentence2" in found:
                raise InputError(f"{row.place}: pairs of texts ({found['sentence2']!r}) cannot be trained with")
            table = Table([], found, class_names_of([path], found))
            numbers = LabelMap(labels or (), table.classes.get("label", ()))
        text = " ".join(table.text(row, "sentence1").split())
        value: Any = row.cell(found["label"]) if labels is not None else None
        known = (value.strip() if isinstance(value, str) else value) not in _UNKNOWN
        where = f"{row.place}: column {found.get('label')!r}"
        yield Example(text, numbers.number(value, where) if known else NO_LABEL)
    if table is None:
        raise InputError(f"{path}: holds no rows")


def labels_of(model: Path) -> tuple[str, ...]:
    """The names of a classifier's labels, by number.

    Raises:
        InputError: the model has no head for sequence classification, or its labels do not exclude each other.
    """
    config = read_config(model / "config.json")
    named = (config.get("architectures") or [""])[0]
    if (model / "modules.json").is_file() or not str(named).endswith("ForSequenceClassification"):
        raise InputError(
            f"{str(model)!r}: labels are learned by models with a head for sequence classification, and config.json "
            f"names the architecture {named or 'none'!r}"
        )
    listed = config.get("id2label")
    channels = len(listed) if isinstance(listed, dict) else 2  # what transformers leaves out is its default
    problem = problem_type(model, channels)
    if problem != "single_label_classification":
        raise InputError(f"{str(model)!r}: made for {problem}; labels are learned by single_label_classification")
    return label_names(model, channels)
