"""What is measured, and that Prometheus can read it."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from fastcpu.serve.metrics import Metrics
from fastcpu.serve.operation import Operation
from fastcpu.serve.protocols.tei import PROTOCOL
from fastcpu.serve.request import Batch, Entry, Request
from tests.serve.live import LiveServer


async def _nothing(*_: Any) -> Any:
    raise AssertionError("only its name is of use here")


EMBED = Operation("POST", "/embed", _nothing, PROTOCOL, "")
HEALTH = Operation("GET", "/health", _nothing, PROTOCOL, "", light=True)


def samples(exposition: bytes) -> dict[tuple[str, tuple[str, ...]], float]:
    """The values by name and labels, these in the order of their names."""
    return {
        (sample.name, tuple(sample.labels[name] for name in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(exposition.decode())
        for sample in family.samples
    }


def test_answers_are_counted_by_operation_and_status() -> None:
    metrics = Metrics()
    embed, health = metrics.operation(EMBED), metrics.operation(HEALTH)
    for status, seconds in ((200, 0.003), (200, 0.2), (429, 0.001), (422, 0.001)):
        embed(status, seconds)
    health(200, 0.001)
    metrics.elsewhere(404)
    found = samples(metrics.exposition())
    assert found["fastcpu_requests_total", ("POST /embed", "200")] == 2
    assert found["fastcpu_requests_total", ("POST /embed", "429")] == 1
    assert found["fastcpu_requests_total", ("GET /health", "200")] == 1
    assert found["fastcpu_requests_total", ("", "404")] == 1
    assert found["fastcpu_request_seconds_count", ("POST /embed",)] == 4
    assert found["fastcpu_request_seconds_sum", ("POST /embed",)] == pytest.approx(0.205)
    assert found["fastcpu_request_seconds_bucket", ("0.0025", "POST /embed")] == 2
    assert found["fastcpu_request_seconds_bucket", ("+Inf", "POST /embed")] == 4


def batch(*lengths: int) -> Batch:
    request = Request("m/1#1", lengths, None)
    return Batch("m/1#1", [Entry(request, index) for index in range(len(lengths))], sum(lengths), 0.0)


def test_batches_are_counted_with_the_padding_that_they_avoid() -> None:
    metrics = Metrics()
    metrics.batch("org/m", batch(3, 5, 10), 0.02, 0.015)
    metrics.batch("org/m", batch(7), 0.01, 0.01)
    found = samples(metrics.exposition())
    assert found["fastcpu_batch_tokens_sum", ("org/m",)] == 25
    assert found["fastcpu_batch_sequences_sum", ("org/m",)] == 4
    assert found["fastcpu_padding_avoided_tokens_total", ("org/m",)] == 12
    assert found["fastcpu_infer_seconds_count", ("org/m",)] == 2
    assert found["fastcpu_infer_seconds_sum", ("org/m",)] == pytest.approx(0.03)
    assert found["fastcpu_infer_cpu_seconds_total", ("org/m",)] == pytest.approx(0.025)


def test_of_a_model_the_version_that_answers_is_ready() -> None:
    metrics = Metrics()
    metrics.model("m", "1")
    assert samples(metrics.exposition())["fastcpu_model_ready", ("m", "1")] == 1
    metrics.model("m", "2")
    found = samples(metrics.exposition())
    assert (found["fastcpu_model_ready", ("m", "1")], found["fastcpu_model_ready", ("m", "2")]) == (0, 1)
    metrics.model("m", None)
    assert samples(metrics.exposition())["fastcpu_model_ready", ("m", "2")] == 0


def test_names_that_prometheus_must_escape() -> None:
    metrics = Metrics()
    metrics.rejected('a"b\\c\nd', "queue")
    assert samples(metrics.exposition())["fastcpu_rejected_total", ('a"b\\c\nd', "queue")] == 1


def test_the_last_seconds_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("fastcpu.serve.metrics.time.time", lambda: now)
    metrics = Metrics()
    embed, health = metrics.operation(EMBED), metrics.operation(HEALTH)
    for status, seconds in ((200, 0.001), (200, 0.003), (429, 1.0), (504, 1.0), (422, 1.0)):
        embed(status, seconds)
    health(200, 9.0)
    metrics.batch("m", batch(3, 5), 0.02, 0.02)
    now = 1001.5
    metrics.batch("m", batch(7), 0.02, 0.02)
    first, last = metrics.history()
    assert first == {
        "time": 1000, "requests": 2, "texts": 2, "tokens": 8, "refused": 2, "p50_ms": 3.0, "p99_ms": 3.0,
        "batches": 1, "batch_tokens": 8.0,
    }  # fmt: skip
    assert (last["time"], last["requests"], last["p50_ms"], last["tokens"]) == (1001, 0, None, 7)
    for second in range(1002, 1400):
        now = second
        metrics.batch("m", batch(1), 0.02, 0.02)
    assert len(metrics.history()) == 120


def test_threads_lose_no_count() -> None:
    metrics = Metrics()

    def count() -> None:
        for _ in range(500):
            metrics.batch("m", batch(2, 3), 0.01, 0.01)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert samples(metrics.exposition())["fastcpu_batch_tokens_sum", ("m",)] == 4 * 500 * 5
    history = metrics.history()
    assert sum(second["tokens"] or 0 for second in history) == 4 * 500 * 5
    assert len({second["time"] for second in history}) == len(history)


def test_a_running_server_counts_its_requests(server: LiveServer) -> None:
    def count(*labels: str) -> float:
        return samples(server.get("/metrics").body).get(("fastcpu_requests_total", labels), 0.0)

    def computed() -> float:
        return samples(server.get("/metrics").body).get(("fastcpu_batch_tokens_sum", ("embed",)), 0.0)

    good, wrong, tokens = count("POST /embed", "200"), count("POST /embed", "422"), computed()
    for _ in range(3):
        assert server.post("/embed", {"inputs": "a red house", "model": "embed"}).status == 200
    assert server.post("/embed", {"inputs": 7}).status == 422
    assert count("POST /embed", "200") == good + 3
    assert count("POST /embed", "422") == wrong + 1
    assert computed() == tokens + 3 * 5
    found = samples(server.get("/metrics").body)
    assert found["fastcpu_model_ready", ("embed", "1")] == 1
    assert found["fastcpu_queue_tokens", ("embed",)] == 0
    assert server.get("/metrics").headers["content-type"].startswith("text/plain; version=0.0.4")
