"""`fastcpu eval` on tiny models: every task, every kind of model, the log, and errors."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import fastcpu
from fastcpu.cli.main import main
from fastcpu.eval import TASKS
from fastcpu.eval.task import find_task
from tests.eval.datasets import TEXTS, make_data
from tests.tasks import models

pytest.importorskip("tokenizers")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Labelled sentences."""
    return make_data("classify", tmp_path / "data")


def model(task: str, folder: Path, seed: int = 0) -> Path:
    return models.compiled(find_task(task).MODEL.name, folder, seed)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("task", TASKS)
def test_two_models_are_compared(task: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = make_data(task, tmp_path / "data")
    first, second = (model(task, tmp_path / str(seed), seed) for seed in range(2))
    out = tmp_path / "result.json"
    options = ["--max-length", "12"] if task == "qa" else []
    arguments = ["eval", str(first), "--task", task, "--data", str(data), "--against", str(second), *options]
    assert main([*arguments, "--json", str(out)]) == 0
    printed = capsys.readouterr().out
    result = json.loads(out.read_text())
    assert [each["model"] for each in result["models"]] == [str(first), str(second)]
    names = set(result["models"][0]["metrics"])
    assert names == set(result["models"][1]["metrics"]) == set(result["difference"])
    for name in names:
        mine, theirs = (each["metrics"][name]["value"] for each in result["models"])
        assert result["difference"][name]["value"] == pytest.approx(mine - theirs)
        assert f"  {name} {mine:.4f} (95 % interval" in printed
        assert f"  {name} {mine - theirs:+.4f} (95 % interval" in printed
    assert result["models"][0]["max_length"] == (12 if task == "qa" else 24), "the model has 24 positions"

    assert result["final"]
    for path, entry in zip((first, second), result["models"], strict=True):
        log = path.with_name(f"{path.name}.evaluations.jsonl")
        assert f"logged in {log}\n" in printed
        (line,) = lines(log)
        assert line["metrics"] == {name: value["value"] for name, value in entry["metrics"].items()}
        assert (line["task"], line["model"], line["examples"]) == (task, str(path), entry["examples"])
        assert all(Path(file).is_file() for file in line["data"])
        assert len(line["model_sha256"]) == len(line["data_sha256"]) == 64
    one, two = (lines(path.with_name(f"{path.name}.evaluations.jsonl"))[0] for path in (first, second))
    assert one["model_sha256"] != two["model_sha256"]
    assert one["data_sha256"] == two["data_sha256"]


@pytest.mark.parametrize("task", TASKS)
def test_every_kind_of_model_is_measured_alike(task: str, tmp_path: Path) -> None:
    """A Hugging Face directory in torch, its .onnx file in ONNX Runtime and its compiled directory in fastcpu."""
    pytest.importorskip("transformers")
    pytest.importorskip("onnxruntime")
    from tests.tasks.export import export

    data, kind = make_data(task, tmp_path / "data"), find_task(task).MODEL
    folder = models.huggingface(kind.name, kind.head, "DistilBert", tmp_path / "hf")
    onnx = export(folder, kind.head, tmp_path / "onnx")
    compiled = fastcpu.compile(folder, tmp_path / "compiled").directory
    found = []
    for path in (folder, onnx, compiled):
        out = tmp_path / "result.json"
        assert main(["eval", str(path), "--task", task, "--data", str(data), "--threads", "1", "--json", str(out)]) == 0
        found.append(
            {name: value["value"] for name, value in json.loads(out.read_text())["models"][0]["metrics"].items()}
        )
    assert found[1] == found[2] == pytest.approx(found[0])


def test_torch_is_not_needed(data: Path, tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['torch'] = sys.modules['transformers'] = sys.modules['onnx'] = None\n"
        "from fastcpu.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )
    arguments = ["eval", str(model("classify", tmp_path)), "--task", "classify", "--data", str(data)]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "6 examples" in done.stdout
    assert lines(tmp_path / "classify.evaluations.jsonl")[0]["command"] == "fastcpu " + " ".join(arguments)


def test_only_test_data_is_logged_unless_it_is_final(data: Path, tmp_path: Path) -> None:
    path = model("classify", tmp_path)
    log = tmp_path / "classify.evaluations.jsonl"
    (data / "test.tsv").rename(data / "dev.tsv")
    arguments = ["eval", str(path), "--task", "classify", "--data", str(data), "--split", "dev"]
    assert main(arguments) == 0
    assert not log.exists()
    assert main([*arguments, "--final"]) == 0
    assert main([*arguments, "--final"]) == 0
    first, second = lines(log)
    assert first["metrics"] == second["metrics"]
    assert main([*arguments, "--final", "--log", str(tmp_path / "other.jsonl")]) == 0
    assert len(lines(log)) == 2
    assert len(lines(tmp_path / "other.jsonl")) == 1


def test_nothing_is_said_that_is_not_logged(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["eval", str(model("classify", tmp_path)), "--task", "classify", "--data", str(data)]
    assert main([*arguments, "--log", str(tmp_path / "missing" / "log")]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "the evaluation cannot be logged there (--log FILE)" in captured.err
    monkeypatch.setattr("os.write", lambda *_: 0)
    assert main(arguments) == 2
    assert "accuracy" not in capsys.readouterr().out


def test_a_model_that_is_compiled_again_keeps_its_log(data: Path, tmp_path: Path) -> None:
    path = model("classify", tmp_path)
    assert main(["eval", str(path), "--task", "classify", "--data", str(data)]) == 0
    shutil.rmtree(tmp_path / "source")
    assert model("classify", tmp_path, seed=1) == path
    assert main(["eval", str(path), "--task", "classify", "--data", str(data)]) == 0
    first, second = lines(tmp_path / "classify.evaluations.jsonl")
    assert first["model_sha256"] != second["model_sha256"]


def test_columns_and_labels(data: Path, tmp_path: Path) -> None:
    rows = [f"{i},{text},{label}" for i, (text, label) in enumerate(zip(TEXTS, "xyzxyz", strict=True))]
    (data / "dev.csv").write_text("\n".join(["id,words,class", *rows]))
    path = model("classify", tmp_path)
    columns = ["--columns", "sentence1=words,label=class"]
    arguments = ["eval", str(path), "--task", "classify", "--data", str(data / "dev.csv"), *columns]
    assert main([*arguments, "--labels", "x,y,z"]) == 0
    with_numbers = ["--columns", "sentence1=2,label=3"]
    (data / "dev.csv").write_text("\n".join(rows))
    assert main([*arguments[:-2], *with_numbers, "--labels", "x,y,z", "--json", str(tmp_path / "r.json")]) == 0
    assert json.loads((tmp_path / "r.json").read_text())["models"][0]["examples"] == 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "nowhere"], r"data set 'nowhere' does not exist"),
        (["--threads", "0"], r"--threads must be at least 1, not 0"),
        (["--max-length", "-3"], r"--max-length must be at least 1, not -3"),
        (["--max-length", "2"], r"max_length 2 leaves no room beside 2 special tokens"),
        (["--split", "dev"], r"DATA: no file of the split 'dev'; there are test.tsv"),
        (["--columns", "sentence1"], r"columns are given as role=column,role=column"),
        (["--columns", "passage=a"], r"no column 'passage' is read by this task; it reads sentence1, sentence2, label"),
        (["--columns", "label=class"], r"DATA/test.tsv:2: no column 'class' for label; there are sentence, label"),
        (["--labels", "a,b"], r"2 labels are given, but the model has 3"),
        (["--labels", "x,y,z"], r"DATA/test.tsv:2: column 'label' is 'bad', no label of the model (x, y, z)"),
        (["--stride", "3"], r"--stride is not used by the task classify"),
        (["--no-answer"], r"--no-answer is not used by the task classify"),
        (["--against", "nowhere"], r"model 'nowhere' does not exist"),
        (["--json", "nowhere/r.json"], r"--json nowhere/r.json: there is no folder nowhere"),
        (["--data", "DEV", "--log", "log"], r"--log is for evaluations on data that is named test, or with --final"),
        (["--task", "sts"], r"DATA/test.tsv:2: no column 'sentence1' for sentence1; there are sentence, label"),
    ],
)
def test_errors_have_one_line(
    arguments: list[str], message: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(data / "test.tsv", tmp_path / "dev.tsv")
    words = {"DEV": str(tmp_path / "dev.tsv")}
    given = [words.get(argument, argument) for argument in arguments]
    command = ["eval", str(model("classify", tmp_path)), "--task", "classify", "--data", str(data), *given]
    assert main(command) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.startswith(f"fastcpu: error: {message.replace('DATA', str(data))}")
    assert not list(tmp_path.glob("*.jsonl"))


def test_models_of_other_tasks(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", str(model("qa", tmp_path)), "--task", "classify", "--data", str(data)]) == 2
    assert "task classify: " in capsys.readouterr().err


def test_unknown_task(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as status:
        main(["eval", "model", "--task", "poetry"])
    assert status.value.code == 2
    assert "invalid choice: 'poetry'" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--log", "--json"])
def test_data_and_models_are_no_outputs(
    option: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = model("classify", tmp_path)
    places = {data / "test.tsv": "the data of this", path / "config.json": "a model of this"}
    for place, message in places.items():
        before = place.read_bytes()
        assert main(["eval", str(path), "--task", "classify", "--data", str(data), option, str(place)]) == 2
        assert f"{option} {place}: that is {message} evaluation" in capsys.readouterr().err
        assert place.read_bytes() == before
