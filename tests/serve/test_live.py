"""The routes of a running server, with tiny models."""

from __future__ import annotations

import base64
from pathlib import Path

import numpy as np
import pytest

from fastcpu.tasks import Embedder
from tests.serve.live import LiveServer, model_directory

TEXTS = ["a red house", "Anna lives in London", "the dog"]


@pytest.fixture(scope="module")
def vectors(tiny_models: Path) -> np.ndarray:
    return Embedder(model_directory(tiny_models, "embed"), threads=1).embed(TEXTS)


def test_openai_embeddings_are_those_of_the_task(server: LiveServer, vectors: np.ndarray) -> None:
    numbers = server.post("/v1/embeddings", {"input": TEXTS, "model": "embed"}).json
    coded = server.post("/v1/embeddings", {"input": TEXTS, "model": "embed", "encoding_format": "base64"}).json
    assert np.array_equal(np.array([each["embedding"] for each in numbers["data"]], np.float32), vectors)
    decoded = [np.frombuffer(base64.b64decode(each["embedding"]), "<f4") for each in coded["data"]]
    assert np.array_equal(np.stack(decoded), vectors)
    assert numbers["usage"]["prompt_tokens"] == 5 + 6 + 4


def test_tei_embeddings_are_those_of_the_task(server: LiveServer, vectors: np.ndarray) -> None:
    found = server.post("/embed", {"inputs": TEXTS, "model": "embed"}).json
    assert np.array_equal(np.array(found, np.float32), vectors)
