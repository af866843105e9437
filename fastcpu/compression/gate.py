"""The accuracy that the user has agreed to, measured on the exported model before it is published."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastcpu.compression.report import add_to_report
from fastcpu.errors import AccuracyError, InputError
from fastcpu.eval.data import parse_columns
from fastcpu.eval.engine import Evaluation
from fastcpu.eval.task import find_task, open_model
from fastcpu.recipe import Distill, Recipe
from fastcpu.tasks.tokenizer import Text


@dataclass(frozen=True)
class Gate:
    """What is measured, and how much may be lost.

    Attributes:
        task: a name of ``fastcpu.eval.TASKS``.
        data: the data set; None where FASTCPU_DATA keeps it.
        split: the part that is for choosing; never the one that is reported at the end.
        max_drop: points of the metric times 100 (``0.5``), or a share of the teacher's value (``1%``); None measures
            and accepts whatever comes out.
        columns: what the task reads from which column, as ``role=column,role=column``; by default the usual names.
        fallback: whether layers may be left in f32, one by one, until no more than ``max_drop`` is lost; never where
            ``split`` is ``test``, since that chooses by what it measures.
    """

    task: str
    data: str | None = None
    split: str = "dev"
    max_drop: str | None = None
    columns: str = ""
    fallback: bool = True

    def checked(self) -> Gate:
        """The gate itself; InputError if it cannot be applied."""
        unknown = sorted(set(parse_columns(self.columns)) - set(find_task(self.task).COLUMNS))
        if unknown:
            listed = ", ".join(find_task(self.task).COLUMNS)
            raise InputError(f"no column {unknown[0]!r} is read by the task {self.task}; it reads {listed}")
        self.floor(1.0)
        return self

    def floor(self, teacher: float) -> float:
        """The lowest value of the metric that is accepted."""
        if self.max_drop is None:
            return float("-inf")
        try:
            number = float(self.max_drop.removesuffix("%"))
        except ValueError:
            number = -1.0
        if not 0 <= number <= 100:
            raise InputError(f"a drop is written as points (0.5) or as a share (1%), not {self.max_drop!r}")
        return teacher * (1 - number / 100) if self.max_drop.endswith("%") else teacher - number / 100

    # ---- data ----

    def load(self) -> Any:
        """The data set."""
        path = None if self.data is None else Path(self.data)
        return find_task(self.task).load(path, self.split, parse_columns(self.columns))

    def inputs(self) -> Sequence[Text]:
        """What it asks a model, texts and pairs of texts."""
        return find_task(self.task).inputs(self.load())

    def texts(self) -> list[str]:
        """Its texts, which training and calibration must not see."""
        return [text for each in self.inputs() for text in ((each,) if isinstance(each, str) else each)]

    # ---- measurement ----

    def measure(self, directory: Path, threads: int, max_length: int | None) -> Evaluation:
        """The metrics of a compiled model in the runtime, for the arguments that `accept` takes."""
        task = find_task(self.task)
        return task.evaluate(open_model(task, directory, threads, max_length), self.load())

    def score(self, directory: Path, threads: int, max_length: int | None) -> float:
        """The headline metric of a compiled model."""
        result = self.measure(directory, threads, max_length)
        return result.values[result.metric].value

    def accept(self, directory: Path, teacher: Evaluation, threads: int, max_length: int | None) -> None:
        """Measures a finished directory and notes the result, beside that of its teacher, in report.json.

        Args:
            directory: a compiled model.
            teacher: what `measure` has found for its teacher.
            threads: of the runtime.
            max_length: longest sequence in tokens, by default that of the task.

        Raises:
            AccuracyError: the model has lost more than is allowed.
        """
        mine = self.measure(directory, threads, max_length)
        metric = mine.metric
        before, after = teacher.values[metric].value, mine.values[metric].value
        result = {
            "task": self.task,
            "split": self.split,
            "examples": mine.examples,
            "teacher": {name: interval.to_json() for name, interval in teacher.values.items()},
            "model": {name: interval.to_json() for name, interval in mine.values.items()},
            "difference": {
                name: interval.to_json() for name, interval in find_task(self.task).compare(mine, teacher).items()
            },
            "max_drop": self.max_drop,
        }
        add_to_report(directory, {"accuracy": result})
        if after < self.floor(before):
            raise AccuracyError(
                f"{metric} on {self.task} {self.split} is {after:.4f} and must be at least {self.floor(before):.4f} "
                f"(the teacher has {before:.4f}, and the drop allowed is {self.max_drop}); nothing was written"
            )


def gate_length(recipe: Recipe) -> int | None:
    """The longest sequence of the gate, if the recipe trains with another than the usual one; None: the task's own."""
    config = recipe.distill
    return None if config is None or config.max_length == Distill.max_length else config.max_length
