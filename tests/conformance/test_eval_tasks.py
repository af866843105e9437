"""What every registered evaluation task does with a data set and a model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fastcpu import InputError
from fastcpu.eval import TASKS
from fastcpu.eval.data import Column
from fastcpu.eval.task import find_task, open_model
from fastcpu.tasks import TASKS as MODELS
from tests.eval.datasets import DATA, make_data
from tests.tasks import models

pytest.importorskip("tokenizers")

EVERY = pytest.mark.parametrize("name", TASKS)


def test_every_task_has_data() -> None:
    assert sorted(DATA) == sorted(TASKS), "a new task needs data in tests/eval/datasets.py"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A data set per task, whose only split is test."""
    return {name: make_data(name, tmp_path_factory.mktemp(name) / "data") for name in TASKS}


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, int], Path]:
    """Two models per task."""
    return {
        (name, seed): models.compiled(find_task(name).MODEL.name, tmp_path_factory.mktemp(f"{name}{seed}"), seed)
        for name in TASKS
        for seed in range(2)
    }


@EVERY
def test_it_has_what_a_task_has(name: str) -> None:
    task = find_task(name)
    assert MODELS[task.MODEL.name] is task.MODEL
    assert task.MAX_LENGTH > 0
    assert task.METRICS
    assert all(isinstance(option, str) for option in task.OPTIONS)
    assert all(isinstance(column, Column) and column.names for column in task.COLUMNS.values())


def test_an_unknown_one_is_refused() -> None:
    with pytest.raises(InputError, match="no task 'chess'; there are " + ", ".join(TASKS)):
        find_task("chess")


@EVERY
def test_its_inputs_are_those_of_its_files(name: str, folders: dict[str, Path]) -> None:
    task = find_task(name)
    files = task.files(folders[name], "test")
    assert files
    assert all(file.is_file() for file in files)
    inputs = task.inputs(task.load(folders[name], "test"))
    assert inputs
    texts = [text for each in inputs for text in ((each,) if isinstance(each, str) else each)]
    content = " ".join(" ".join(path.read_text().split()) for path in folders[name].rglob("*") if path.is_file())
    parsed = " ".join(content.replace("\\", "").split())
    for text in texts:
        words = text.split()
        assert words
        assert all(word in parsed for word in words), text


@EVERY
def test_data_that_is_not_there_is_refused(name: str, folders: dict[str, Path], tmp_path: Path) -> None:
    task = find_task(name)
    with pytest.raises(InputError, match="nowhere"):
        task.load(tmp_path / "nowhere", "test")
    with pytest.raises(InputError):
        task.load(folders[name], "dev")
    with pytest.raises(InputError):
        task.load(folders[name], "test", {"luck": "label"})


@EVERY
def test_it_measures_alike_each_time_and_headline_first(
    name: str, folders: dict[str, Path], compiled: dict[tuple[str, int], Path]
) -> None:
    task = find_task(name)
    data = task.load(folders[name], "test")
    first, second = (task.evaluate(open_model(task, compiled[name, 0], threads), data) for threads in (1, 2))
    assert first.examples > 0
    assert next(iter(first.values)) == first.metric
    assert set(first.values) <= set(task.METRICS)
    assert first.values == second.values
    for metric, interval in first.values.items():
        assert interval.low <= interval.value <= interval.high, metric
        assert -1 <= interval.low <= interval.high <= 1, metric
        assert json.loads(json.dumps(interval.to_json(), allow_nan=False)) == interval.to_json()
    for sample in first.samples.values():
        assert isinstance(sample, np.ndarray)


@EVERY
def test_differences_are_paired_and_change_sign(
    name: str, folders: dict[str, Path], compiled: dict[tuple[str, int], Path]
) -> None:
    task = find_task(name)
    data = task.load(folders[name], "test")
    a, b = (task.evaluate(open_model(task, compiled[name, seed], 1), data) for seed in range(2))
    for metric, interval in task.compare(a, a).items():
        assert (interval.value, interval.low, interval.high) == (0, 0, 0), metric
    there, back = task.compare(a, b), task.compare(b, a)
    assert set(there) == set(back) == set(a.values)
    for metric, interval in there.items():
        assert interval.value == pytest.approx(a.values[metric].value - b.values[metric].value)
        assert back[metric].value == pytest.approx(-interval.value)
        assert back[metric].low == pytest.approx(-interval.high)
