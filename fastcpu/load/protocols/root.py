"""The requests of Hugging Face's inference endpoints, at the root of the server."""

from __future__ import annotations

from typing import Any

from fastcpu.load.protocols import Question

PATH = "/"
NEEDS_MODEL = False
ENCODINGS: tuple[str, ...] = ()


def body(question: Question) -> dict[str, Any]:
    texts = question.texts
    return {"inputs": texts[0] if len(texts) == 1 else texts}
