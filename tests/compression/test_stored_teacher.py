"""Embeddings of the teacher that are stored: in f32 or int8, and what the loss `neighbors` sees of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fastcpu import InputError, recipe
from fastcpu.compression import compress
from fastcpu.compression.run import make_plan

torch = pytest.importorskip("torch")

from fastcpu.distill import teacher  # noqa: E402  (needs torch)
from fastcpu.distill.corpus import Batch  # noqa: E402
from fastcpu.distill.teacher import CachedEmbeddings  # noqa: E402
from tests.tasks import models  # noqa: E402

RECIPE = """
description = "for tests"
[distill]
neighbors = 0.5
teacher = "{precision}"
steps = 20
batch = 16
learning_rate = 1e-3
[quantize]
scheme = "dynamic"
"""


def write(folder: Path, precision: str = "int8") -> Path:
    path = folder / f"{precision}.toml"
    path.write_text(RECIPE.format(precision=precision))
    return path


def test_int8_is_nearly_f32(encoder_dir: Path, texts_file: Path, tmp_path: Path) -> None:
    vectors: dict[str, np.ndarray] = {}
    for precision in ("f32", "int8"):
        work = tmp_path / f"{precision}-out.work"

        def look(stage: str, progress: object, work: Path = work, precision: str = precision) -> None:
            if stage == "training":
                vectors[precision] = np.load(work / "teacher.npy")

        compiled = compress(
            encoder_dir,
            tmp_path / f"{precision}-out",
            recipe=write(tmp_path, precision),
            data=[texts_file],
            threads=1,
            timing=False,
            report=look,
        )
        log = compiled.report["compression"]["log"]
        assert set(log[0]["losses"]) == {"embedding", "similarity", "neighbors"}
        assert all(value >= 0 for line in log for value in line["losses"].values())
    cosines = (vectors["f32"].astype(np.float64) * vectors["int8"]).sum(axis=1)
    assert 0.97 < cosines.mean() < 0.999999


def test_others_are_spread_over_the_texts(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(teacher, "_OTHERS", 10)
    vectors = rng.standard_normal((95, 4)).astype(np.float32)
    np.save(tmp_path / "vectors.npy", vectors)
    stored = CachedEmbeddings(tmp_path / "vectors.npy")
    ids = torch.zeros((3, 2), dtype=torch.int64)
    target = stored(np.array([0, 1, 94]), Batch(ids, ids == 0))
    assert target.others is not None
    assert target.places is not None
    np.testing.assert_array_equal(target.embedding, vectors[[0, 1, 94]])
    assert target.others.shape == (10, 4)
    assert target.places.tolist() == [0, -1, 9]
    np.testing.assert_array_equal(target.others[[0, 9]], vectors[[0, 94]])
    monkeypatch.setattr(teacher, "_OTHERS", 1000)
    np.testing.assert_array_equal(CachedEmbeddings(tmp_path / "vectors.npy").others, vectors)


def test_the_weight_counts_for_sentence_encoders_only(encoder_dir: Path, texts_file: Path, tmp_path: Path) -> None:
    chosen = make_plan(encoder_dir, recipe=write(tmp_path), data=[texts_file]).recipe.distill
    assert chosen is not None
    assert chosen.losses == {"embedding": 1.0, "similarity": 5.0, "neighbors": 0.5}
    classifier = models.huggingface("classify", "ForSequenceClassification", "Bert", tmp_path / "classifier")
    chosen = make_plan(classifier, recipe=write(tmp_path), data=[texts_file]).recipe.distill
    assert chosen is not None
    assert set(chosen.losses) == {"logits", "hidden"}


def test_the_weight_beside_named_losses_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "both.toml"
    path.write_text(RECIPE.format(precision="f32") + "[distill.losses]\nembedding = 1\n")
    with pytest.raises(InputError, match="neighbors stands beside default losses: name it in losses instead"):
        recipe.load(path)
