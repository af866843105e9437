"""What `fastcpu eval` and the gate of `fastcpu compress` need of a task, and how they open models for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, cast

from fastcpu.errors import InputError
from fastcpu.eval import TASKS
from fastcpu.eval.bootstrap import Interval
from fastcpu.eval.data import Column
from fastcpu.eval.engine import Evaluation, open_engine
from fastcpu.tasks.task import AnyTask
from fastcpu.tasks.tokenizer import Text


class EvalTask(Protocol):
    """A module of `TASKS`."""

    MODEL: type[AnyTask]
    """What answers the questions of the data."""

    MAX_LENGTH: int
    """Longest sequence in tokens, unless the user says otherwise."""

    OPTIONS: tuple[str, ...]
    """Further options that the constructor of the model takes from the command line."""

    COLUMNS: Mapping[str, Column]
    """What is read of a table."""

    METRICS: Sequence[str]
    """All that it may measure; what depends on the model is missing where it is not defined."""

    def files(self, path: Path | None, split: str) -> Sequence[Path]:
        """The files that hold a split of a data set; ``path`` None: where FASTCPU_DATA keeps it."""
        ...

    def load(self, path: Path | None, split: str, columns: Mapping[str, str] = ...) -> Any:
        """The data. InputError names file and row of what is wrong."""
        ...

    def inputs(self, data: Any) -> Sequence[Text]:
        """What a model is asked: every text and pair of texts, which training must not see."""
        ...

    def evaluate(self, model: Any, data: Any) -> Evaluation:
        """Its metrics."""
        ...

    def compare(self, a: Evaluation, b: Evaluation) -> Mapping[str, Interval]:
        """The paired difference, ``a`` minus ``b``, of two evaluations of the same data."""
        ...


def find_task(name: str) -> EvalTask:
    """The task of that name; InputError if there is none."""
    if name not in TASKS:
        raise InputError(f"no task {name!r}; there are {', '.join(TASKS)}")
    return cast(EvalTask, import_module(f"fastcpu.eval.{name}"))


def open_model(task: EvalTask, path: Path, threads: int, max_length: int | None = None, **options: Any) -> AnyTask:
    """A model of any kind, ready for a task: its tokens are cut and its answers are read in one way.

    Args:
        task: from `find_task`.
        path: a compressed directory, an .onnx file or a Hugging Face directory.
        threads: threads per run.
        max_length: longest sequence in tokens, by default that of the task.
        options: further ones, of `task.OPTIONS`.
    """
    engine = open_engine(path, threads, task.MODEL.head)
    return task.MODEL(engine, max_length=max_length or task.MAX_LENGTH, **options)
