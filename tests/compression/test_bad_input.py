"""What compress refuses, and that it says what and where."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fastcpu.cli.main import main
from fastcpu.compression import compress
from fastcpu.compression.run import make_plan
from fastcpu.errors import FastcpuError, FileFormatError, InputError, OutputError

pytest.importorskip("torch")

OPTIONS: list[tuple[str, dict[str, Any], str]] = [
    ("an unknown recipe", {"recipe": "sparse-80"}, r"no recipe 'sparse-80'; there are distill3-int8"),
    ("a missing recipe file", {"recipe": "nowhere.toml"}, r"nowhere.toml: No such file"),
    ("no data to train with", {"recipe": "sparse80-int8", "data": []}, r"needs texts to train with"),
    ("no data to calibrate with", {"recipe": "int8-static", "data": []}, r"needs texts to calibrate with"),
    ("steps without training", {"recipe": "int8-dynamic", "steps": 5}, r"does not train"),
    ("a budget without training", {"recipe": "int8-static", "budget": 5.0}, r"does not train"),
    ("steps and budget", {"recipe": "sparse80-int8", "steps": 5, "budget": 1.0}, r"not both"),
    ("no steps", {"recipe": "sparse80-int8", "steps": 0}, r"must be positive"),
    ("a negative budget", {"recipe": "sparse80-int8", "budget": -1.0}, r"must be positive"),
    ("a teacher without training", {"recipe": "int8-static", "teacher": "elsewhere"}, r"takes no teacher"),
    ("an unknown device", {"recipe": "sparse80-int8", "device": "tpu"}, r"device must be cpu or cuda, not 'tpu'"),
    ("a device without training", {"recipe": "int8-static", "device": "cuda"}, r"takes no device"),
    ("a negative seed", {"recipe": "int8-dynamic", "seed": -1}, r"seed must not be negative"),
    ("missing data", {"recipe": "sparse80-int8", "data": ["nowhere.txt"]}, r"nowhere.txt: No such file"),
    ("missing evaluation data", {"recipe": "sparse80-int8", "exclude": ["nowhere.txt"]}, r"nowhere.txt: No such"),
]


@pytest.mark.parametrize(("options", "message"), [each[1:] for each in OPTIONS], ids=[each[0] for each in OPTIONS])
def test_options(options: dict[str, Any], message: str, encoder_dir: Path, texts_file: Path) -> None:
    with pytest.raises(InputError, match=message):
        make_plan(encoder_dir, **({"data": [texts_file]} | options))


def test_a_model_that_is_not_there(texts_file: Path) -> None:
    with pytest.raises(InputError, match=r"'nowhere' is not a model directory"):
        make_plan("nowhere", recipe="int8-static", data=[texts_file])


def test_a_gpu_that_is_not_there(
    encoder_dir: Path, texts_file: Path, recipe_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(InputError, match=r"device cuda: .* finds no GPU"):
        compress(encoder_dir, tmp_path / "out", recipe=recipe_file, data=[texts_file], device="cuda")
    assert not list(tmp_path.glob("out*"))


def test_a_glob_that_freezes_nothing(encoder_dir: Path, texts_file: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('description = ""\n[distill]\nsteps = 2\nfreeze = ["*wrod*"]\n')
    with pytest.raises(InputError, match=r"freeze: no parameter is called '\*wrod\*'; there is, for example, 'embedd"):
        compress(encoder_dir, tmp_path / "out", recipe=recipe, data=[texts_file])


@pytest.mark.parametrize("given", ["[1, 2]", "[1, 2, 3, 5]"])
def test_a_map_of_layers_that_does_not_fit(given: str, encoder_dir: Path, texts_file: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(f'description = ""\n[distill]\nsteps = 2\nlayer_map = {given}\n[distill.losses]\nhidden = 1\n')
    with pytest.raises(InputError, match=r"names a layer of the teacher, 1 to 4, for each of the student's 4"):
        compress(encoder_dir, tmp_path / "out", recipe=recipe, data=[texts_file])
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize("score", ["magnitude", "snip_momentum"])
def test_freezing_what_is_pruned(score: str, encoder_dir: Path, texts_file: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    table = f'[prune]\nsparsity = 0.5\nscore = "{score}"\n[distill]\nsteps = 2\nfreeze = ["*layer.0.*"]\n'
    recipe.write_text('description = ""\n' + table)
    with pytest.raises(InputError, match=r"linear 'encoder.layer.0.\S+' is to be pruned and frozen at once"):
        compress(encoder_dir, tmp_path / "out", recipe=recipe, data=[texts_file])
    recipe.write_text('description = ""\nignore = ["*layer.0.*"]\n' + table)
    compress(encoder_dir, tmp_path / "other", recipe=recipe, data=[texts_file], threads=1)


def test_freezing_everything(encoder_dir: Path, texts_file: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('description = ""\n[distill]\nsteps = 2\nfreeze = ["*"]\n')
    with pytest.raises(InputError, match=r"no parameter is left to train"):
        compress(encoder_dir, tmp_path / "out", recipe=recipe, data=[texts_file])


RECIPES: list[tuple[str, str, str]] = [
    ("not TOML", "description = ", r"not TOML"),
    ("no description", "[quantize]\n", r"'description' is missing"),
    ("an unknown table", 'description = ""\n[finetune]\n', r"unknown key 'finetune'; there are name"),
    ("an unknown key", 'description = ""\n[prune]\nsparsity = 0.8\nshape = 1\n', r"prune: unknown key 'shape'"),
    ("a wrong type", 'description = ""\n[prune]\nsparsity = "most"\n', r"prune: sparsity must be a number, not 'most'"),
    ("not a table", 'description = ""\nprune = 0.8\n', r"prune must be a table"),
    ("a sparsity above 1", 'description = ""\n[prune]\nsparsity = 80\n', r"sparsity must be from 0 to 1, not 80"),
    ("an unknown pattern", 'description = ""\n[prune]\nsparsity = 0.8\npattern = "2:4"\n', r"no '2:4'; there are 4x1"),
    ("an unknown score", 'description = ""\n[prune]\nsparsity = 0.8\nscore = "luck"\n', r"no 'luck'; there are"),
    ("an unknown scope", 'description = ""\n[prune]\nsparsity = 0.8\nscope = "all"\n', r"scope must be one of"),
    (
        "an end before the begin",
        'description = ""\n[prune]\nsparsity = 0.8\nbegin = 0.9\n',
        r"begin must be from 0 to 0.5",
    ),
    (
        "a score without training",
        'description = ""\n[prune]\nsparsity = 0.8\nscore = "wanda"\n',
        r"the score wanda is observed in training",
    ),
    (
        "a global scope without training",
        'description = ""\n[prune]\nsparsity = 0.8\nscope = "global"\n',
        r'the scope "global" is for pruning while training',
    ),
    ("an unknown loss", 'description = ""\n[distill.losses]\nhope = 1\n', r"losses: no 'hope'"),
    ("a loss that is no number", 'description = ""\n[distill.losses]\nlogits = "x"\n', r"must be a table of numbers"),
    ("an empty batch", 'description = ""\n[distill]\nbatch = 0\n', r"batch must be from 1"),
    ("a true batch", 'description = ""\n[distill]\nbatch = true\n', r"batch must be of type int"),
    ("a student without training", 'description = ""\n[student]\nlayers = 3\n', r"needs \[distill\]"),
    ("an unknown observer", 'description = ""\n[quantize]\nobserver = "eye"\n', r"observer: no 'eye'"),
    ("an unknown scheme", 'description = ""\n[quantize]\nscheme = "int3"\n', r"scheme must be one of"),
    ("an alpha above 1", 'description = ""\n[quantize]\nsmooth = 1.5\n', r"smooth must be from 0 to 1, not 1.5"),
    ("an unknown smoothing", 'description = ""\n[quantize]\nsmooth = "best"\n', r"smooth must be one of auto, not"),
    ("a true alpha", 'description = ""\n[quantize]\nsmooth = true\n', r"smooth must be a number, not True"),
    (
        "smoothing without scales",
        'description = ""\n[quantize]\nscheme = "dynamic"\nsmooth = 0.5\n',
        r'smooth needs the scheme "static"',
    ),
    ("a map of names", 'description = ""\n[distill]\nlayer_map = ["a"]\n', r"layer_map must be a list of integers"),
    ("no temperature", 'description = ""\n[distill]\ntemperature = 0\n', r"temperature must be from 0.01 to 1000"),
    ("globs that are no list", 'description = ""\nonly = "*"\n', r"only must be a list of strings"),
]


@pytest.mark.parametrize(("content", "message"), [each[1:] for each in RECIPES], ids=[each[0] for each in RECIPES])
def test_recipes(content: str, message: str, encoder_dir: Path, texts_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(content)
    with pytest.raises(InputError, match=message) as caught:
        make_plan(encoder_dir, recipe=path, data=[texts_file])
    assert str(path) in str(caught.value)


DATA: list[tuple[str, str, str, tuple[str, ...], str]] = [
    ("empty", "t.txt", "\n\n", (), r"no text is left"),
    ("not UTF-8", "t.txt", "\udcff", (), r"not UTF-8"),
    ("an unknown suffix", "t.png", "x", (), r"texts are read from .txt"),
    ("columns of plain text", "t.txt", "a text\n", ("a",), r"columns are named \(a\), but the data are plain text"),
    ("a table without columns", "t.csv", "a,b\n1,2\n", (), r"name the columns"),
    ("a missing column", "t.csv", "a,b\n1,2\n", ("c",), r"no column 'c'; there are a, b"),
    ("a short row", "t.tsv", "a\tb\n1\n", ("b",), r"t.tsv:2: 1 columns, but the header has 2"),
    ("broken JSON", "t.jsonl", '{"a": "b"}\n{"a"\n', ("a",), r"t.jsonl:2: not JSON"),
    ("not a list", "t.json", '{"a": 1}', ("a",), r"not a list of objects"),
    ("a missing key", "t.json", '[{"a": "b"}, {}]', ("a",), r"object 2: no column 'a'"),
]


@pytest.mark.parametrize(
    ("name", "content", "columns", "message"), [each[1:] for each in DATA], ids=[each[0] for each in DATA]
)
def test_data(
    name: str,
    content: str,
    columns: tuple[str, ...],
    message: str,
    encoder_dir: Path,
    recipe_file: Path,
    tmp_path: Path,
) -> None:
    path = tmp_path / name
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError, match=message):
        compress(encoder_dir, tmp_path / "out", recipe=recipe_file, data=[path], columns=columns)
    assert not list(tmp_path.glob("out*"))  # nor a work folder, which the next command would not fit


def test_a_folder_without_texts(encoder_dir: Path, recipe_file: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"no .txt"):
        compress(encoder_dir, tmp_path / "out", recipe=recipe_file, data=[tmp_path / "empty"])


def test_an_impossible_budget(encoder_dir: Path, texts_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('description = ""\n[distill]\nbudget = 1\n')
    with pytest.raises(InputError, match=r"less than one step"):
        compress(encoder_dir, tmp_path / "out", recipe=path, data=[texts_file], budget=1e-6)


def test_more_layers_than_there_are(encoder_dir: Path, texts_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('description = ""\n[student]\nlayers = 9\n[distill]\nsteps = 1\n')
    with pytest.raises(InputError, match=r"a student of 9 layers from a teacher that has 4"):
        compress(encoder_dir, tmp_path / "out", recipe=path, data=[texts_file])


def test_a_loss_that_the_model_cannot_give(encoder_dir: Path, texts_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('description = ""\n[distill]\nsteps = 1\n[distill.losses]\nlogits = 1\n')
    with pytest.raises(InputError, match=r"needs a model with a head"):
        compress(encoder_dir, tmp_path / "out", recipe=path, data=[texts_file])


def test_globs_that_exclude_everything(encoder_dir: Path, texts_file: Path, recipe_file: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no encoder linear to prune"):
        compress(encoder_dir, tmp_path / "out", recipe=recipe_file, data=[texts_file], ignore=["*"])


def test_a_broken_checkpoint(encoder_dir: Path, texts_file: Path, recipe_file: Path, tmp_path: Path) -> None:
    work = tmp_path / "out.work"
    work.mkdir()
    plan = make_plan(encoder_dir, recipe=recipe_file, data=[texts_file])
    (work / "plan.json").write_text(json.dumps(plan.to_json()))
    (work / "checkpoint.safetensors").write_bytes(b"nothing of use")
    with pytest.raises(FileFormatError, match=r"checkpoint.safetensors: not a checkpoint"):
        compress(encoder_dir, tmp_path / "out", recipe=recipe_file, data=[texts_file])


def test_a_broken_plan(encoder_dir: Path, texts_file: Path, recipe_file: Path, tmp_path: Path) -> None:
    (tmp_path / "out.work").mkdir()
    (tmp_path / "out.work" / "plan.json").write_text("{")
    with pytest.raises(FileFormatError, match=r"plan.json"):
        compress(encoder_dir, tmp_path / "out", recipe=recipe_file, data=[texts_file])


def test_a_full_disk(
    encoder_dir: Path, texts_file: Path, recipe_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(OutputError, match=r"checkpoint.safetensors: the checkpoint cannot be written: .*No space"):
        compress(encoder_dir, tmp_path / "out", recipe=recipe_file, data=[texts_file])
    assert not (tmp_path / "out").exists()
    assert not list((tmp_path / "out.work").glob("*.partial"))


def test_the_command_line_says_it_in_one_line(
    encoder_dir: Path, texts_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        "compress",
        str(encoder_dir),
        "-o",
        str(tmp_path / "out"),
        "--recipe",
        "nothing",
        "--data",
        str(texts_file),
    ]
    assert main(arguments) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert issubclass(InputError, FastcpuError)
