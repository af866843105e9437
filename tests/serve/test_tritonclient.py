"""What the client library of Triton does with a server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastcpu import Session
from fastcpu.tasks import Embedder
from tests.serve.live import LiveServer, model_directory
from tests.serve.test_inference import TEXTS, padded

http = pytest.importorskip("tritonclient.http")
aio = pytest.importorskip("tritonclient.http.aio")
InferenceServerException = pytest.importorskip("tritonclient.utils").InferenceServerException


def tensors(feeds: dict[str, np.ndarray], binary: bool = True) -> list[Any]:
    """Inputs of the client."""
    found = []
    for name, values in feeds.items():
        given = http.InferInput(name, list(values.shape), "BYTES" if values.dtype == object else "INT64")
        given.set_data_from_numpy(values, binary_data=binary)
        found.append(given)
    return found


def texts() -> dict[str, np.ndarray]:
    return {"text": np.array([text.encode() for text in TEXTS], object)}


@pytest.fixture
def client(server: LiveServer) -> Iterator[Any]:
    with http.InferenceServerClient(f"127.0.0.1:{server.port}") as found:
        yield found


@pytest.fixture(scope="module")
def vectors(tiny_models: Path) -> np.ndarray:
    return Embedder(model_directory(tiny_models, "embed"), threads=1).embed(TEXTS)


def test_health_and_metadata(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("embed")
    assert client.is_model_ready("embed", "1")
    assert not client.is_model_ready("embed", "2")
    assert not client.is_model_ready("none")
    assert client.get_server_metadata()["name"] == "fastcpu"
    assert client.get_model_metadata("embed", "1")["inputs"][0]["name"] == "input_ids"
    assert client.get_model_config("embed")["max_batch_size"] > 0
    client.infer("embed", tensors(texts()))
    assert client.get_inference_statistics("embed")["model_stats"][0]["inference_count"] > 0
    assert len(client.get_inference_statistics()["model_stats"]) == 6


@pytest.mark.parametrize("binary", [False, True])
def test_token_ids(client: Any, tiny_models: Path, binary: bool) -> None:
    feeds = padded()
    expected = Session(model_directory(tiny_models, "tag"), threads=1).run(feeds)["logits"]
    outputs = [http.InferRequestedOutput("logits", binary_data=binary)]
    found = client.infer("tag", tensors(feeds, binary), outputs=outputs, request_id="7", model_version="1")
    assert np.array_equal(found.as_numpy("logits"), expected)
    assert found.get_response()["id"] == "7"
    assert np.array_equal(client.infer("tag", tensors(feeds, binary)).as_numpy("logits"), expected)


@pytest.mark.parametrize("binary", [False, True])
def test_texts(client: Any, vectors: np.ndarray, binary: bool) -> None:
    found = client.infer("embed", tensors(texts(), binary), priority=1, timeout=30_000_000)
    assert np.array_equal(found.as_numpy("embedding"), vectors)
    labels = client.infer("classify", tensors(texts(), binary)).as_numpy("label")
    assert all(label in (b"bad", b"good", b"neither") for label in labels)


@pytest.mark.parametrize("way", ["gzip", "deflate"])
def test_compression(client: Any, tiny_models: Path, way: str) -> None:
    feeds = padded(32, 20)
    expected = Session(model_directory(tiny_models, "tag"), threads=1).run(feeds)["logits"]
    found = client.infer("tag", tensors(feeds), request_compression_algorithm=way, response_compression_algorithm=way)
    assert np.array_equal(found.as_numpy("logits"), expected)


def test_an_asynchronous_call(client: Any, vectors: np.ndarray) -> None:
    calls = [client.async_infer("embed", tensors(texts())) for _ in range(4)]
    for call in calls:
        assert np.array_equal(call.get_result().as_numpy("embedding"), vectors)


def test_errors(client: Any) -> None:
    with pytest.raises(InferenceServerException, match="there is no model 'none'") as caught:
        client.infer("none", tensors(texts()))
    assert caught.value.status() == "404"
    feeds = padded()
    feeds["input_ids"][1, 0] = 50
    with pytest.raises(InferenceServerException, match="token id 50 at row 1, column 0"):
        client.infer("tag", tensors(feeds))
    with pytest.raises(InferenceServerException, match="classification"):
        client.infer("embed", tensors(texts()), outputs=[http.InferRequestedOutput("embedding", class_count=2)])
    with pytest.raises(InferenceServerException):
        client.register_system_shared_memory("a", "/a", 8)
    with pytest.raises(InferenceServerException, match="there is no model"):
        client.load_model("none")


def test_the_repository(tiny_models: Path) -> None:
    arguments = [f"m={model_directory(tiny_models, 'embed')}", "--threads", "1"]
    with LiveServer(arguments) as server, http.InferenceServerClient(f"127.0.0.1:{server.port}") as client:
        assert [each["state"] for each in client.get_model_repository_index()] == ["READY"]
        client.unload_model("m")
        assert not client.is_model_ready("m")
        assert not client.is_server_ready()
        assert client.is_server_live()
        assert [each["state"] for each in client.get_model_repository_index()] == ["UNAVAILABLE"]
        client.load_model("m")
        assert client.is_model_ready("m")
        with pytest.raises(InferenceServerException, match="'config' is not supported"):
            client.load_model("m", config=json.dumps({"name": "m"}))
        assert client.is_model_ready("m")


def test_the_client_of_asyncio(server: LiveServer, tiny_models: Path, vectors: np.ndarray) -> None:
    feeds = padded(32, 20)
    expected = Session(model_directory(tiny_models, "tag"), threads=1).run(feeds)["logits"]

    async def use() -> None:
        async with aio.InferenceServerClient(f"127.0.0.1:{server.port}") as client:
            assert await client.is_server_ready()
            assert await client.is_model_ready("embed")
            assert (await client.get_model_metadata("embed"))["name"] == "embed"
            assert len(await client.get_model_repository_index()) == 6
            found = await asyncio.gather(*(client.infer("embed", tensors(texts())) for _ in range(8)))
            assert all(np.array_equal(each.as_numpy("embedding"), vectors) for each in found)
            for way in (None, "gzip", "deflate"):
                packed = await client.infer(
                    "tag", tensors(feeds), request_compression_algorithm=way, response_compression_algorithm=way
                )
                assert np.array_equal(packed.as_numpy("logits"), expected)
            with pytest.raises(InferenceServerException, match="there is no model"):
                await client.infer("none", tensors(texts()))

    asyncio.run(use())
