"""The accuracy that the user has agreed to, measured on the exported model before it is published."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastcpu.compression.report import add_to_report
from fastcpu.data.contamination import texts_in
from fastcpu.errors import AccuracyError, InputError
from fastcpu.eval.data import parse_columns
from fastcpu.eval.engine import Evaluation
from fastcpu.eval.log import EvaluationLog, is_test, log_entry
from fastcpu.eval.task import find_task, open_model
from fastcpu.recipe import Recipe
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
        fallback: whether layers may be left in f32, one by one, until no more than ``max_drop`` is lost; never on test
            data, since that chooses by what it measures.
        metric: by which the drop is measured; empty for the first one of the task.
    """

    task: str
    data: str | None = None
    split: str = "dev"
    max_drop: str | None = None
    columns: str = ""
    fallback: bool = True
    metric: str = ""

    def checked(self) -> Gate:
        """The gate itself; InputError if it cannot be applied."""
        unknown = sorted(set(parse_columns(self.columns)) - set(find_task(self.task).COLUMNS))
        if unknown:
            listed = ", ".join(find_task(self.task).COLUMNS)
            raise InputError(f"no column {unknown[0]!r} is read by the task {self.task}; it reads {listed}")
        metrics = find_task(self.task).METRICS
        if self.metric and self.metric not in metrics:
            raise InputError(f"the task {self.task} measures {', '.join(metrics)}, and not {self.metric!r}")
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

    @property
    def _path(self) -> Path | None:
        return None if self.data is None else Path(self.data)

    @property
    def files(self) -> Sequence[Path]:
        """The files of the data set."""
        return find_task(self.task).files(self._path, self.split)

    @property
    def on_test(self) -> bool:
        """Whether the data is for the final evaluation, by the split or by the names of its files."""
        return self.split == "test" or is_test(self.files)

    @property
    def part(self) -> str:
        """What the data is: the split, or ``test`` whatever the split."""
        return "test" if self.on_test else self.split

    def load(self) -> Any:
        """The data set."""
        return find_task(self.task).load(self._path, self.split, parse_columns(self.columns))

    def inputs(self) -> Sequence[Text]:
        """What it asks a model, texts and pairs of texts."""
        return find_task(self.task).inputs(self.load())

    def texts(self) -> list[str]:
        """Its texts, which training and calibration must not see."""
        return [text for each in self.inputs() for text in texts_in(each)]

    # ---- measurement ----

    def measure(
        self, directory: Path, threads: int, max_length: int | None, model: Path, log: EvaluationLog | None
    ) -> Evaluation:
        """The metrics of a compiled model in the runtime.

        Args:
            directory: the compiled model.
            threads: of the runtime.
            max_length: longest sequence in tokens, by default that of the task.
            model: what it is, or will be, for the log.
            log: where this is noted if the data is for the final evaluation; None for a choice, which has none.
        """
        task = find_task(self.task)
        opened = open_model(task, directory, threads, max_length)
        found = task.evaluate(opened, self.load())
        if log is not None and self.on_test:
            length = opened.tokenizer.max_length
            log.append(
                log_entry(
                    self.task, self.files, self.split, model, found, directory=directory, max_length=length, options={}
                )
            )
        return found

    def value(self, evaluation: Evaluation) -> float:
        """What the drop is measured by; InputError if it is not defined for this model."""
        metric = self.metric or evaluation.metric
        if metric not in evaluation.values:
            raise InputError(
                f"the metric {metric} is not defined for this model; there are {', '.join(evaluation.values)}"
            )
        return evaluation.values[metric].value

    def score(self, directory: Path, threads: int, max_length: int | None) -> float:
        """The metric of a compiled model, for a choice."""
        return self.value(self.measure(directory, threads, max_length, directory, None))

    def accept(self, directory: Path, mine: Evaluation, teacher: Evaluation) -> None:
        """Notes what was measured of a finished directory, beside what was of its teacher, in report.json.

        Raises:
            AccuracyError: the model has lost more than is allowed.
        """
        metric = self.metric or mine.metric
        before, after = self.value(teacher), self.value(mine)
        result = {
            "task": self.task,
            "split": self.part,
            "metric": metric,
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
                f"{metric} on {self.task} {self.part} is {after:.4f} and must be at least {self.floor(before):.4f} "
                f"(the teacher has {before:.4f}, and the drop allowed is {self.max_drop}); nothing was written"
            )


def gate_length(recipe: Recipe) -> int | None:
    """The longest sequence of the gate: that of training; None, where a recipe does not train, for the task's own."""
    return None if recipe.distill is None else recipe.distill.max_length or None
