"""Answers on their way: those that nobody reads, and those that the cache has."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serve.live import LiveServer, model_directory
from tests.serve.wire import until

REQUESTS = 4


@pytest.fixture(scope="module")
def cached(tiny_models: Path) -> Iterator[LiveServer]:
    arguments = [f"{task}={model_directory(tiny_models, task)}" for task in ("embed", "fill_mask")]
    limits = ["--max-requests", str(REQUESTS), "--cache-mb", "10"]
    with LiveServer([*arguments, *limits, "--threads", "1"]) as live:
        yield live


def unread(server: LiveServer, path: str, body: bytes) -> socket.socket:
    """A connection on which a request was sent and whose answer is not read, with little room for it."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect(("127.0.0.1", server.port))
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    connection.sendall(head.encode() + body)
    return connection


def test_requests_count_until_their_answer_is_read(cached: LiveServer) -> None:
    texts = ["a red house " * 8] * 2000
    body = json.dumps({"model": "embed", "inputs": texts}).encode()
    connections = [unread(cached, "/tokenize", body) for _ in range(REQUESTS)]
    try:
        until(lambda: cached.get("/status").json["requests"] == REQUESTS)
        until(lambda: cached.post("/embed", {"model": "embed", "inputs": "the dog"}).status == 429)
    finally:
        for connection in connections:
            connection.close()
    until(lambda: cached.get("/status").json["requests"] == 0)
    assert cached.post("/embed", {"model": "embed", "inputs": "the dog"}).status == 200


def test_errors_count_inputs_as_the_client_does(cached: LiveServer) -> None:
    assert cached.post("/fill", {"model": "fill_mask", "text": ["a [MASK] dog"]}).status == 200
    answer = cached.post("/fill", {"model": "fill_mask", "text": ["a [MASK] dog", "no gap"]})
    assert answer.status == 422
    assert "input 1 has no [MASK]" in answer.json["error"]


def test_repeated_texts_are_computed_once(cached: LiveServer) -> None:
    texts = ["the car is red", "a cat", "the car is red"]
    answer = cached.post("/v1/embeddings", {"model": "embed", "input": texts}).json
    first, _, third = (each["embedding"] for each in answer["data"])
    assert first == third
    assert answer["usage"]["prompt_tokens"] == 6 + 4


def test_headers_are_checked_even_if_nothing_is_computed(cached: LiveServer) -> None:
    body = {"model": "embed", "inputs": "a small house"}
    assert cached.post("/embed", body).status == 200
    assert cached.post("/embed", body, {"x-request-timeout-ms": "soon"}).status == 422
