"""A linear readout behind a student: the module that it becomes, and where there is none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fastcpu import InputError
from fastcpu.compression import compress
from fastcpu.tasks import Embedder

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
    made = compress(
        encoder_dir, tmp_path / "out", recipe=write(tmp_path, 100), data=[texts_file], threads=1, timing=False
    )
    assert made.report["compression"]["readout"] == 0
    assert not list(made.directory.glob("*_Dense"))


def test_it_is_for_losses_on_embeddings(encoder_dir: Path, texts_file: Path, tmp_path: Path) -> None:
    chosen = write(tmp_path, 100, "losses = { hidden = 1 }")
    with pytest.raises(InputError, match="a readout is for sentence encoders that learn embeddings alone, not hidden"):
        compress(encoder_dir, tmp_path / "out", recipe=chosen, data=[texts_file])
