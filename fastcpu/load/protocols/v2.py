"""The Open Inference Protocol, version 2: one tensor of texts, as JSON."""

from __future__ import annotations

from typing import Any

from fastcpu.load.protocols import Question

PATH = "/v2/models/{model}/infer"
NEEDS_MODEL = True
ENCODINGS: tuple[str, ...] = ()


def body(question: Question) -> dict[str, Any]:
    texts = question.texts
    return {"inputs": [{"name": "text", "shape": [len(texts)], "datatype": "BYTES", "data": texts}]}
