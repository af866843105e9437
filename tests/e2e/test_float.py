"""f32 models against ONNX Runtime on real tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import fastcpu
from fastcpu.frontend import torch_export
from tests.e2e.conftest import padded

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

BATCHES = 20


def assert_close(session: fastcpu.Session, peer: Any, rows: list[NDArray[np.int64]], rng: np.random.Generator) -> None:
    """20 random batches of mixed lengths: every real token within 1e-4."""
    for _ in range(BATCHES):
        feeds = padded([rows[i] for i in rng.integers(0, len(rows), rng.integers(1, 9))])
        names = {graph_input.name for graph_input in peer.get_inputs()}
        peer_feeds = dict(feeds)
        if "token_type_ids" in names:
            peer_feeds["token_type_ids"] = np.zeros_like(feeds["input_ids"])
        outputs = [output.name for output in peer.get_outputs()]
        expected = dict(zip(outputs, peer.run(None, peer_feeds), strict=True))
        got = session.run(feeds)
        mask = feeds["attention_mask"].astype(bool)
        assert set(expected) <= set(got)
        for name, array in expected.items():
            per_token = array.shape[:2] == mask.shape
            ours, theirs = (got[name][mask], array[mask]) if per_token else (got[name], array)
            assert np.abs(ours - theirs).max() <= 1e-4, name


def exported(module: Any, path: Path) -> Path:
    onnx.save(torch_export.to_onnx(module), path)
    return path


def peer_of(path: Path) -> Any:
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def test_minilm(
    minilm_dir: Path, minilm_f32: Path, minilm_rows: list[NDArray[np.int64]], rng: np.random.Generator, tmp_path: Path
) -> None:
    from transformers import AutoModel

    peer = peer_of(exported(AutoModel.from_pretrained(minilm_dir).eval(), tmp_path / "minilm.onnx"))
    assert_close(fastcpu.Session(minilm_f32), peer, minilm_rows, rng)


def test_distilbert(minilm_rows: list[NDArray[np.int64]], rng: np.random.Generator, tmp_path: Path) -> None:
    from transformers import DistilBertConfig, DistilBertForQuestionAnswering

    torch.manual_seed(0)
    model = DistilBertForQuestionAnswering(DistilBertConfig(n_layers=6)).eval()
    path = exported(model, tmp_path / "distilbert.onnx")
    directory = fastcpu.compile(path, tmp_path / "distilbert").directory
    assert_close(fastcpu.Session(directory), peer_of(path), minilm_rows, rng)
