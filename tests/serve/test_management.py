"""What a server says of itself, and of heads that are too large."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serve.live import LiveServer, model_directory
from tests.serve.wire import Wire, head


@pytest.fixture(scope="module")
def live(tiny_models: Path) -> Iterator[LiveServer]:
    with LiveServer([f"m={model_directory(tiny_models, 'embed')}", "--threads", "1"]) as found:
        yield found


def test_health_says_why_there_is_none(live: LiveServer) -> None:
    assert live.request("POST", "/v2/repository/models/m/unload").status == 200
    answer = live.get("/health")
    assert (answer.status, answer.json["error"]) == (503, "no model is loaded")
    assert live.request("POST", "/v2/repository/models/m/load").status == 200
    assert live.get("/health").status == 200


def test_urls_have_a_limit(live: LiveServer) -> None:
    for length, status in ((60_000, 200), (70_000, 400)):
        assert live.get("/health?" + "x" * length).status == status


def test_heads_have_a_limit(live: LiveServer) -> None:
    most = 384 * 1024
    sent = head("GET", "/health", {f"x-{number}": "x" * 1000 for number in range(400)})
    with Wire(live) as wire:
        wire.send(sent[: most - 1002] + b"\r\n\r\n")
        assert wire.answer().status == 200
    with Wire(live) as wire:
        wire.send(sent[: most + 1])
        assert wire.answer().status == 431
        assert wire.ended()
