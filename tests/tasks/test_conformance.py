"""What every registered task does, on the runtime and on the reference engines."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastcpu
from fastcpu import InputError
from fastcpu.tasks import TASKS
from fastcpu.tasks.engine import SessionEngine
from tests.tasks import models

pytest.importorskip("tokenizers")


@dataclass(frozen=True)
class Case:
    """What the suite needs to know of a task.

    Attributes:
        inputs: good ones, of different lengths.
        bad: each must be refused, wherever it stands.
        foreign: a task whose models are refused.
    """

    inputs: list[Any]
    bad: list[Any]
    foreign: str


LONG = "Anna lives in the small house and Paul works in the large house, the car is red and the dog is blue. " * 2
TEXTS = ["the red house", LONG, "Anna", "who lives in London?", "", "Paul works in Scotland."]

CASES = {
    "classify": Case([*TEXTS, ("a dog", "the cat is small"), ("Anna", LONG)], [3, None, ("a",), ["a", "b"]], "tag"),
    "embed": Case([*TEXTS, ("a dog", "the cat")], [3, None], "classify"),
    "fill_mask": Case(["the [MASK] house", "[MASK] lives in [MASK]", f"the [MASK] {LONG}"], ["the house", 3], "qa"),
    "qa": Case(
        [("who lives in London?", "Anna lives in London."), ("where?", LONG), ("who works?", "Paul")],
        ["who?", ("who?",), ("who?", ""), ("who?", 3), (LONG, "Anna")],
        "classify",
    ),
    "rerank": Case(
        [("who?", ["Anna", LONG, "Paul works"]), ("where?", []), ("a", ["", "London", "London"])],
        ["who?", ("who?", "Anna"), ("who?", [3]), (3, ["Anna"])],
        "embed",
    ),
    "tag": Case([*TEXTS, ["Anna", "lives", "in", "London"], ["\u200b", "Paul"], []], [3, None, [3]], "classify"),
}


def test_every_task_has_a_case() -> None:
    assert sorted(CASES) == sorted(TASKS), "a new task needs a case here"


@pytest.fixture(scope="module")
def model_dirs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: models.compiled(name, tmp_path_factory.mktemp(name)) for name in TASKS}


def values(result: Any) -> Any:
    """A result as JSON would have it; fails for what JSON lacks, NumPy's numbers above all."""
    if isinstance(result, np.ndarray):
        return result.tolist()
    if isinstance(result, list):
        return [values(each) for each in result]
    assert dataclasses.is_dataclass(result)
    assert result.__dataclass_params__.frozen  # type: ignore[attr-defined]
    return json.loads(json.dumps(dataclasses.asdict(result), allow_nan=False))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", TASKS)
def test_results_are_plain_and_do_not_depend_on_the_batch(name: str, model_dirs: dict[str, Path]) -> None:
    task, inputs = TASKS[name](model_dirs[name], threads=2), CASES[name].inputs
    results = values(task(inputs))
    assert len(results) == len(inputs)
    assert [values(task([each]))[0] for each in inputs] == results
    assert values(task(inputs[::-1] * 3)) == results[::-1] * 3


@pytest.mark.parametrize("name", TASKS)
def test_a_path_a_session_and_an_engine_are_the_same_model(name: str, model_dirs: dict[str, Path]) -> None:
    path, inputs = model_dirs[name], CASES[name].inputs
    expected = values(TASKS[name](path)(inputs))
    session = fastcpu.Session(path)
    for model in (str(path), session, SessionEngine(session)):
        assert values(TASKS[name](model)(inputs)) == expected


@pytest.mark.parametrize("name", TASKS)
def test_sequences_are_no_longer_than_asked(
    name: str, model_dirs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths: list[int] = []
    run = SessionEngine.run

    def recorded(self: SessionEngine, batch: Any, outputs: Any) -> Any:
        lengths.extend(len(each.ids) for each in batch)
        return run(self, batch, outputs)

    monkeypatch.setattr(SessionEngine, "run", recorded)
    task = TASKS[name](model_dirs[name], max_length=14)
    task(CASES[name].inputs)
    assert max(lengths) == task.tokenizer.max_length == 14
    lengths.clear()
    TASKS[name](model_dirs[name], max_length=1000)(CASES[name].inputs)
    assert max(lengths) <= models.LENGTH, "the model has no more positions"


@pytest.mark.parametrize("name", TASKS)
def test_nothing_gives_nothing(name: str, model_dirs: dict[str, Path]) -> None:
    assert TASKS[name](model_dirs[name])([]) == []


@pytest.mark.parametrize(("name", "bad"), [(name, bad) for name, case in CASES.items() for bad in case.bad])
def test_a_bad_input_is_named(name: str, bad: Any, model_dirs: dict[str, Path]) -> None:
    task = TASKS[name](model_dirs[name])
    with pytest.raises(InputError, match=r"(input|text) 1\b"):
        task([CASES[name].inputs[0], bad])
    with pytest.raises(InputError, match="a list and not one string"):
        task("one string")


@pytest.mark.parametrize("name", TASKS)
def test_models_of_other_tasks_are_refused(name: str, model_dirs: dict[str, Path]) -> None:
    with pytest.raises(InputError, match=rf"task {name}: .* has the outputs .*, not ") as caught:
        TASKS[name](model_dirs[CASES[name].foreign])
    assert str(model_dirs[CASES[name].foreign]) in str(caught.value)


@pytest.mark.parametrize("name", TASKS)
def test_a_model_without_a_tokenizer_is_refused(name: str, model_dirs: dict[str, Path], tmp_path: Path) -> None:
    for file in ("graph.json", "weights.safetensors"):
        (tmp_path / file).write_bytes((model_dirs[name] / file).read_bytes())
    with pytest.raises(InputError, match=r"has no tokenizer\.json"):
        TASKS[name](tmp_path)


def test_torch_is_not_needed(model_dirs: dict[str, Path]) -> None:
    code = (
        "import sys\n"
        "for package in ('torch', 'transformers', 'onnx', 'onnxruntime', 'scipy'): sys.modules[package] = None\n"
        "from fastcpu.tasks import TASKS\n"
        "from tests.tasks.test_conformance import CASES\n"
        "for name, path in zip(sys.argv[1::2], sys.argv[2::2]): print(len(TASKS[name](path)(CASES[name].inputs)))\n"
    )
    arguments = [str(part) for pair in model_dirs.items() for part in pair]
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False, cwd=root
    )
    assert done.returncode == 0, done.stderr
    assert list(map(int, done.stdout.split())) == [len(CASES[name].inputs) for name in model_dirs]


# ---- reference engines ----


def close(a: Any, b: Any) -> bool:
    """Equal but for rounding: results of engines that add in another order."""
    if isinstance(a, float):
        return bool(np.isclose(a, b, rtol=1e-3, atol=2e-4))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(close(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(close, a, b))
    return bool(a == b)


@pytest.mark.parametrize("family", ["Bert", "DistilBert"])
@pytest.mark.parametrize("name", TASKS)
def test_engines_agree(name: str, family: str, tmp_path: Path) -> None:
    """torch, ONNX Runtime and fastcpu give one model's answers; a masked language model is compiled from ONNX."""
    pytest.importorskip("transformers")
    pytest.importorskip("onnxruntime")
    from fastcpu.eval.engine import open_engine
    from tests.tasks.export import export

    task = TASKS[name]
    folder = models.huggingface(name, task.head, family, tmp_path / "hf")
    onnx = export(folder, task.head, tmp_path / "onnx")
    source = onnx if task.head == "ForMaskedLM" else folder
    compiled = fastcpu.compile(source, tmp_path / "compiled").directory
    results = [values(task(open_engine(path, 1, task.head))(CASES[name].inputs)) for path in (folder, onnx, compiled)]
    for result in results[1:]:
        assert close(result, results[0]), (result, results[0])
