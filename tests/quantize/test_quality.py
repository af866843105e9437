"""The int8 schemes keep the quality of a real model. The dev split decides; the test split is for reports."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import fastcpu
from fastcpu.eval import sts
from fastcpu.quantize import SCHEMES
from fastcpu.tasks.embed import Embedder

pytest.importorskip("torch")

F32_DEV = 86.72
"""Spearman x 100 of all-MiniLM-L6-v2 on the STS-B dev split."""
MAX_DROP = 0.4


def test_smoothing_brings_real_texts_nearer_to_f32(minilm_dir: Path, data_dir: Path, tmp_path: Path) -> None:
    texts, dev = sts.load(data_dir / "stsb", "train").first[::11][:256], sts.load(data_dir / "stsb", "dev").first[::5]
    exact = Embedder(fastcpu.compile(minilm_dir, tmp_path / "f32")).embed(dev)
    errors = []
    for smooth in (None, 0.5):
        path = fastcpu.compile(minilm_dir, tmp_path / "m", quantize="static", calibration=texts, smooth=smooth)
        errors.append(1 - np.sum(Embedder(path).embed(dev) * exact, axis=1).mean())
    assert errors[1] < 0.75 * errors[0]


@pytest.mark.parametrize("kind", ["none", *sorted(SCHEMES)])
def test_stsb_dev(kind: str, minilm_dir: Path, data_dir: Path, tmp_path: Path) -> None:
    texts = sts.load(data_dir / "stsb", "train").first[::11]
    calibration = texts[:512] if kind == "static" else None
    path = fastcpu.compile(minilm_dir, tmp_path / "m", quantize=kind, calibration=calibration).directory
    dev = sts.evaluate(Embedder(path, max_length=128), sts.load(data_dir / "stsb", "dev"))
    found = 100 * dev.values["spearman"].value
    assert found == pytest.approx(F32_DEV, abs=0.01 if kind == "none" else MAX_DROP)
