"""The embeddings of OpenAI's API."""

from __future__ import annotations

from typing import Any

from fastcpu.load.protocols import Question

PATH = "/v1/embeddings"
NEEDS_MODEL = True
ENCODINGS: tuple[str, ...] = ("base64", "float")


def body(question: Question) -> dict[str, Any]:
    return {"model": question.model, "input": question.texts, "encoding_format": question.encoding}
