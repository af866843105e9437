"""The embeddings of text-embeddings-inference."""

from __future__ import annotations

from typing import Any

from fastcpu.load.protocols import Question

PATH = "/embed"
NEEDS_MODEL = False
ENCODINGS: tuple[str, ...] = ()


def body(question: Question) -> dict[str, Any]:
    return {"inputs": question.texts}
