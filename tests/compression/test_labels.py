"""Training on labels: a classifier without a teacher, and a student of labels and a teacher."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastcpu.cli.main import main
from fastcpu.compression import compress
from fastcpu.compression.examples import excluded_files, labels_of, read_examples, read_excluded, training_files
from fastcpu.compression.gate import Gate
from fastcpu.compression.run import make_plan
from fastcpu.data import read_texts
from fastcpu.distill.losses.loss import NO_LABEL
from fastcpu.errors import InputError, OutputError
from fastcpu.tasks import Classifier
from fastcpu.tasks.engine import as_engine
from fastcpu.tasks.tokenizer import Encoded
from tests.eval.test_data import SAVED
from tests.tasks import models

pytest.importorskip("torch")

LABELS = ("bad", "good", "neither")
RECIPE = 'description = ""\n[distill]\nbatch = 16\nsteps = {steps}\nlearning_rate = 3e-3\n'


def rows(seed: int, count: int) -> list[tuple[str, str]]:
    """Words in random order; one of them says what the label is."""
    random = np.random.default_rng(seed)
    words, telling = ["the", "a", "is", "of", "in", "and", "house", "car"], ["red", "green", "blue"]
    made = []
    for _ in range(count):
        label = int(random.integers(3))
        text = [*random.choice(words, random.integers(2, 8)), telling[label]]
        made.append((" ".join(random.permutation(text)), LABELS[label]))
    return made


def table(path: Path, content: list[tuple[str, str]], header: str = "sentence\tlabel") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *("\t".join(row) for row in content)]) + "\n")
    return path


@pytest.fixture(scope="module")
def classifier_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.huggingface("classify", "ForSequenceClassification", "Bert", tmp_path_factory.mktemp("classifier"))


@pytest.fixture
def train(tmp_path: Path) -> Path:
    return table(tmp_path / "train.tsv", rows(0, 400))


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE.format(steps=2))
    return path


def test_a_classifier_learns_its_labels_and_teaches_them(classifier_dir: Path, train: Path, tmp_path: Path) -> None:
    dev = table(tmp_path / "dev.tsv", rows(1, 100))
    first = tmp_path / "first.toml"
    first.write_text(RECIPE.format(steps=150) + "[distill.losses]\nlabels = 1\n")
    teacher, gate = tmp_path / "teacher", Gate("classify", str(dev))
    tuned = compress(
        classifier_dir, tmp_path / "f32", recipe=first, data=[train], gate=gate, threads=1, keep_student=teacher
    )
    accuracy = tuned.report["compression"]["accuracy"]
    assert accuracy["teacher"]["accuracy"]["value"] < 0.7
    assert accuracy["model"]["accuracy"]["value"] > 0.95
    texts = tuned.report["compression"]["texts"]
    assert texts["labelled"] == texts["taken"] > 100

    second = tmp_path / "second.toml"
    second.write_text(RECIPE.format(steps=60) + "[prune]\nsparsity = 0.5\n[quantize]\ncalibration = 32\n")
    compressed = compress(teacher, tmp_path / "int8", recipe=second, data=[train], gate=gate, threads=1, timing=False)
    report = compressed.report["compression"]
    assert report["plan"]["recipe"]["distill"]["losses"] == {"logits": 1.0, "hidden": 1.0, "labels": 1.0}
    assert report["accuracy"]["teacher"]["accuracy"]["value"] == accuracy["model"]["accuracy"]["value"]
    assert report["accuracy"]["model"]["accuracy"]["value"] > 0.9
    assert set(report["log"][-1]["losses"]) == {"logits", "hidden", "labels"}
    (label,) = Classifier(compressed.directory)(["the house is red"])
    assert label.label == "bad"


def test_texts_without_labels_beside_labelled_ones(classifier_dir: Path, train: Path, tmp_path: Path) -> None:
    plain = tmp_path / "more.txt"
    plain.write_text("the red house lives in London\n\nPaul works\n")
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE.format(steps=3) + "[distill.losses]\nlabels = 1\nlogits = 1\n")
    out = compress(classifier_dir, tmp_path / "out", recipe=recipe, data=[train, plain], threads=1, timing=False)
    texts = out.report["compression"]["texts"]
    assert texts["taken"] == texts["labelled"] + 2 == 402


@pytest.mark.parametrize(
    ("options", "losses"),
    [
        ({"columns": ["sentence1=sentence", "label=label"]}, {"logits", "hidden", "labels"}),
        ({"columns": ["sentence"]}, {"logits", "hidden"}),
        ({"gate": True}, {"logits", "hidden", "labels"}),
        ({"gate": True, "columns": ["sentence"]}, {"logits", "hidden"}),
    ],
)
def test_what_is_learned_where_the_recipe_does_not_say(
    options: dict[str, Any], losses: set[str], classifier_dir: Path, train: Path, recipe: Path
) -> None:
    if options.get("gate"):
        options = options | {"gate": Gate("classify", str(train))}
    chosen = make_plan(classifier_dir, recipe=recipe, data=[train], **options).recipe.distill
    assert chosen is not None
    assert set(chosen.losses) == losses


def test_plain_lines_have_no_labels(classifier_dir: Path, train: Path, recipe: Path, tmp_path: Path) -> None:
    plain = tmp_path / "texts.txt"
    plain.write_text("the red house\n")
    chosen = make_plan(classifier_dir, recipe=recipe, data=[plain], gate=Gate("classify", str(train))).recipe.distill
    assert chosen is not None
    assert "labels" not in chosen.losses


def test_excluded_tables_are_read_like_the_data(
    classifier_dir: Path, train: Path, recipe: Path, tmp_path: Path
) -> None:
    held = table(tmp_path / "held.tsv", rows(0, 50))
    options: dict[str, Any] = {"columns": ["sentence1=sentence", "label=label"], "exclude": [held], "threads": 1}
    out = compress(classifier_dir, tmp_path / "out", recipe=recipe, data=[train], **options)
    assert out.report["compression"]["texts"]["equal"] >= 50


@pytest.mark.parametrize("columns", [["sentence1=sentence", "label=label"], ["sentence"]])
def test_all_parts_of_an_excluded_folder_are_kept_out(
    columns: list[str], classifier_dir: Path, recipe: Path, tmp_path: Path
) -> None:
    parts = {name: rows(seed, 20) for seed, name in enumerate(("train", "dev", "test"))}
    for name, content in parts.items():
        table(tmp_path / "held" / name / "data.tsv", content)
    leaked = table(tmp_path / "data.tsv", [*parts["dev"], *parts["test"], ("the car of a house in and the", "bad")])
    compiled = compress(
        classifier_dir,
        tmp_path / "out",
        recipe="int8-static",
        data=[leaked],
        columns=columns,
        exclude=[tmp_path / "held"],
        threads=1,
        timing=False,
    )
    assert compiled.report["compression"]["texts"]["equal"] == 40
    assert compiled.report["compression"]["texts"]["taken"] == 1


def test_excluded_tables_of_plain_texts(tmp_path: Path) -> None:
    pairs = table(tmp_path / "pairs.tsv", [("one two", "three four")], "sentence1\tsentence2")
    named = table(tmp_path / "named.tsv", [("five", "six")], "a\tb")
    assert list(read_excluded([pairs], [])) == ["one two", "three four"]
    assert list(read_excluded([named, pairs], ["b"])) == ["six", "one two", "three four"]
    with pytest.raises(InputError, match=r"named.tsv:2: no column 'sentence1' or 'sentence' or 'text'"):
        list(read_excluded([named], []))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no file of evaluation sentences in this folder"):
        excluded_files([str(tmp_path / "empty")])


def test_what_datasets_has_saved(classifier_dir: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    shutil.copytree(SAVED, tmp_path / "set")
    (tmp_path / "set" / "validation").rename(tmp_path / "set" / "train")
    check_training_part(classifier_dir, tmp_path / "set", "sentence")


def test_parquet_by_parts(classifier_dir: Path, tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    (tmp_path / "set").mkdir()
    for name in ("train", "test"):
        rows = pa.table({"sentence": [f"a {name}"] * 3, "label": [0] * 3})
        parquet.write_table(rows, tmp_path / "set" / f"{name}-00000-of-00001.parquet")
    check_training_part(classifier_dir, tmp_path / "set", "sentence")


def check_training_part(model: Path, folder: Path, column: str) -> None:
    """Of a folder in a form of `datasets`, three rows are trained with, as labelled texts and as texts."""
    plan = make_plan(model, recipe="finetune", data=[folder], columns=[f"sentence1={column}", "label=label"], steps=1)
    (file,) = plan.training_files()
    assert "train" in str(file.relative_to(folder))
    assert plan.digests[str(file)]
    texts = [each.text for each in read_examples([file], [f"sentence1={column}"], None)]
    assert len(texts) == 3
    assert set(texts) <= set(read_texts([folder], [column]))


def test_tables_calibrate_without_their_labels(classifier_dir: Path, tmp_path: Path) -> None:
    foreign = tmp_path / "train.csv"
    foreign.write_text("text,label\nthe red house,unheard of\n")
    gate = Gate("classify", str(table(tmp_path / "dev.tsv", rows(1, 20))))
    out = compress(classifier_dir, tmp_path / "out", recipe="int8-static", data=[foreign], gate=gate)
    assert out.report["options"]["calibration_sequences"] == 1


# ---- rows ----


def read(path: Path, *columns: str) -> list[tuple[str, int]]:
    return [tuple(each) for each in read_examples(training_files([str(path)], tables=True), columns, LABELS)]


def test_labels_are_names_or_numbers_or_missing(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    labels = ["good", "GOOD", 0, "2", None, "", -1, "-1"]
    path.write_text("".join(json.dumps({"text": "  a\n b ", "label": label}) + "\n" for label in labels))
    missing = [NO_LABEL] * 4
    assert read(path) == [("a b", number) for number in [1, 1, 0, 2, *missing]]


def test_a_folder_stands_for_its_training_split(tmp_path: Path) -> None:
    for split in ("train", "dev", "test"):
        table(tmp_path / f"{split}.tsv", [(split, "bad")])
    assert read(tmp_path) == [("train", 0)]


def test_a_table_without_a_header(tmp_path: Path) -> None:
    path = tmp_path / "train.tsv"
    path.write_text("0\tgood\tthe car\n")
    assert read(path, "sentence1=3", "label=2") == [("the car", 1)]


@pytest.mark.parametrize(
    ("content", "columns", "message"),
    [
        (
            "text\tlabel\na\tbest\n",
            (),
            r"train.tsv:2: column 'label' is 'best', no label of the model \(bad, good, nei",
        ),
        ("text\tlabel\na\t3\n", (), r"train.tsv:2: column 'label' is '3', no label of the model"),
        ("text\tlabel\na\t-2\n", (), r"train.tsv:2: column 'label' is '-2', no label"),
        ("text\tlabel\n \tbad\n", (), r"train.tsv:2: column 'text' is ' ' and not a text"),
        ("text\tclass\na\tbad\n", (), r"train.tsv:2: no column 'label' for label; there are text, class"),
        ("text\tlabel\na\tbad\n", ("label=kind",), r"no column 'kind' for label"),
        ("text\tlabel\na\tbad\n", ("text",), r"columns are given as role=column"),
        ("text\tlabel\na\tbad\n", ("score=label",), r"no column 'score' is read by this task"),
        ("text\tlabel\n", (), r"train.tsv: holds no rows"),
        ("sentence1\tsentence2\tlabel\na\t\tbad\n", (), r"train.tsv:2: column 'sentence2' is '' and not a text"),
        ("text\tlabel\na\n", (), r"train.tsv:2: 1 columns, but the header has 2"),
    ],
)
def test_bad_rows(content: str, columns: tuple[str, ...], message: str, tmp_path: Path) -> None:
    path = tmp_path / "train.tsv"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        read(path, *columns)


# ---- models and options ----


def test_the_labels_of_a_model(classifier_dir: Path, encoder_dir: Path, tmp_path: Path) -> None:
    assert labels_of(classifier_dir) == LABELS
    for config, message in [
        ({"architectures": ["BertForTokenClassification"]}, r"names the architecture 'BertForTokenClassification'"),
        ({}, r"names the architecture 'none'"),
        (
            {"architectures": ["BertForSequenceClassification"], "problem_type": "regression"},
            r"made for regression; labels are learned by",
        ),
        ({"architectures": ["BertForSequenceClassification"], "id2label": {"0": "x"}}, r"made for multi_label"),
    ]:
        (tmp_path / "config.json").write_text(json.dumps(config))
        with pytest.raises(InputError, match=message):
            labels_of(tmp_path)
    (tmp_path / "config.json").write_text('{"architectures": ["BertForSequenceClassification"]}')
    assert labels_of(tmp_path) == ("LABEL_0", "LABEL_1")
    with pytest.raises(InputError, match="a head for sequence classification"):
        labels_of(encoder_dir)


def test_labels_alone_take_no_teacher(classifier_dir: Path, train: Path) -> None:
    with pytest.raises(InputError, match="recipe finetune learns the labels of the data alone: it takes no teacher"):
        make_plan(classifier_dir, recipe="finetune", data=[train], teacher=classifier_dir, steps=1)


def test_a_sentence_encoder_learns_no_labels(encoder_dir: Path, train: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="labels are learned by models with a head"):
        compress(encoder_dir, tmp_path / "out", recipe="finetune", data=[train], steps=1)


def test_a_student_is_kept_where_nothing_is(
    classifier_dir: Path, train: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(OutputError, match="exists already; the student is kept where nothing is"):
        compress(classifier_dir, tmp_path / "out", recipe="finetune", data=[train], steps=1, keep_student=tmp_path)
    arguments = ["compress", str(classifier_dir), "-o", str(tmp_path / "out"), "--keep-student", str(tmp_path / "hf")]
    assert main([*arguments, "--recipe", "int8-dynamic"]) == 2
    assert "there is no student to keep" in capsys.readouterr().err
    assert not list(tmp_path.glob("out*"))
    assert main([*arguments, "--recipe", "finetune", "--data", str(train), "--steps", "2", "--threads", "1"]) == 0
    again = compress(
        tmp_path / "hf", tmp_path / "again", recipe="finetune", data=[train], steps=1, threads=1, timing=False
    )
    assert labels_of(tmp_path / "hf") == LABELS
    assert Classifier(again)(["the car"])[0].label in LABELS


def teacher_of(source: Path, folder: Path, bias: tuple[float, ...]) -> Path:
    """A copy of a classifier that says the same of every text."""
    import torch
    from safetensors.torch import load_file, save_file

    path = shutil.copytree(source, folder) / "model.safetensors"
    tensors = load_file(path)
    tensors["classifier.weight"] = torch.zeros_like(tensors["classifier.weight"])
    tensors["classifier.bias"] = torch.tensor(bias)
    save_file(tensors, path, {"format": "pt"})
    return folder


def test_the_logits_of_several_teachers_are_averaged(classifier_dir: Path, train: Path, tmp_path: Path) -> None:
    teachers = [
        teacher_of(classifier_dir, tmp_path / f"teacher{i}", bias)
        for i, bias in enumerate([(3.0, 0.0, 0.0), (-1.0, 0.0, 0.0)])
    ]
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE.format(steps=120) + "[distill.losses]\nlogits = 1\n")
    options = {"recipe": recipe, "data": [train], "columns": ["sentence"], "threads": 1, "timing": False}
    out = compress(classifier_dir, tmp_path / "out", teacher=teachers, **options)
    assert out.report["compression"]["plan"]["assistants"] == [str(teachers[1])]
    assert "the mean of 2 teachers" in (out.directory / "README.md").read_text()
    logits = as_engine(out.directory, 1).run([Encoded(np.array([2, 9, 3]), np.zeros(3, np.int64))])["logits"][0]
    assert logits[0] - logits[1] == pytest.approx(1.0, abs=0.2)


def test_teachers_that_cannot_be_averaged(classifier_dir: Path, train: Path, tmp_path: Path) -> None:
    other = shutil.copytree(classifier_dir, tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    config["id2label"] = {"0": "up", "1": "down"}
    (other / "config.json").write_text(json.dumps(config))
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE.format(steps=2))
    options = {"recipe": recipe, "data": [train], "threads": 1}
    with pytest.raises(InputError, match=r"several teachers teach logits alone, and it learns from hidden, too"):
        compress(classifier_dir, tmp_path / "out", teacher=[classifier_dir, other], **options)
    recipe.write_text(RECIPE.format(steps=2) + "[distill.losses]\nlogits = 1\n")
    with pytest.raises(InputError, match=r"other: its labels are .*'up'.*, and those of .* are "):
        compress(classifier_dir, tmp_path / "out", teacher=[classifier_dir, other], **options)
    del config["id2label"]
    (other / "config.json").write_text(json.dumps(config | {"num_labels": 3}))
    with pytest.raises(InputError, match=r"other: its labels are .*'LABEL_2'.*, and those of .* are "):
        compress(classifier_dir, tmp_path / "out", teacher=[classifier_dir, other], **options)
    with pytest.raises(InputError, match=r"teacher must be the path of a directory, not 5"):
        compress(classifier_dir, tmp_path / "out", teacher=[classifier_dir, 5], **options)
