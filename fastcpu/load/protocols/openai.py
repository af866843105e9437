"""The embeddings of OpenAI's API."""

from __future__ import annotations

from typing import Any

from fastcpu.load.protocols import Question

PATH = "/v1/embeddings"
ENCODINGS: tuple[str, ...] = ("base64", "float")


def body(question: Question) -> dict[str, Any]:
    named = {} if question.model is None else {"model": question.model}
    return {**named, "input": question.texts, "encoding_format": question.encoding}
