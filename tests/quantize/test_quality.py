"""The int8 schemes keep the quality of a real model. The dev split decides; the test split is for reports."""

from __future__ import annotations

from pathlib import Path

import pytest

import fastcpu
from fastcpu.eval import sts
from fastcpu.quantize import SCHEMES
from fastcpu.tasks.embed import Embedder

pytest.importorskip("torch")

F32_DEV = 86.72
"""Spearman x 100 of all-MiniLM-L6-v2 on the STS-B dev split."""
MAX_DROP = 0.4


@pytest.mark.parametrize("kind", ["none", *sorted(SCHEMES)])
def test_stsb_dev(kind: str, minilm_dir: Path, data_dir: Path, tmp_path: Path) -> None:
    texts = sts.load(data_dir / "stsb", "train").first[::11]
    calibration = texts[:512] if kind == "static" else None
    path = fastcpu.compile(minilm_dir, tmp_path / "m", quantize=kind, calibration=calibration).directory
    dev = sts.evaluate(Embedder(path, max_length=128), sts.load(data_dir / "stsb", "dev"))
    found = 100 * dev.values["spearman"].value
    assert found == pytest.approx(F32_DEV, abs=0.01 if kind == "none" else MAX_DROP)
