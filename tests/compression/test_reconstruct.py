"""Layer-wise pruning in a compression: before training, without any, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import fastcpu
from fastcpu import InputError
from fastcpu.compression import compress
from fastcpu.compression.estimate import estimate
from fastcpu.compression.run import make_plan
from fastcpu.distill import checkpoint
from fastcpu.tasks.embed import Embedder
from tests.compression.test_run import files
from tests.frontend import tiny

pytest.importorskip("torch")

ALONE = """
description = "Layer by layer."

[prune]
sparsity = 0.5
reconstruct = 200
"""
TRAINED = (
    ALONE
    + """
[distill]
steps = 30
batch = 16

[quantize]
scheme = "static"
calibration = 8
"""
)


def recipe(path: Path, text: str) -> Path:
    path = path / "recipe.toml"
    path.write_text(text)
    return path


def cosine(encoder_dir: Path, model: Path, texts_file: Path, folder: Path) -> float:
    """To the model in f32, on texts that nothing was solved for."""
    teacher = fastcpu.compile(encoder_dir, folder / "teacher").directory
    texts = texts_file.read_text().splitlines()[-100:]
    return float((Embedder(model).embed(texts) * Embedder(teacher).embed(texts)).sum(axis=1).mean())


def test_outputs_stay_nearer_than_by_magnitude(encoder_dir: Path, texts_file: Path, tmp_path: Path) -> None:
    data = tmp_path / "texts.txt"
    data.write_text("\n".join(texts_file.read_text().splitlines()[:500]) + "\n")
    compiled = compress(
        encoder_dir, tmp_path / "out", recipe=recipe(tmp_path, ALONE), data=[data], threads=1, timing=False
    )
    rows = [row for row in compiled.report["layers"] if row["name"].startswith("encoder.layer")]
    assert len(rows) == 4 * 6
    assert all(row["zero_blocks"] == 0.5 and row["storage"] == "f32" for row in rows)
    simple = fastcpu.compile(encoder_dir, tmp_path / "simple", sparsity=0.5).directory
    mine = cosine(encoder_dir, compiled.directory, texts_file, tmp_path)
    theirs = cosine(encoder_dir, simple, texts_file, tmp_path)
    assert 1 - mine < 0.5 * (1 - theirs)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (ALONE, {"pruning"}),
        (TRAINED, {"texts_and_teacher", "pruning", "training", "total"}),
        (TRAINED.replace("steps = 30", "steps = 30\nreadout = 400"), {"pruning", "readout", "training"}),
    ],
)
def test_an_estimate_counts_it(encoder_dir: Path, texts_file: Path, tmp_path: Path, text: str, parts: set[str]) -> None:
    plan = make_plan(encoder_dir, recipe=recipe(tmp_path, text), data=[texts_file], threads=1)
    found = estimate(plan)["minutes"]
    assert parts <= set(found)
    assert all(value >= 0 for value in found.values())


def test_training_keeps_the_blocks(encoder_dir: Path, texts_file: Path, tmp_path: Path) -> None:
    pruned: dict[str, np.ndarray] = {}

    def spy(stage: str, progress: object) -> None:
        path = tmp_path / "out.work" / "pruned-all-0.5.safetensors"
        if stage == "training" and not pruned:
            pruned.update({name: tensor.numpy() for name, tensor in checkpoint.load(path)[0].items()})

    student = tmp_path / "student"
    compiled = compress(
        encoder_dir,
        tmp_path / "out",
        recipe=recipe(tmp_path, TRAINED),
        data=[texts_file],
        threads=1,
        timing=False,
        report=spy,
        keep_student=student,
    )
    assert {line["sparsity"] for line in compiled.report["compression"]["log"]} == {0.5}
    from safetensors.numpy import load_file

    trained = load_file(student / "model.safetensors")
    weights = [name for name in pruned if name.endswith("weight")]
    assert len(weights) == 4 * 6
    for name in weights:
        assert not np.array_equal(trained[name], pruned[name])
        assert np.array_equal(trained[name] == 0, pruned[name] == 0), name


def test_an_earlier_start_is_gone_on_with(encoder_dir: Path, texts_file: Path, tmp_path: Path) -> None:
    path = recipe(tmp_path, TRAINED)
    options = {"recipe": path, "data": [texts_file], "threads": 1, "timing": False}

    def stop(stage: str, progress: object) -> None:
        if progress is not None:
            raise KeyboardInterrupt

    whole = files(compress(encoder_dir, tmp_path / "whole", **options).directory)
    with pytest.raises(KeyboardInterrupt):
        compress(encoder_dir, tmp_path / "cut", report=stop, **options)
    kept = tmp_path / "cut.work" / "pruned-all-0.5.safetensors"
    before = kept.stat().st_mtime_ns

    def look(stage: str, progress: object) -> None:
        if stage == "training":
            assert kept.stat().st_mtime_ns == before

    assert files(compress(encoder_dir, tmp_path / "cut", report=look, **options).directory) == whole


def test_shared_layers_are_refused_before_anything_is_written(texts_file: Path, tmp_path: Path) -> None:
    model = tmp_path / "albert"
    tiny.sentence_transformer(model, {"pooling_mode": "mean"}, ("Transformer", "Pooling"), "AlbertModel")
    for text in (ALONE, TRAINED):
        with pytest.raises(InputError, match="those of Albert share their weights"):
            compress(model, tmp_path / "out", recipe=recipe(tmp_path, text), data=[texts_file], threads=1)
    assert not (tmp_path / "out.work").exists()


def test_a_linear_that_does_not_divide_is_named(tmp_path: Path, rng: np.random.Generator) -> None:
    import torch
    from transformers import BertConfig, BertModel

    from fastcpu.distill.corpus import Corpus
    from fastcpu.distill.reconstruct import reconstruct
    from fastcpu.recipe import Prune

    np.save(tmp_path / "ids.npy", rng.integers(0, 20, 60).astype(np.int32))
    np.save(tmp_path / "offsets.npy", np.arange(0, 61, 6))
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 18}
    model = BertModel(BertConfig(vocab_size=20, **sizes)).eval()
    with pytest.raises(InputError, match=r"linear 'intermediate\.dense': a weight of shape \[18, 8\] does not divide"):
        reconstruct(model, Prune(sparsity=0.5, reconstruct=10), Corpus(tmp_path), np.arange(10), (), ())


@pytest.mark.parametrize("line", ['score = "wanda"', 'scope = "global"'])
def test_what_contradicts_it_is_named(line: str, tmp_path: Path) -> None:
    path = recipe(tmp_path, TRAINED.replace("reconstruct = 200", f"reconstruct = 200\n{line}"))
    with pytest.raises(InputError, match="prune: reconstruct chooses blocks by itself"):
        fastcpu.recipe.load(path)


def test_texts_are_needed(encoder_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"needs texts to prune with \(--data\)"):
        compress(encoder_dir, tmp_path / "out", recipe=recipe(tmp_path, ALONE))
