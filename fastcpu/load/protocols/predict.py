"""The classification of text-embeddings-inference, where a list of two strings would be a pair of texts."""

from __future__ import annotations

from typing import Any

from fastcpu.load.protocols import Question

PATH = "/predict"
NEEDS_MODEL = False
ENCODINGS: tuple[str, ...] = ()


def body(question: Question) -> dict[str, Any]:
    texts = question.texts
    return {"inputs": texts[0] if len(texts) == 1 else [[text] for text in texts]}
