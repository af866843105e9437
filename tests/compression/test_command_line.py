"""What the command line refuses: one line that says what and where, a documented status, and nothing changed."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from fastcpu.cli.main import main
from fastcpu.compression import compress, run
from fastcpu.compression.run import make_plan
from fastcpu.compression.work import WorkFolder
from fastcpu.distill.trainer import Trainer

torch = pytest.importorskip("torch")

LIVE = 'description = ""\n[distill]\nsteps = 2\nbatch = 8\n[distill.losses]\nhidden = 1\n'
CACHED = LIVE.replace("hidden", "embedding")

Prepare = Callable[[Path], object]


def nothing(folder: Path) -> None:
    """The folder as it is."""


def text(name: str, content: str | bytes) -> Prepare:
    """A file in the folder."""
    return lambda folder: (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)


def changed(name: str, **settings: int) -> Prepare:
    """Another encoder than the model, with random weights."""

    def prepare(folder: Path) -> None:
        from transformers import BertConfig, BertModel

        shutil.copytree(folder / "model", folder / name)
        config = BertConfig.from_pretrained(folder / "model")
        for key, value in settings.items():
            setattr(config, key, value)
        BertModel(config).save_pretrained(folder / name)

    return prepare


def broken(name: str, value: float) -> Prepare:
    """The model with a weight that is not a number."""

    def prepare(folder: Path) -> None:
        from transformers import BertModel

        shutil.copytree(folder / "model", folder / name)
        model = BertModel.from_pretrained(folder / "model")
        with torch.no_grad():
            model.encoder.layer[1].output.dense.weight[0, 0] = value
        model.save_pretrained(folder / name)

    return prepare


def renumbered(folder: Path) -> None:
    """The model with a tokenizer that numbers its words backwards."""
    shutil.copytree(folder / "model", folder / "other")
    path = folder / "other" / "tokenizer.json"
    content = json.loads(path.read_text())
    words = list(content["model"]["vocab"])
    content["model"]["vocab"] = {word: i for i, word in enumerate(words[:4] + words[:3:-1])}
    path.write_text(json.dumps(content))


def work_of_others(folder: Path) -> None:
    (folder / "out.work").mkdir()
    (folder / "out.work" / "thesis.txt").write_text("precious")


# name, what is prepared in the folder, further arguments (an option given twice counts once, the last), message
CASES: list[tuple[str, Prepare, str, str]] = [
    ("a model that is a file", nothing, "model=texts.txt", "'texts.txt' is not a model directory"),
    ("a model that is not there", nothing, "model=nowhere", "'nowhere' is not a model directory"),
    ("a model without config.json", lambda f: (f / "m").mkdir(), "model=m", "no config.json"),
    ("a model with NaN", broken("m", float("nan")), "model=m", "contains NaN or infinite values"),
    ("a model with infinity", broken("m", float("inf")), "model=m --recipe live.toml", "layer.1.output.dense.weight'"),
    ("a teacher that is a file", nothing, "--teacher texts.txt", "'texts.txt' is not a model directory"),
    ("a teacher with NaN", broken("m", float("nan")), "--teacher m --recipe live.toml", "contains NaN or infinite"),
    (
        "a teacher with other channels, hidden",
        changed("m", hidden_size=48),
        "--teacher m --recipe live.toml",
        "the loss hidden needs a teacher with 32 channels, as the student has, not 48",
    ),
    (
        "a teacher with other channels, embedding",
        changed("m", hidden_size=48),
        "--teacher m --recipe cached.toml",
        "the loss embedding needs a teacher with 32 channels",
    ),
    ("a teacher with another vocabulary", renumbered, "--teacher other --recipe live.toml", "has another vocabulary"),
    (
        "a teacher of shorter texts",
        changed("m", max_position_embeddings=8),
        "--teacher m --recipe live.toml",
        "teacher m: takes 8 tokens, but training has up to 64",
    ),
    ("a pipe as data", lambda f: os.mkfifo(f / "p.txt"), "--data p.txt", "p.txt: is a pipe; a file is needed"),
    ("a device as data", nothing, "--data /dev/zero", "/dev/zero: is a device; a file is needed"),
    ("a dash as data", nothing, "--data -", "-: texts are read from"),
    ("a pipe to exclude", lambda f: os.mkfifo(f / "p.txt"), "--exclude p.txt", "p.txt: is a pipe"),
    ("a pipe as recipe", lambda f: os.mkfifo(f / "p.toml"), "--recipe p.toml", "p.toml: is a pipe"),
    ("a folder as recipe", lambda f: (f / "p.toml").mkdir(), "--recipe p.toml", "p.toml: is a folder"),
    (
        "a pipe to measure with",
        lambda f: os.mkfifo(f / "p.tsv"),
        "--task sts --eval-data p.tsv",
        "p.tsv: is a pipe; a file is needed",
    ),
    ("an unknown key", text("r.toml", 'description = ""\nspeed = 1\n'), "--recipe r.toml", "unknown key 'speed'"),
    ("data that is a model", nothing, "--data model", "name the columns that hold texts"),
    ("data that is weights", nothing, "--data model/model.safetensors", "texts are read from .txt"),
    ("a missing column", text("t.csv", "a,b\n1,2\n"), "--data t.csv --columns c", "no column 'c'; there are a, b"),
    ("cells that are objects", text("t.jsonl", '{"a": {"b": 1}}\n'), "--data t.jsonl --columns a", "is {'b': 1} and"),
    ("cells that are numbers", text("t.jsonl", '{"a": 5}\n'), "--data t.jsonl --columns a", "is 5 and not a text"),
    ("nothing but nulls", text("t.jsonl", '{"a": null}\n'), "--data t.jsonl --columns a", "no text is left"),
    (
        "half a character",
        text("t.jsonl", '{"a": "\\ud800"}\n'),
        "--data t.jsonl --columns a",
        "half of a surrogate pair",
    ),
    ("deep JSON", text("t.jsonl", "[" * 100_000), "--data t.jsonl --columns a", "t.jsonl:1: not JSON: nested too"),
    ("a quote that nobody closes", text("t.csv", 'a\n"b\nc\n'), "--data t.csv --columns a", "unexpected end of data"),
    ("not UTF-8", text("t.txt", b"\xff\xfe"), "--data t.txt", "t.txt: not UTF-8"),
    ("no steps", nothing, "--steps 0", "steps and budget must be positive"),
    ("endless steps", nothing, "--steps 99999999999999999999", "at most 1,000,000,000"),
    ("an endless budget", nothing, "--budget inf", "at most 1,000,000,000 and 100,000 minutes"),
    ("a budget that is no number", nothing, "--budget nan", "steps and budget must be positive"),
    ("negative threads", nothing, "--threads -1", "threads must be from 0 to 1024, not -1"),
    ("endless threads", nothing, "--threads 100000", "threads must be from 0 to 1024, not 100000"),
    ("a negative seed", nothing, "--seed -1", "the seed must not be negative: -1"),
    ("a drop without a task", nothing, "--max-drop 1", "--eval-data, --eval-columns, --metric and --max-drop need a"),
    ("a plan without a drop", nothing, "--plan uniform", "--plan uniform says what to do where more than --max-drop"),
    ("columns without a task", nothing, "--eval-columns label=c", "and --max-drop need a --task"),
    ("a metric without a task", nothing, "--metric f1", "--metric and --max-drop need a --task"),
    ("a metric of another task", nothing, "--task sts --metric f1", "the task sts measures spearman, and not 'f1'"),
    ("columns of another task", nothing, "--task sts --eval-columns query=c", "no column 'query' is read by the task"),
    ("columns that are no map", nothing, "--task sts --eval-columns c", "columns are given as role=column"),
    ("a task without data", nothing, "--task classify", "this task has no default data set"),
    ("the model as output", nothing, "--overwrite -o model", "model: is the model, or lies within it"),
    ("an output within the model", nothing, "-o model/a/b", "model/a/b: is the model, or lies within it"),
    ("an output that is a file", text("f", "x"), "--overwrite -o f", "exists and is not a fastcpu model"),
    ("an output with other files", nothing, "--overwrite -o .", "exists and is not a fastcpu model"),
    ("a work folder of others", work_of_others, "", "out.work: holds thesis.txt and no plan.json: not a work folder"),
    ("a file as work folder", text("out.work", "x"), "", "out.work: File exists"),
    ("an output below a file", nothing, "-o texts.txt/out", "Not a directory"),
]


@pytest.fixture
def folder(encoder_dir: Path, texts_file: Path, recipe_file: Path, tmp_path: Path) -> Path:
    """A model, texts and recipes in the current folder."""
    path = tmp_path / "here"
    path.mkdir()
    shutil.copytree(encoder_dir, path / "model")
    shutil.copy(texts_file, path / "texts.txt")
    shutil.copy(recipe_file, path / "tiny.toml")
    (path / "live.toml").write_text(LIVE)
    (path / "cached.toml").write_text(CACHED)
    return path


def listing(folder: Path) -> dict[str, int]:
    """The files of a folder and their sizes, without work folders of this command."""
    return {
        str(path.relative_to(folder)): path.stat().st_size
        for path in folder.rglob("*")
        if path.is_file() and not any((above / "plan.json").exists() for above in path.parents)
    }


def arguments(further: str) -> list[str]:
    words = further.split()
    model = words.pop(0).partition("=")[2] if further.startswith("model=") else "model"
    return [
        "compress",
        model,
        "-o",
        "out",
        "--recipe",
        "tiny.toml",
        "--data",
        "texts.txt",
        "--threads",
        "1",
        "--no-timing",
        *words,
    ]


@pytest.mark.parametrize(
    ("prepare", "further", "message"), [each[1:] for each in CASES], ids=[each[0] for each in CASES]
)
def test_status_2(
    prepare: Prepare,
    further: str,
    message: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder)
    prepare(folder)
    before = listing(folder)
    capsys.readouterr()
    assert main(arguments(further)) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.endswith(" ...")]
    assert len(lines) == 1
    assert lines[0].startswith("fastcpu: error: ")
    assert message in lines[0]
    assert listing(folder) == before


def test_an_interrupt_gives_status_130(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.chdir(folder)
    monkeypatch.setattr(Trainer, "step", interrupt)
    assert main(arguments("")) == 130
    assert not (folder / "out").exists()
    assert not list((folder / "out.work").glob("*.partial"))
    assert "stopped; the same command goes on from out.work" in capsys.readouterr().err


def test_two_at_once(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(folder)
    (folder / "out.work").mkdir()
    with (folder / "out.work" / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert main(arguments("")) == 2
        assert "out.work: another process is at work in this folder" in capsys.readouterr().err
    assert main(arguments("")) == 0


def test_the_same_command_again_finds_the_model(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A kill between the model and the end of the process leaves a work folder, and the next start only removes it."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr("fastcpu.compression.work.WorkFolder.remove", lambda _: None)
    assert main(arguments("")) == 0
    assert (folder / "out.work").is_dir()
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    assert main(arguments("--peers onnxruntime")) == 2, "it was not measured beside that"
    before = (folder / "out" / "report.json").stat().st_mtime_ns
    capsys.readouterr()
    assert main(arguments("--json report.json")) == 0
    assert capsys.readouterr().out == "out: complete already\n"
    assert (folder / "report.json").read_bytes() == (folder / "out" / "report.json").read_bytes()
    assert (folder / "out" / "report.json").stat().st_mtime_ns == before
    assert not (folder / "out.work").exists()
    assert main(arguments("--seed 1")) == 2
    assert "exists already; --overwrite replaces a model" in capsys.readouterr().err


def test_a_work_folder_is_never_taken_for_another_plans(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a work folder that is being removed when the process is killed, nothing is used again."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(WorkFolder, "remove", lambda work: work.path.rename(work._old))
    compress("model", "out", recipe="tiny.toml", data=["texts.txt"], threads=1, timing=False)
    assert (folder / ".out.work.old").is_dir()
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    compress("model", "out", recipe="tiny.toml", data=["texts.txt"], threads=1, seed=1, timing=False)
    assert not list(folder.glob("*.work")) + list(folder.glob(".out*"))


def test_data_and_output_in_one_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plan is of the texts in a folder, not of everything that lies in it."""
    monkeypatch.chdir(folder)
    (folder / "data").mkdir()
    shutil.move(folder / "texts.txt", folder / "data" / "texts.txt")
    before = make_plan("model", recipe="tiny.toml", data=["data"])
    monkeypatch.setattr(run, "_export", lambda *_: pytest.fail("interrupted"))
    with pytest.raises(pytest.fail.Exception):
        compress("model", "data/out", recipe="tiny.toml", data=["data"], threads=1, timing=False)
    assert (folder / "data" / "out.work").is_dir()
    assert make_plan("model", recipe="tiny.toml", data=["data"]) == before


@pytest.mark.parametrize(
    ("further", "message"),
    [
        ("--budget 0.0000001", "is less than one step"),
        ("--only zzz*", "no encoder linear to prune"),
        ("--task classify --eval-data labels.tsv", "not logits [batch, channels]"),
    ],
)
def test_an_error_before_training_is_in_nobodys_way(
    further: str, message: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    (folder / "labels.tsv").write_text("sentence\tlabel\na\tnone of these\n")
    assert main(arguments(further)) == 2
    assert message in capsys.readouterr().err
    assert not list(folder.glob("*out*"))


def test_a_larger_drop_goes_on_with_what_was_trained(
    folder: Path, sts_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    gate = f"--task sts --eval-data {sts_dir} --plan uniform --max-drop"
    recipe = folder / "tiny.toml"
    recipe.write_text(recipe.read_text().replace("sparsity = 0.5", "sparsity = 1.0"))
    assert main(arguments(f"{gate} 0")) == 3
    capsys.readouterr()
    assert main(arguments(f"{gate} 100")) == 0
    assert "training" not in capsys.readouterr().err
    assert not (folder / "out.work").exists()


def test_the_time_between_checkpoints_is_a_number(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("FASTCPU_CHECKPOINT_SECONDS", "abc")
    assert main(arguments("")) == 2
    assert "FASTCPU_CHECKPOINT_SECONDS must be a number of seconds, not 'abc'" in capsys.readouterr().err


def test_a_disk_that_is_full_when_the_student_is_written(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from safetensors import SafetensorError

    def refuse(*_: object) -> None:
        raise SafetensorError("No space left on device")

    monkeypatch.chdir(folder)
    monkeypatch.setattr("fastcpu.compression.training.write_student", refuse)
    assert main(arguments("")) == 2
    assert "student: No space left on device" in capsys.readouterr().err
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    assert main(arguments("")) == 0


@pytest.mark.parametrize("name", ["model", "teacher"])
def test_no_path(name: str, encoder_dir: Path, tmp_path: Path) -> None:
    options = {"model": encoder_dir, "teacher": encoder_dir} | {name: 5}
    with pytest.raises(ValueError, match=f"{name} must be the path of a directory, not 5"):
        compress(options.pop("model"), tmp_path / "out", recipe="sparse80-int8", data=["x.txt"], **options)  # type: ignore[arg-type]
