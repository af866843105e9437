"""A compression from end to end, and after a kill."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import fastcpu
from fastcpu.compression import compress
from fastcpu.compression.run import make_plan
from fastcpu.distill import checkpoint
from fastcpu.errors import InputError, TrainingError
from fastcpu.export.reader import read_graph
from fastcpu.tasks.embed import Embedder
from tests.compression.conftest import RECIPE

pytest.importorskip("torch")


def files(directory: Path) -> dict[str, bytes]:
    """What the runtime reads of a model: its graph and its weights."""
    return {name: (directory / name).read_bytes() for name in ("graph.json", "weights.safetensors")}


def test_what_a_recipe_asks_for_is_in_the_model(
    encoder_dir: Path, texts_file: Path, recipe_file: Path, tmp_path: Path
) -> None:
    stages: list[str] = []
    compiled = compress(
        encoder_dir,
        tmp_path / "out",
        recipe=recipe_file,
        data=[texts_file],
        threads=1,
        report=lambda stage, _: stages.append(stage),
    )
    rows = compiled.report["layers"]
    encoder = [row for row in rows if row["name"].startswith("encoder.layer")]
    assert len(encoder) == 2 * 6
    assert all(row["encoding"] == "block" and row["zero_blocks"] == 0.5 for row in encoder)
    assert all(row["storage"] == "s8" for row in encoder)
    assert list(dict.fromkeys(stages)) == ["texts", "teacher", "training", "student", "export", "report"]
    assert stages.count("training") == 40
    assert not (tmp_path / "out.work").exists()


def test_training_brings_the_student_to_its_teacher(encoder_dir: Path, texts_file: Path, tmp_path: Path) -> None:
    def agreement(recipe: str) -> float:
        path = tmp_path / "recipe.toml"
        path.write_text(recipe)
        out = compress(encoder_dir, tmp_path / "out", recipe=path, data=[texts_file], threads=1, timing=False).directory
        mine, theirs = Embedder(out).embed(texts), Embedder(teacher).embed(texts)
        return float((mine * theirs).sum(axis=1).mean())

    teacher = fastcpu.compile(encoder_dir, tmp_path / "teacher").directory
    texts = texts_file.read_text().splitlines()[:100]
    few, many = agreement(RECIPE.format(steps=1)), agreement(RECIPE.format(steps=300))
    assert many > few + 0.05
    assert many > 0.9


def test_a_student_learns_how_its_teacher_attends(encoder_dir: Path, texts_file: Path, tmp_path: Path) -> None:
    """From a last layer to another last layer: of another depth by relations and, with as many heads, by attention."""
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE.format(steps=150) + "[distill.losses]\nrelations = 1\nattention = 1\n")
    compiled = compress(encoder_dir, tmp_path / "out", recipe=path, data=[texts_file], threads=1, timing=False)
    log = compiled.report["compression"]["log"]
    for name in ("relations", "attention"):
        first, last = (np.mean([line["losses"][name] for line in part]) for part in (log[:3], log[-3:]))
        assert last < 0.7 * first, name


def test_the_same_plan_gives_the_same_model(
    encoder_dir: Path, texts_file: Path, recipe_file: Path, tmp_path: Path
) -> None:
    a, b, c = (
        compress(encoder_dir, tmp_path / name, recipe=recipe_file, data=[texts_file], threads=1, seed=seed).directory
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    assert files(a) == files(b)
    assert files(a) != files(c)


def test_frozen_parameters_stay(encoder_dir: Path, texts_file: Path, tmp_path: Path) -> None:
    def tables(recipe: str) -> NDArray[np.int8]:
        path = tmp_path / "recipe.toml"
        path.write_text(recipe)
        out = compress(encoder_dir, tmp_path / "out", recipe=path, data=[texts_file], threads=1, timing=False).directory
        graph = read_graph(out)
        return next(t.data for t in graph.tensors.values() if t.data.shape == (100, 32))

    frozen = RECIPE.format(steps=20).replace("batch = 16", 'batch = 16\nfreeze = ["*word_embeddings*"]')
    untrained = 'description = ""\n[quantize]\nscheme = "dynamic"\n'
    assert np.array_equal(tables(frozen), tables(untrained))
    trained = tables(RECIPE.format(steps=20))
    assert not np.array_equal(trained, tables(untrained))
    dropped = tables(RECIPE.format(steps=20).replace("batch = 16", "batch = 16\ndropout = 0.5"))
    assert not np.array_equal(trained, dropped)


def test_a_loss_that_is_not_finite_ends_training(
    encoder_dir: Path, texts_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And training goes on from the last good step as if nothing had been, dropout included."""
    from fastcpu.distill.losses import LOSSES, Loss, Outputs

    recipe_file = tmp_path / "dropout.toml"
    recipe_file.write_text(RECIPE.format(steps=40).replace("batch = 16", "batch = 16\ndropout = 0.1"))

    embedding, calls = LOSSES["embedding"], [0]

    def value(student: Outputs, teacher: Outputs) -> Any:
        calls[0] += 1
        return embedding.value(student, teacher) * (float("nan") if calls[0] == 30 else 1.0)

    monkeypatch.setitem(LOSSES, "embedding", Loss("embedding", "embedding", value))
    monkeypatch.setenv("FASTCPU_CHECKPOINT_SECONDS", "0")
    kept = r"the checkpoint of step 29 is in .*out.work. Lower the learning rate"
    with pytest.raises(TrainingError, match=rf"step 30 of 40: the loss embedding is nan; {kept}"):
        compress(encoder_dir, tmp_path / "out", recipe=recipe_file, data=[texts_file], threads=1, timing=False)
    assert not (tmp_path / "out").exists()
    tensors, step = checkpoint.load(tmp_path / "out.work" / "checkpoint.safetensors")
    assert step == 29
    assert all(tensor.isfinite().all() for tensor in tensors.values())
    expected = compress(
        encoder_dir, tmp_path / "whole", recipe=recipe_file, data=[texts_file], threads=1, timing=False
    ).directory
    resumed = compress(
        encoder_dir, tmp_path / "out", recipe=recipe_file, data=[texts_file], threads=1, timing=False
    ).directory
    assert files(resumed) == files(expected)


def test_another_plan_does_not_go_on(encoder_dir: Path, texts_file: Path, recipe_file: Path, tmp_path: Path) -> None:
    work = tmp_path / "out.work"
    work.mkdir()
    plan = make_plan(encoder_dir, recipe=recipe_file, data=[texts_file], threads=1, seed=3)
    (work / "plan.json").write_text(json.dumps(plan.to_json()))
    with pytest.raises(InputError, match=r"other seed: repeat that command"):
        compress(encoder_dir, tmp_path / "out", recipe=recipe_file, data=[texts_file], threads=1, timing=False)


def test_evaluation_sentences_are_not_trained_on(
    encoder_dir: Path, texts_file: Path, recipe_file: Path, tmp_path: Path
) -> None:
    lines = texts_file.read_text().splitlines()
    excluded = tmp_path / "evaluation.txt"
    excluded.write_text("\n".join(line.upper() + " !" for line in lines[:50]) + "\n")
    compiled = compress(
        encoder_dir, tmp_path / "out", recipe=recipe_file, data=[texts_file], threads=1, exclude=[excluded]
    )
    texts = compiled.report["compression"]["texts"]
    assert texts["equal"] >= 50
    assert texts["seen"] == len(lines)
    assert texts["taken"] == texts["seen"] - texts["equal"] - texts["similar"]
