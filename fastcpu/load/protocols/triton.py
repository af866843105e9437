"""The Open Inference Protocol as models of Triton with a batch axis take it: a column of texts, and binary answers."""

from __future__ import annotations

from typing import Any

from fastcpu.load.protocols import Question

PATH = "/v2/models/{model}/infer"
NEEDS_MODEL = True
ENCODINGS: tuple[str, ...] = ("binary", "json")


def body(question: Question) -> dict[str, Any]:
    texts = question.texts
    tensor = {"name": "text", "shape": [len(texts), 1], "datatype": "BYTES", "data": texts}
    return {"inputs": [tensor], "parameters": {"binary_data_output": question.encoding == "binary"}}
