"""A model is measured before it is published, and kept back if it has lost too much."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from fastcpu.cli.main import main
from fastcpu.compression import compress
from fastcpu.compression.gate import Gate, gate_length
from fastcpu.compression.run import make_plan
from fastcpu.compression.target import Target
from fastcpu.errors import AccuracyError, InputError
from fastcpu.eval.engine import open_engine
from fastcpu.recipe import Distill, Quantize, Recipe
from fastcpu.tasks import Classifier
from tests.report.pages import check
from tests.tasks import models

pytest.importorskip("torch")


@pytest.mark.parametrize(
    ("max_drop", "floor"), [(None, float("-inf")), ("0.5", 0.795), ("0", 0.8), ("1%", 0.792), ("100%", 0.0)]
)
def test_floor(max_drop: str | None, floor: float) -> None:
    assert Gate("sts", max_drop=max_drop).floor(0.8) == pytest.approx(floor)


@pytest.mark.parametrize("max_drop", ["", "much", "-1", "101", "1 %%", "nan"])
def test_a_drop_that_is_none(max_drop: str) -> None:
    with pytest.raises(InputError, match=r"a drop is written as points"):
        Gate("sts", max_drop=max_drop).checked()


def test_an_unknown_task() -> None:
    with pytest.raises(InputError, match=r"no task 'chess'; there are classify, qa, rerank, retrieval, sts, tag"):
        Gate("chess").checked()


def test_the_result_is_in_the_report(encoder_dir: Path, sts_dir: Path, tmp_path: Path) -> None:
    gate = Gate("sts", str(sts_dir), max_drop="20%")
    compiled = compress(encoder_dir, tmp_path / "out", recipe="int8-dynamic", gate=gate)
    accuracy = compiled.report["compression"]["accuracy"]
    assert accuracy["examples"] == 60
    assert accuracy["teacher"]["spearman"]["value"] > 0.999
    assert abs(accuracy["difference"]["spearman"]["value"]) < 0.1
    assert json.loads((compiled.directory / "report.json").read_text()) == compiled.report
    html = (compiled.directory / "report.html").read_text()
    check(html)
    assert "Quality against latency" in html
    assert html.count("<circle") == 2, "the teacher and the model"
    value = f"{accuracy['model']['spearman']['value']:.4f}"
    for text in (html, (compiled.directory / "README.md").read_text()):
        assert value in text
        assert "60 examples of sts, part dev" in text
        assert "Quality was not measured" not in text
    assert "metrics:\n- spearmanr\n---" in (compiled.directory / "README.md").read_text()


@pytest.mark.parametrize(("trained", "expected"), [(None, None), (0, None), (48, 48)])
def test_the_task_says_how_long_texts_are_unless_the_recipe_does(trained: int | None, expected: int | None) -> None:
    recipe = Recipe("r", "", quantize=Quantize("dynamic"))
    plan_recipe = recipe if trained is None else replace(recipe, distill=Distill(max_length=trained))
    assert gate_length(plan_recipe) == expected


def test_the_gate_is_given_no_length_of_its_own(
    encoder_dir: Path, sts_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths: list[int | None] = []
    measure = Gate.measure
    monkeypatch.setattr(
        Gate,
        "measure",
        lambda self, *args: lengths.append(args[2]) or measure(self, *args),  # type: ignore[func-returns-value]
    )
    compress(encoder_dir, tmp_path / "out", recipe="int8-dynamic", gate=Gate("sts", str(sts_dir)))
    assert lengths == [None, None]  # of teacher and model


def test_a_model_that_lost_too_much_is_kept_back(
    encoder_dir: Path, sts_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "ruin.toml"
    recipe.write_text('description = ""\n[prune]\nsparsity = 1.0\n')
    out = tmp_path / "out"
    out.mkdir()
    gate = Gate("sts", str(sts_dir), max_drop="1%")
    with pytest.raises(AccuracyError, match=r"spearman on sts dev is .* and must be at least .*; nothing was written"):
        compress(encoder_dir, out, recipe=recipe, gate=gate)
    assert not list(out.iterdir())
    options = ["--recipe", str(recipe), "--task", "sts", "--eval-data", str(sts_dir), "--max-drop", "1%"]
    assert main(["compress", str(encoder_dir), "-o", str(out), *options]) == 3
    assert capsys.readouterr().err.count("must be at least") == 1


def test_test_data_is_told_by_its_name_and_logged(encoder_dir: Path, sts_dir: Path, tmp_path: Path) -> None:
    path = tmp_path / "sts-test.csv"
    path.write_text((sts_dir / "sts-dev.csv").read_text())
    gate = Gate("sts", str(path), max_drop="20%")
    assert gate.on_test
    assert not Gate("sts", str(sts_dir)).on_test
    compiled = compress(encoder_dir, tmp_path / "out", recipe="int8-dynamic", gate=gate, timing=False)
    assert compiled.report["compression"]["accuracy"]["split"] == "test"
    lines = [json.loads(line) for line in (tmp_path / "out.evaluations.jsonl").read_text().splitlines()]
    assert [line["model"] for line in lines] == [str(encoder_dir.resolve()), str((tmp_path / "out").resolve())]
    values = compiled.report["compression"]["accuracy"]
    assert [line["metrics"]["spearman"] for line in lines] == [
        values[each]["spearman"]["value"] for each in ("teacher", "model")
    ]
    with pytest.raises(InputError, match=r"chooses by what it measures: give it other data than .*sts-test.csv"):
        make_plan(encoder_dir, recipe="sparse80-int8", data=[path], columns=["a"], gate=gate, target=Target(speedup=2))
    log = (tmp_path / "out.evaluations.jsonl").read_text()
    compress(encoder_dir, tmp_path / "other", recipe="int8-dynamic", gate=Gate("sts", str(sts_dir)), timing=False)
    assert not (tmp_path / "other.evaluations.jsonl").exists()
    assert (tmp_path / "out.evaluations.jsonl").read_text() == log


def test_no_layers_are_chosen_by_test_data(encoder_dir: Path, sts_dir: Path, tmp_path: Path) -> None:
    path = tmp_path / "sts-test.csv"
    path.write_text((sts_dir / "sts-dev.csv").read_text())
    stages: list[str] = []
    gate = Gate("sts", str(path), max_drop="0")
    recipe = tmp_path / "ruin.toml"
    recipe.write_text('description = ""\n[prune]\nsparsity = 0.9\n[quantize]\nscheme = "dynamic"\n')
    with pytest.raises(AccuracyError):
        compress(encoder_dir, tmp_path / "out", recipe=recipe, gate=gate, report=lambda stage, _: stages.append(stage))
    assert "cost of each layer" not in stages


def classifier(folder: Path) -> tuple[Path, Path]:
    """A model and a table of texts with the labels that it gives them."""
    model = models.huggingface("classify", "ForSequenceClassification", "DistilBert", folder / "model")
    texts = ["the red house", "Anna lives in London", "is the dog small ?", "Paul works in Paris"]
    labels = [each.label for each in Classifier(open_engine(model, 1, "ForSequenceClassification"))(texts)]
    rows = [f"{text}\t{label}" for text, label in zip(texts, labels, strict=True)]
    (folder / "dev.tsv").write_text("\n".join(["sentence\tlabel", *rows]) + "\n")
    return model, folder / "dev.tsv"


def test_a_drop_of_another_metric(tmp_path: Path) -> None:
    folder, data = classifier(tmp_path)
    gate = Gate("classify", str(data), max_drop="50", metric="macro_f1")
    accuracy = compress(folder, tmp_path / "out", recipe="int8-dynamic", gate=gate).report["compression"]["accuracy"]
    assert accuracy["metric"] == "macro_f1"
    with pytest.raises(InputError, match=r"the metric spearman is not defined for this model; there are accuracy"):
        compress(folder, tmp_path / "b", recipe="int8-dynamic", gate=replace(gate, metric="spearman"), timing=False)


def test_what_is_measured_is_not_trained_on(encoder_dir: Path, sts_dir: Path, texts_file: Path, tmp_path: Path) -> None:
    leaked = tmp_path / "leaked.txt"
    first = [line.split("\t")[5] for line in (sts_dir / "sts-dev.csv").read_text().splitlines()]
    leaked.write_text(texts_file.read_text() + "\n".join(first) + "\n")
    gate = Gate("sts", str(sts_dir))
    compiled = compress(encoder_dir, tmp_path / "out", recipe="int8-static", data=[leaked], gate=gate)
    assert compiled.report["compression"]["texts"]["equal"] >= len(first)


def test_columns_of_the_data(encoder_dir: Path, sts_dir: Path, tmp_path: Path) -> None:
    rows = [line.split("\t")[4:7] for line in (sts_dir / "sts-dev.csv").read_text().splitlines()]
    table = tmp_path / "pairs.tsv"
    table.write_text("\n".join("\t".join(row) for row in [["gold", "left", "right"], *rows]) + "\n")
    columns = "label=gold,sentence1=left,sentence2=right"
    options = ["--task", "sts", "--eval-data", str(table), "--eval-columns", columns]
    out = tmp_path / "out"
    assert main(["compress", str(encoder_dir), "-o", str(out), "--recipe", "int8-dynamic", *options]) == 0
    accuracy = json.loads((out / "report.json").read_text())["compression"]["accuracy"]
    assert accuracy["examples"] == 60
    assert accuracy["teacher"]["spearman"]["value"] > 0.999


def test_a_classifier_is_measured_with_its_labels(tmp_path: Path) -> None:
    folder, data = classifier(tmp_path)
    gate = Gate("classify", str(data), max_drop="50")
    accuracy = compress(folder, tmp_path / "out", recipe="int8-dynamic", gate=gate).report["compression"]["accuracy"]
    assert accuracy["teacher"]["accuracy"]["value"] == 1.0
    assert set(accuracy["difference"]) == {"accuracy", "macro_f1", "matthews"}
