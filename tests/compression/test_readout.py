"""A linear readout behind a student: the module that it becomes, and where there is none."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from fastcpu import InputError
from fastcpu.compression import compress
from fastcpu.compression.run import make_plan
from fastcpu.distill import readout
from fastcpu.frontend.sentence_transformers import add_dense
from fastcpu.tasks import Embedder
from tests.tasks import models

RECIPE = """
description = "for tests"
[distill]
readout = {texts}
steps = 5
batch = 8
{losses}
[quantize]
scheme = "dynamic"
"""


def write(folder: Path, texts: int, losses: str = "") -> Path:
    path = folder / "recipe.toml"
    path.write_text(RECIPE.format(texts=texts, losses=losses))
    return path


def test_it_becomes_a_module_of_the_student(encoder_dir: Path, texts_file: Path, tmp_path: Path) -> None:
    library = pytest.importorskip("sentence_transformers")
    texts = texts_file.read_text().splitlines()[:20]
    made = compress(
        encoder_dir,
        tmp_path / "out",
        recipe=write(tmp_path, 400),
        data=[texts_file],
        threads=1,
        timing=False,
        keep_student=tmp_path / "student",
    )
    kinds = [each["type"].rpartition(".")[2] for each in json.loads((tmp_path / "student/modules.json").read_text())]
    assert kinds == ["Transformer", "Pooling", "Dense", "Normalize"]
    assert made.report["compression"]["readout"] == 400
    assert "readout" in (made.directory / "README.md").read_text()
    pooling = tmp_path / "student" / "1_Pooling" / "config.json"  # the library wants it in full
    pooling.write_text(json.dumps({"embedding_dimension": 32, "pooling_mode": "mean"}))
    ours = Embedder(made.directory).embed(texts)
    theirs = library.SentenceTransformer(str(tmp_path / "student"), device="cpu").encode(texts)
    assert (ours * theirs).sum(axis=1).min() > 0.97


def test_few_texts_are_no_base_for_it(encoder_dir: Path, texts_file: Path, tmp_path: Path) -> None:
    stages: list[str] = []
    made = compress(
        encoder_dir,
        tmp_path / "out",
        recipe=write(tmp_path, 100),
        data=[texts_file],
        threads=1,
        timing=False,
        report=lambda stage, _: stages.append(stage),
    )
    assert "no readout: 100 texts are too few" in stages
    assert made.report["compression"]["readout"] == 0
    assert "none: there are too few texts" in (made.directory / "README.md").read_text()
    assert not list(made.directory.glob("*_Dense"))


def test_it_is_for_losses_on_embeddings(encoder_dir: Path, texts_file: Path, tmp_path: Path) -> None:
    chosen = write(tmp_path, 100, "losses = { hidden = 1 }")
    with pytest.raises(InputError, match="a readout is for sentence encoders that learn embeddings alone, not hidden"):
        compress(encoder_dir, tmp_path / "out", recipe=chosen, data=[texts_file])


def test_an_interrupted_start_goes_on_to_the_same_model(
    encoder_dir: Path, texts_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"recipe": write(tmp_path, 400), "data": [texts_file], "threads": 1, "timing": False}
    whole = compress(encoder_dir, tmp_path / "whole", **options)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(readout, "solve", interrupted)
        with pytest.raises(KeyboardInterrupt):
            compress(encoder_dir, tmp_path / "cut", **options)
    rest = compress(encoder_dir, tmp_path / "cut", **options)
    name = "weights.safetensors"
    assert (rest.directory / name).read_bytes() == (whole.directory / name).read_bytes()
    assert rest.report["compression"]["readout"] == 400


def test_a_teacher_of_other_width_is_found_before_training(encoder_dir: Path, texts_file: Path, tmp_path: Path) -> None:
    wide = shutil.copytree(encoder_dir, tmp_path / "wide")
    add_dense(wide, np.ones((48, 32), np.float32))
    options = {"recipe": write(tmp_path, 400, "losses = { similarity = 1 }"), "data": [texts_file], "threads": 1}
    with pytest.raises(InputError, match="a readout needs a teacher of 32 channels, as the student has, not 48"):
        compress(encoder_dir, tmp_path / "out", teacher=wide, **options)
    assert not list((tmp_path / "out.work").glob("steps.json"))


def test_classifiers_have_none(texts_file: Path, tmp_path: Path) -> None:
    classifier = models.huggingface("classify", "ForSequenceClassification", "Bert", tmp_path / "classifier")
    plan = make_plan(classifier, recipe="sparse80-quick", data=[texts_file])
    assert plan.recipe.distill is not None
    assert plan.recipe.distill.readout == 0
