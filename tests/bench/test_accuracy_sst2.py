"""The SST-2 part of the accuracy benchmark: which rows train and choose, and the whole path with a tiny model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bench.accuracy import __main__ as accuracy
from bench.accuracy import runs, sst2
from bench.accuracy.sst2 import Row, split
from tests.tasks import models

WORDS = ["the", "a", "red", "green", "blue", "small", "large", "house", "car", "dog", "cat", "is", "of", "in", "and"]


def phrases(seed: int, count: int) -> list[Row]:
    """Random sentences of 4 to 14 words, each once, and the first half of each as a phrase of its own."""
    random = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        words = list(random.choice(WORDS, random.integers(4, 15)))
        label = str(random.integers(2))
        rows += [Row(" ".join([*words, ". "]), label), Row(" ".join(words[: len(words) // 2]) + " ", label)]
    return rows


def test_what_is_held_out_is_a_full_sentence_and_its_phrases_are_not_trained_on() -> None:
    rows = phrases(0, 200)
    train, held = split(rows, 20, 0)
    assert len(held) == 20
    assert all(len(row.phrase.split()) >= 8 and row.phrase.endswith(". ") for row in held)
    whole = [f" {' '.join(row.phrase.split())} " for row in held]
    inside = [row for row in rows if any(f" {' '.join(row.phrase.split())} " in sentence for sentence in whole)]
    assert len(inside) >= 40
    assert train == [row for row in rows if row not in inside]
    assert split(rows, 20, 0) == (train, held)
    assert split(rows, 20, 1) != (train, held)


def test_glue_train_is_split_as_documented(data_dir: Path) -> None:
    rows = [*sst2.read(data_dir / "sst2" / "train.tsv"), *sst2.read(data_dir / "sst2" / "dev.tsv")]
    assert len(rows) == 67_349
    assert {row.label for row in rows} == {"0", "1"}
    train, held = split(rows, sst2.HELD_OUT, sst2.SEED)
    assert len(held) == len({row.phrase for row in held}) == 700
    assert 55_000 < len(train) < 64_000
    assert 0.45 < sum(row.label == "1" for row in held) / 700 < 0.6


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Data of a few hundred phrases, a tiny encoder without a head, and folders of their own."""
    pytest.importorskip("torch")
    encoder = models.huggingface("embed", "Model", "Bert", tmp_path / "encoder")
    data = tmp_path / "data"
    (data / "sst2").mkdir(parents=True)
    for seed, (part, count) in enumerate((("train", 80), ("dev", 10), ("test", 10))):
        sst2.write(data / "sst2" / f"{part}.tsv", phrases(seed, count))
    monkeypatch.setenv("FASTCPU_DATA", str(data))
    monkeypatch.setattr(runs, "MODELS", tmp_path / "models")
    monkeypatch.setattr(runs, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(runs, "minilm", lambda: encoder)
    monkeypatch.setattr(sst2, "HELD_OUT", 12)
    monkeypatch.setattr(sst2, "SPLICED", 20)
    monkeypatch.setattr(sst2, "sentences", lambda _: [row.phrase for row in phrases(3, 20)])
    return tmp_path


def test_the_whole_path_with_a_few_steps(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--parts", "sst2", "--steps", "3", "--threads", "1"]
    accuracy.main(arguments)
    results = {path.stem: json.loads(path.read_text()) for path in (small / "results").iterdir()}
    tuned, members = "sst2-teacher-seed0", {f"sst2-finetune-seed{seed}" for seed in sst2.MEMBERS}
    assert set(results) == members | {tuned, "sst2-int8-static-seed0", "sst2-sparse80-int8-seed0"}
    test = sst2.read(small / "data" / "sst2" / "test.tsv")
    for name, result in results.items():
        assert result["seed"] == int(name[-1])
        assert {"recipe", "steps", "texts", "training", "evaluated", "machine", "log"} <= set(result)
        if name in members:
            assert set(result["metrics"]) == {"held-out"}, "GLUE dev is read for models that are published alone"
            continue
        assert set(result["metrics"]) == {"held-out", "GLUE dev"}
        assert 0 <= result["metrics"]["GLUE dev"]["accuracy"]["value"] <= 1
        assert (result["difference_to_teacher"]["GLUE dev"] is None) == (name == tuned)
    assert results[tuned]["steps"] == results["sst2-sparse80-int8-seed0"]["steps"] == 3
    assert results["sst2-int8-static-seed0"]["steps"] is None
    losses = results["sst2-sparse80-int8-seed0"]["recipe"]["distill"]["losses"]
    assert set(losses) == {"logits", "hidden"}, "the teacher alone"
    lines = [json.loads(line) for line in (small / "models" / "evaluations.jsonl").read_text().splitlines()]
    assert {line["examples"] for line in lines} == {len(test)}, "only GLUE dev is final"
    plan = json.loads((small / "models" / tuned / "report.json").read_text())["compression"]["plan"]
    assert [Path(each).name for each in (plan["teacher"], *plan["assistants"])] == [
        f"{m}-torch" for m in sorted(members)
    ]

    trained = {path: path.stat().st_mtime_ns for path in (small / "models").rglob("*.safetensors")}
    accuracy.main(arguments)
    assert {path: path.stat().st_mtime_ns for path in (small / "models").rglob("*.safetensors")} == trained
    assert capsys.readouterr().out.count("GLUE dev") == 6


def test_a_kept_student_that_is_missing_is_made_again(small: Path) -> None:
    runs.MODELS.mkdir()
    data = sst2.write(small / "train.tsv", phrases(0, 30))
    base = sst2.with_head(runs.minilm(), small / "base", 0)
    options = {"recipe": "finetune", "data": [data], "steps": 2, "threads": 1, "device": "cpu"}
    student = small / "student"
    runs.train("model", base, options, student)
    weights = (student / "model.safetensors").read_bytes()
    assert sst2.with_head(runs.minilm(), small / "again", 0).joinpath("model.safetensors").read_bytes() != weights
    for file in student.iterdir():
        file.unlink()
    student.rmdir()
    runs.train("model", base, options, student)
    assert (student / "model.safetensors").read_bytes() == weights


def test_an_unknown_part(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        accuracy.main(["--parts", "mrpc"])
    assert "no part 'mrpc'; there are stsb, sst2" in capsys.readouterr().err
