"""A real tagger, int8, in the runtime and in ONNX Runtime."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import fastcpu
from fastcpu.eval.engine import open_engine
from fastcpu.tasks import Tagger

TEXTS = [
    "He go to school every days.",
    "She have two cat and a dogs",
    "The weather is nice today, is n't it?",
    "i live in london since five years .",
    "This sentence has no mistakes.",
]


def test_a_tagger_gives_the_labels_that_onnx_runtime_gives(quire_dir: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx_ir")
    labels = json.loads((quire_dir / "tag_vocab.json").read_text())["tags"]
    reference = Tagger(open_engine(quire_dir / "tagger.onnx", 2, Tagger.head), labels=labels)
    compiled = fastcpu.compile(quire_dir / "tagger.onnx", tmp_path / "tagger").directory
    found, expected = (model(TEXTS) for model in (Tagger(compiled, threads=2, labels=labels), reference))
    for mine, theirs in zip(found, expected, strict=True):
        assert [(word.text, word.label) for word in mine.words] == [(word.text, word.label) for word in theirs.words]
        assert [word.score for word in mine.words] == pytest.approx([word.score for word in theirs.words], abs=0.05)
    assert {word.label for tagging in found for word in tagging.words} > {"$KEEP"}, "it finds mistakes"
