"""Searches that measure and train, on a model of four small layers."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastcpu.cli.main import main
from fastcpu.compression import candidate, compress, trials
from fastcpu.compression.gate import Gate
from fastcpu.compression.latency import Latency
from fastcpu.compression.run import make_plan
from fastcpu.compression.target import Target
from fastcpu.errors import AccuracyError, InputError
from tests.compression.conftest import TRAINING
from tests.compression.made_up import by_weights, encoder_layers, make_up
from tests.compression.start import start

pytest.importorskip("torch")

RECIPE = TRAINING + '[quantize]\nscheme = "dynamic"\n'


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "searched.toml"
    path.write_text(RECIPE.format(steps=40))
    return path


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Few candidates, whose latencies are made up; returns the models that were measured."""
    measured: list[Path] = []

    def measure(dense: Path, model: Path, feeds: Any, threads: int) -> Latency:
        measured.append(model)
        return by_weights(dense, model, feeds, threads)

    make_up(monkeypatch.setattr)
    monkeypatch.setattr(trials, "measure_beside", measure)
    return measured


def test_a_speed_up_is_found_and_measured(encoder_dir: Path, texts_file: Path, recipe: Path, tmp_path: Path) -> None:
    target = Target(speedup=1.3, batch=4, sequence=32)
    options: dict[str, Any] = {"recipe": recipe, "data": [texts_file], "threads": 1, "target": target}
    stages: list[str] = []
    compiled = compress(encoder_dir, tmp_path / "out", report=lambda stage, _: stages.append(stage), **options)
    found = compiled.report["compression"]["search"]
    chosen = [row for row in found["candidates"] if row["verdict"] == "chosen"]
    assert len(chosen) == 1
    assert chosen[0]["speedup"] >= 1.3
    assert found["chosen"] == {name: chosen[0][name] for name in ("layers", "sparsity")}
    assert found["measured_on"] == {"speedup": 1.3, "milliseconds": None, "batch": 4, "sequence": 32, "threads": 1}
    rows = encoder_layers(compiled.report)
    assert len(rows) == 6 * chosen[0]["layers"]
    assert all(row["zero_blocks"] == pytest.approx(chosen[0]["sparsity"], abs=0.01) for row in rows)
    assert all(row["storage"] == "s8" for row in rows)
    assert stages.count("training") == compiled.report["compression"]["steps"] == 40
    assert not (tmp_path / "out.work").exists()


@pytest.mark.usefixtures("made_up")
def test_the_task_decides(encoder_dir: Path, texts_file: Path, sts_dir: Path, recipe: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"recipe": recipe, "data": [texts_file], "threads": 1, "target": Target(speedup=2.2)}
    gate = Gate("sts", str(sts_dir))
    report = compress(encoder_dir, tmp_path / "out", gate=gate, **options).report["compression"]
    scores = {
        (row["layers"], each["share"]): each["score"]
        for row in report["search"]["candidates"]
        for each in row["scores"]
    }
    last = {layers: score for (layers, share), score in scores.items() if share == 0.2}
    assert len(scores) > len(last) == 2
    assert report["search"]["score"] == "sts, dev"
    assert report["search"]["chosen"]["layers"] == max(last, key=lambda layers: last[layers])
    assert report["accuracy"]["examples"] == 60


@pytest.mark.usefixtures("made_up")
def test_the_fastest_that_holds_a_drop_is_the_one_trained(
    encoder_dir: Path, texts_file: Path, sts_dir: Path, recipe: Path, tmp_path: Path
) -> None:
    """With a readout, which is part of what a trial is judged by and of what is handed over."""
    recipe.write_text(recipe.read_text().replace("[distill]", "[distill]\nreadout = 200"))
    options: dict[str, Any] = {"recipe": recipe, "data": [texts_file], "threads": 1}
    gate = Gate("sts", str(sts_dir), max_drop="60")
    searched = compress(encoder_dir, tmp_path / "a", target=Target(), gate=gate, **options)
    found = searched.report["compression"]["search"]
    chosen = next(row for row in found["candidates"] if row["verdict"] == "chosen")
    accuracy = searched.report["compression"]["accuracy"]
    assert chosen["scores"][-1] == {"share": 1.0, "score": accuracy["model"]["spearman"]["value"]}
    assert chosen["speedup"] > 1
    alone = tmp_path / "alone.toml"
    changes = f"sparsity = {chosen['sparsity']}", f"\n[student]\nlayers = {chosen['layers']}\n"
    assert searched.report["compression"]["readout"] == 200
    alone.write_text(recipe.read_text().replace("sparsity = 0.5", changes[0]) + changes[1])
    trained = compress(encoder_dir, tmp_path / "b", gate=gate, **(options | {"recipe": alone}))
    assert (trained.directory / "weights.safetensors").read_bytes() == (
        searched.directory / "weights.safetensors"
    ).read_bytes()


@pytest.mark.usefixtures("made_up")
def test_a_drop_that_cannot_be_held(
    encoder_dir: Path,
    texts_file: Path,
    sts_dir: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(candidate, "SPARSITIES", (0.0, 0.8))
    recipe = tmp_path / "few.toml"
    recipe.write_text(RECIPE.format(steps=2).replace("1e-3", "0.5"))
    options: dict[str, Any] = {"recipe": recipe, "data": [texts_file], "threads": 1}
    gate = Gate("sts", str(sts_dir), max_drop="0")
    with pytest.raises(AccuracyError, match=r"no candidate holds the drop: .*, the most accurate, has "):
        compress(encoder_dir, tmp_path / "out", target=Target(), gate=gate, **options)
    command = ["compress", str(encoder_dir), "-o", str(tmp_path / "out2"), "--recipe", str(recipe), "--threads", "1"]
    command += ["--data", str(texts_file), "--task", "sts", "--eval-data", str(sts_dir), "--max-drop", "0"]
    assert main([*command, "--target-speedup", "2.2"]) == 3
    assert "no candidate holds the drop: " in capsys.readouterr().err
    assert not (tmp_path / "out2").exists()


def test_a_speed_that_nothing_reaches_leaves_nothing(
    encoder_dir: Path, texts_file: Path, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["compress", str(encoder_dir), "-o", str(tmp_path / "out"), "--recipe", str(recipe)]
    command += ["--data", str(texts_file), "--threads", "1", "--seq", "16", "--batch", "1"]
    assert main([*command, "--target-latency", "0.0001"]) == 2
    assert "no candidate reaches 0.0001 ms: the fastest, 1 layer, 90 % zero, takes" in capsys.readouterr().err
    assert main([*command[:-4], "--seq", "65", "--target-latency", "50"]) == 2
    assert "a sequence of length 65 is too long" in capsys.readouterr().err
    assert not list(tmp_path.glob("out*"))


def test_a_resumed_search_measures_nothing_again(
    encoder_dir: Path,
    texts_file: Path,
    recipe: Path,
    tmp_path: Path,
    made_up: list[Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from fastcpu.compression.trials import Trials

    options: dict[str, Any] = {"recipe": recipe, "data": [texts_file], "threads": 1, "target": Target(speedup=2.2)}
    whole = compress(encoder_dir, tmp_path / "whole", **options)
    expected = len(made_up)
    made_up.clear()
    original = Trials.score

    def interrupted(self: Trials, *arguments: Any) -> float:
        raise KeyboardInterrupt

    monkeypatch.setattr(Trials, "score", interrupted)
    with pytest.raises(KeyboardInterrupt):
        compress(encoder_dir, tmp_path / "out", **options)
    monkeypatch.setattr(Trials, "score", original)
    resumed = compress(encoder_dir, tmp_path / "out", **options)
    assert len(made_up) == expected
    assert resumed.report["compression"]["search"] == whole.report["compression"]["search"]


def test_a_killed_search_goes_on(
    encoder_dir: Path,
    texts_file: Path,
    sts_dir: Path,
    tmp_path: Path,
    rng: np.random.Generator,
    monkeypatch: pytest.MonkeyPatch,
    processes: Any,
) -> None:
    """Killed after the first latency, the first trial and the last decision, it keeps to what it had found."""
    monkeypatch.setenv("FASTCPU_CHECKPOINT_SECONDS", "0.1")
    recipe, log, out = tmp_path / "searched.toml", tmp_path / "stderr.txt", tmp_path / "out"
    recipe.write_text(RECIPE.format(steps=300))
    run = ["compress", str(encoder_dir), "-o", str(out), "--recipe", str(recipe)]
    run += ["--data", str(texts_file), "--threads", "1", "--target-speedup", "2.2"]
    run += ["--task", "sts", "--eval-data", str(sts_dir)]
    work = tmp_path / "out.work"
    seen: dict[str, bytes] = {}
    for stage in ("latency-*.json", "trial-*", "search.json"):
        process = processes.Process(target=start, args=(run, str(log), make_up))
        process.start()
        while process.is_alive() and not list(work.glob(stage)):
            time.sleep(0.002)
        assert process.is_alive(), f"{stage}: {log.read_text()}"
        time.sleep(float(rng.uniform(0, 0.1)))
        process.kill()
        process.join()
        for path, content in seen.items():
            assert (work / path).read_bytes() == content
        for path in work.glob("*.json"):
            seen[path.name] = path.read_bytes()
    for expected in ("chosen", f"{out}: complete already\n"):
        process = processes.Process(target=start, args=(run, str(log), make_up))
        process.start()
        process.join()
        assert process.exitcode == 0, log.read_text()
        assert expected in log.read_text()
    report = json.loads((out / "report.json").read_text())["compression"]
    assert report["search"] == json.loads(seen["search.json"])
    assert not work.exists()


# ---- what is said before anything is done ----


def test_a_dry_run_estimates_and_writes_nothing(
    encoder_dir: Path, texts_file: Path, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["compress", str(encoder_dir), "-o", str(tmp_path / "out"), "--recipe", str(recipe), "--threads", "1"]
    command += ["--data", str(texts_file), "--dry-run"]
    assert main(command) == 0
    plain = json.loads(capsys.readouterr().out)
    assert plain["recipe"]["name"] == "searched"
    assert plain["estimate"]["steps"] == 40
    assert plain["estimate"]["seconds_per_step"] > 0
    assert set(plain["estimate"]["minutes"]) == {"texts_and_teacher", "training", "total"}
    assert main([*command, "--target-speedup", "1.2"]) == 0
    searched = json.loads(capsys.readouterr().out)
    assert searched["target"]["speedup"] == 1.2
    assert searched["estimate"]["highest_speedup"] > 1.2
    assert {"measurements", "search", "training"} <= set(searched["estimate"]["minutes"])
    assert main([*command, "--target-speedup", "1000"]) == 2
    assert "no candidate reaches 1000x dense int8" in capsys.readouterr().err
    assert main(["compress", str(encoder_dir), "-o", str(tmp_path / "out"), "--dry-run"]) == 0
    assert json.loads(capsys.readouterr().out)["estimate"]["minutes"] == {}
    assert [path.name for path in tmp_path.iterdir()] == ["searched.toml"]


@pytest.mark.parametrize("dry", [True, False])
def test_what_is_wrong_is_found_before_anything_is_written(
    dry: bool, encoder_dir: Path, texts_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.csv"
    broken.write_text("a,b\n1,2\n")
    table = 'description = ""\n[distill]\nsteps = 2\n'
    cases = [
        (table + 'freeze = ["*wrod*"]\n', texts_file, "no parameter is called '*wrod*'"),
        (table + "[student]\nlayers = 9\n", texts_file, "a student of 9 layers from a teacher that has 4"),
        (table + "[distill.losses]\nlogits = 1\n", texts_file, "needs a model with a head"),
        ('ignore = ["*"]\n' + table + "[prune]\nsparsity = 0.5\n", texts_file, "no encoder linear to prune"),
        (table, broken, "name the columns that hold texts"),
    ]
    for recipe, data, message in cases:
        path = tmp_path / "recipe.toml"
        path.write_text(recipe)
        command = [
            "compress",
            str(encoder_dir),
            "-o",
            str(tmp_path / "out"),
            "--recipe",
            str(path),
            "--data",
            str(data),
        ]
        assert main([*command, "--dry-run"] if dry else command) == 2
        assert message in capsys.readouterr().err
        assert not list(tmp_path.glob("out*"))


OPTIONS: list[tuple[str, dict[str, Any], str]] = [
    ("a recipe that does not train", {"recipe": "int8-static", "target": Target(2.0)}, r"must distill and quantize"),
    ("a search for nothing", {"target": Target()}, r"needs a target speed-up, a target latency or a drop"),
    ("a search without a drop", {"target": Target(), "gate": Gate("sts")}, r"needs a target speed-up"),
    ("the test split", {"target": Target(2.0), "gate": Gate("sts", split="test")}, r"give it other data than"),
    ("no data", {"target": Target(2.0), "data": []}, r"needs texts to train with"),
]


@pytest.mark.parametrize(("options", "message"), [each[1:] for each in OPTIONS], ids=[each[0] for each in OPTIONS])
def test_options(options: dict[str, Any], message: str, encoder_dir: Path, texts_file: Path) -> None:
    with pytest.raises(InputError, match=message):
        make_plan(encoder_dir, **({"recipe": "sparse80-int8", "data": [texts_file]} | options))


def test_too_few_texts_to_hold_some_out(encoder_dir: Path, recipe: Path, tmp_path: Path, made_up: list[Path]) -> None:
    texts = tmp_path / "few.txt"
    texts.write_text("word1 word2\nword3 word4\n")
    with pytest.raises(InputError, match=r"2 texts are too few to hold some out"):
        compress(encoder_dir, tmp_path / "out", recipe=recipe, data=[texts], threads=1, target=Target(speedup=2.2))
    assert not made_up
    assert not list(tmp_path.glob("out*"))


def test_a_batch_without_a_search(encoder_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compress", str(encoder_dir), "-o", str(tmp_path / "out"), "--batch", "4"]) == 2
    assert "--batch and --seq are for a search" in capsys.readouterr().err
