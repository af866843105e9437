"""The int8 QDQ tagger of somebody else's package, beside ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import fastcpu
from tests.e2e.conftest import tokenizer

onnxruntime = pytest.importorskip("onnxruntime")
LINES = 120  # `python -m bench.agreement` takes 2,000


def test_the_tagger_agrees_with_onnx_runtime(quire_dir: Path, data_dir: Path, tmp_path: Path) -> None:
    path = quire_dir / "tagger.onnx"
    session = fastcpu.Session(fastcpu.compile(path, tmp_path / "tagger").directory)
    peer = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    encode = tokenizer(quire_dir)
    lines = (data_dir / "wikitext2" / "valid.txt").read_text(encoding="utf-8").splitlines()[:LINES]
    same = total = 0
    for line in lines:
        ids = np.array([encode.encode(line).ids])
        if not ids.size:
            continue
        feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        ours, theirs = session.run(feeds)["logits"], peer.run(["logits"], feeds)[0]
        same += int((ours.argmax(-1) == theirs.argmax(-1)).sum())
        total += ids.size
    print(f"{same} of {total} tags agree")
    assert total > 1000
    assert same >= 0.995 * total
