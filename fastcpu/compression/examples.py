"""Training texts and pairs of texts, and the labels that the data has for them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from fastcpu.compression.source import kind
from fastcpu.data import read_texts
from fastcpu.data.contamination import texts_in
from fastcpu.data.rows import Row, opened, read_rows
from fastcpu.data.splits import all_files, data_files
from fastcpu.data.texts import PLAIN, text_files
from fastcpu.distill.losses.loss import NO_ANSWER, NO_LABEL
from fastcpu.errors import InputError
from fastcpu.eval import classify, qa
from fastcpu.eval.data import Column, Table, check_columns, class_names_of, find_columns, parse_columns, shown
from fastcpu.eval.labels import LabelMap
from fastcpu.tasks.labels import label_names, problem_type
from fastcpu.tasks.tokenizer import Text, check_encodable, read_config

Form = Literal["classify", "qa"]
"""As which task of `fastcpu eval` tables are read: one or two sentences with a label, or a question and its passage."""

_COLUMNS = {"classify": classify.COLUMNS, "qa": qa.COLUMNS}
_TEXTS = {"classify": ("sentence1", "sentence2"), "qa": ("question", "context")}
_LABELS = {"classify": "label", "qa": "answers"}
_UNKNOWN = (None, "", -1, "-1")
"""Cells of a text without a label; -1 is what `datasets` writes."""
_NONE = (NO_LABEL, NO_LABEL)


class Example(NamedTuple):
    """A training text, or a pair of them, and what the data says of it.

    Attributes:
        text: one or two.
        label: a class by the model's numbers, or ``NO_LABEL``; or the characters [begin, end) of the answer in the
            second text, ``NO_LABEL`` or ``NO_ANSWER`` twice.
    """

    text: Text
    label: int | tuple[int, int] = NO_LABEL

    @property
    def texts(self) -> Sequence[str]:
        """The text, or both."""
        return texts_in(self.text)


def table_form(data: Sequence[str], columns: Sequence[str], task: str | None) -> Form | None:
    """As which task tables are read, a row an example; None where each cell is a text of its own.

    They are where ``columns`` says which column plays which role (``sentence1=text,label=class``,
    ``question=q,context=c``), and where the task is one of these, no columns are named and no file holds plain lines.
    """
    if columns:
        if not any("=" in column for column in columns):
            return None
        return "qa" if any(column.partition("=")[0] in _COLUMNS["qa"] for column in columns) else "classify"
    if not data or any(Path(path).suffix in PLAIN for path in data):
        return None
    return "classify" if task == "classify" else "qa" if task == "qa" else None


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


def read_examples(
    files: Sequence[Path],
    columns: Sequence[str],
    labels: Sequence[str] | None,
    form: Form = "classify",
    pairs: bool = True,
) -> Iterator[Example]:
    """The rows of tables with their labels, and the lines of ``.txt`` files, which have none.

    Args:
        files: what `training_files` has found.
        columns: ``role=column`` of the roles of ``form``, where tables call them something else.
        labels: names of the model's labels, none for answers; None if labels are not needed.
        form: as which task tables are read. Files of SQuAD are read as well where it is ``qa``.
        pairs: whether the model reads pairs of texts.

    Raises:
        InputError: what `fastcpu.eval.data` finds, a label that the model does not have, or pairs of texts for a model
            that reads none.
    """
    given = parse_columns(",".join(columns))
    for file in files:
        if file.suffix in PLAIN:
            label = _NONE if form == "qa" and labels is not None else NO_LABEL
            yield from (Example(_spaced(text, str(file)), label) for text in read_texts([file]))
            continue
        questions = _questions(file, labels is not None) if form == "qa" else None
        yield from _rows(file, given, labels, form, pairs) if questions is None else questions


def _questions(file: Path, answered: bool) -> list[Example] | None:
    """The questions of a file of SQuAD with their passages, and answers if asked; None if it is a table."""
    found = qa.official(file) if file.suffix == ".json" and _is_object(file) else None
    if found is None:
        return None
    examples = []
    for (question, passage), answers, starts, key in zip(
        found.inputs, found.answers, found.starts, found.keys, strict=True
    ):
        where = f"{file}: question {key}"
        span = _span(passage, answers, starts, where) if answered else NO_LABEL
        examples.append(Example((_spaced(question, where), _spaced(passage, where)), span))
    return examples


def _is_object(file: Path) -> bool:
    """Whether a JSON file holds an object, by its first character."""
    with opened(file) as text:
        while (start := text.read(1)).isspace():
            pass
    return start == "{"


def _span(passage: str, answers: Sequence[str], starts: Any, where: str) -> tuple[int, int]:
    """The characters of the first answer that is not empty, in a passage whose spaces are `_spaced`.

    Args:
        starts: where each answer begins; null, or a list of nulls: at the first place that has it.

    Raises:
        InputError: the passage does not have the answer, or has it elsewhere, or ``starts`` does not say where.
    """
    place = next((place for place, text in enumerate(answers) if text.strip()), None)
    if place is None:
        return NO_ANSWER, NO_ANSWER
    given, listed = answers[place], starts if isinstance(starts, list) else [starts]
    fits, known = len(listed) == len(answers), any(each is not None for each in listed)
    start = listed[place] if fits else None
    if start is None and (fits or not known):
        given = given.strip()
        start = passage.find(given)
    elif type(start) is not int:
        raise InputError(f"{where}: answer_start is {shown(starts)}, not a number of a character for each answer")
    if start < 0 or not passage.startswith(given, start):
        raise InputError(f"{where}: the passage does not have the answer {given!r:.60}, or not where answer_start says")
    begin = start + len(given) - len(given.lstrip())
    answer = _spaced(given, where)
    first = len(_spaced(f"{passage[:begin]}{answer[0]}", where)) - 1
    return first, first + len(answer)


def _spaced(text: str, where: str) -> str:
    """A text in one line, without tabs; InputError for half of a character."""
    check_encodable(text, where)
    return " ".join(text.split())


def read_excluded(files: Sequence[Path], columns: Sequence[str], form: Form | None = None) -> Iterator[str]:
    """The evaluation sentences of files: the lines of ``.txt`` files, and of tables the cells of some columns.

    These are the columns that are named and that a table has, be it by the role of a text; and, unless columns are
    named without roles, those of the other roles by their usual names in the data of this form, by default
    ``classify``. Files of SQuAD are read as well where it is ``qa``.

    Raises:
        InputError: a file that cannot be read, or a table with none of these columns.
    """
    named = {column for column in columns if "=" not in column}
    sentences = {role: _COLUMNS[form or "classify"][role] for role in _TEXTS[form or "classify"]}
    given = (column.partition("=") for column in columns if "=" in column)
    roles = {role: column for role, _, column in given if role in sentences}
    header = not any(name.isdecimal() for name in (*named, *roles.values()))
    for file in files:
        if file.suffix in PLAIN:
            yield from read_texts([file])
            continue
        questions = _questions(file, answered=False) if form == "qa" else None
        if questions is not None:
            yield from (text for question in questions for text in question.texts)
            continue
        found: Sequence[str] | None = None
        for row in read_rows(file, header):
            if found is None:
                found = [name for name in row.cells if name in named] or _text_columns(row, sentences, roles)
            yield from (str(cell) for cell in map(row.cell, found) if cell is not None)


def _text_columns(row: Row, sentences: Mapping[str, Column], roles: Mapping[str, str]) -> list[str]:
    """The columns with texts, by the names that are given for roles and by usual ones; InputError if there are none."""
    found: list[str] = []
    for role, column in sentences.items():
        names = (*([roles[role]] if role in roles else ()), *column.names)
        found += [name for name in names if name in row.cells][:1]
    return found or list(find_columns(row, sentences, {}).values())


def _rows(
    path: Path, columns: dict[str, str], labels: Sequence[str] | None, form: Form, pairs: bool
) -> Iterator[Example]:
    learned = _LABELS[form]
    roles = {role: column for role, column in _COLUMNS[form].items() if role != learned or labels is not None}
    header = check_columns(_COLUMNS[form], columns)
    columns = {role: column for role, column in columns.items() if role in roles}
    table: Table | None = None
    for row in read_rows(path, header):
        if table is None:
            found = find_columns(row, roles, columns)
            texts = [role for role in _TEXTS[form] if role in found]
            if len(texts) == 2 and not pairs:
                raise InputError(
                    f"{row.place}: a sentence encoder reads one text at a time, and no pairs: name columns whose cells "
                    f"are texts of their own (--columns {','.join(found[role] for role in texts)})"
                )
            table = Table([], found, class_names_of([path], found))
            numbers = LabelMap(labels or (), table.classes.get("label", ()))
        cells = tuple(_spaced(table.text(row, role), f"{row.place}: column {found[role]!r}") for role in texts)
        text = (cells[0], cells[1]) if len(cells) == 2 else cells[0]
        if labels is None:
            yield Example(text)
            continue
        value: Any = row.cell(found[learned])
        where = f"{row.place}: column {found[learned]!r}"
        if form == "qa":
            passage = str(row.cell(found["context"]))
            yield Example(text, _NONE if value is None else _span(passage, *qa.answers_of(table, row), where))
        else:
            known = (value.strip() if isinstance(value, str) else value) not in _UNKNOWN
            yield Example(text, numbers.number(value, where) if known else NO_LABEL)
    if table is None:
        raise InputError(f"{path}: holds no rows")


def labels_of(model: Path) -> tuple[str, ...]:
    """The names of a classifier's labels, by number; none of question answering, whose labels are answers.

    Raises:
        InputError: the model has no head that learns labels, or its labels do not exclude each other.
    """
    config = read_config(model / "config.json")
    named = str((config.get("architectures") or [""])[0])
    task = kind(model)
    if task == "qa":
        return ()
    if task == "embed" or not named.endswith("ForSequenceClassification"):
        raise InputError(
            f"{str(model)!r}: labels are learned by models with a head for sequence classification or question "
            f"answering, and config.json names the architecture {named or 'none'!r}"
        )
    listed = config.get("id2label")
    channels = len(listed) if isinstance(listed, dict) else 2  # what transformers leaves out is its default
    problem = problem_type(model, channels)
    if problem != "single_label_classification":
        raise InputError(f"{str(model)!r}: made for {problem}; labels are learned by single_label_classification")
    return label_names(model, channels)
