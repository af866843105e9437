"""Runs against scripted servers: what is counted, and as what. No bound depends on how fast this machine is."""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from fastcpu.errors import InputError, MissingPackageError
from fastcpu.files import json_text
from fastcpu.load import Corpus, Histogram, Plan, Result, drive, run, run_many
from fastcpu.load.loops import draw_arrivals
from fastcpu.load.target import Target
from tests.load.conftest import Attempt
from tests.load.scripted import Exchange, in_thread, simple


def at_least(histogram: Histogram, seconds: float) -> int:
    """How many times are in buckets that end above `seconds`."""
    return sum(int(count) for end, count in histogram.buckets() if end > seconds)


def totals(result: Result) -> dict[str, int]:
    """What the series by second adds up to."""
    seconds = result.recorder.seconds
    return {
        name: sum(getattr(second, name) for second in seconds)
        for name in ("sent", "good", "refused", "other", "errors")
    }


def test_an_open_loop_sends_what_was_drawn(attempt: Attempt) -> None:
    result, server = attempt(simple, rate=200, seed=5, batch=2)
    number = len(draw_arrivals(200, 0.3, 5))
    assert result.recorder.sent == number == len(server.requests) == result.latency.count
    assert dict(result.recorder.statuses) == {200: number}
    assert not result.recorder.errors
    assert totals(result) == {"sent": number, "good": number, "refused": 0, "other": 0, "errors": 0}
    assert result.seconds == pytest.approx(0.3)
    assert result.texts_per_second == 2 * result.good_per_second
    # Connections are used again, and the texts in turn.
    assert server.connections < number
    assert [exchange.body["inputs"] for exchange in server.requests[:2]] in (
        [["one", "two words"], ["three more words", "one"]],
        [["three more words", "one"], ["one", "two words"]],
    )


def test_latency_of_a_scripted_delay(attempt: Attempt) -> None:
    async def slow(exchange: Exchange) -> None:
        await asyncio.sleep(0.05)
        exchange.answer()

    for load in ({"rate": 100}, {"concurrency": 4}):
        result, _ = attempt(slow, **load)
        assert (result.latency.low or 0) >= 0.049  # timers of event loops round
        assert result.latency.count == result.recorder.sent > 0


def test_a_stall_makes_all_arrivals_within_it_late(attempt: Attempt) -> None:
    """A server that stalls once: an open loop sees it in every request that came meanwhile, not in one."""
    stalled: list[asyncio.Task[None]] = []

    async def stall(exchange: Exchange) -> None:
        if not stalled:
            stalled.append(asyncio.ensure_future(asyncio.sleep(0.3)))
        await stalled[0]
        exchange.answer()

    result, _ = attempt(stall, rate=300, seed=1, duration=0.6)
    arrivals = draw_arrivals(300, 0.6, 1)
    early = sum(arrival <= arrivals[0] + 200_000_000 for arrival in arrivals)
    assert early > 40
    assert at_least(result.latency, 0.0995) >= early
    assert (result.latency.high or 0) >= 0.295


def test_refusals_are_counted_apart(attempt: Attempt) -> None:
    async def refuse(exchange: Exchange) -> None:
        if exchange.number % 3 == 0:
            await asyncio.sleep(0.02)
            exchange.answer()
        elif exchange.number % 3 == 1:
            exchange.answer(429, '{"error":"too much"}', "Retry-After: 1\r\n")
        else:
            exchange.answer(503, "busy")

    result, server = attempt(refuse, rate=300)
    statuses = result.recorder.statuses
    assert sum(statuses.values()) == len(server.requests) == result.recorder.sent
    assert statuses[200] == result.latency.count == (len(server.requests) + 2) // 3
    assert result.refused == statuses[429] + statuses[503]
    assert (result.latency.low or 0) >= 0.019
    assert result.recorder.excerpts == {429: '{"error":"too much"}', 503: "busy"}
    assert totals(result)["refused"] == result.refused
    assert '429 Too Many Requests: {"error":"too much"}' in result.text()


def test_other_statuses(attempt: Attempt) -> None:
    async def fail(exchange: Exchange) -> None:
        exchange.answer((404, 500, 204)[exchange.number % 3], "" if exchange.number % 3 == 2 else "why " * 1000)

    result, server = attempt(fail, concurrency=1, requests=9)
    assert dict(result.recorder.statuses) == {404: 3, 500: 3, 204: 3}
    assert result.latency.count == 3
    assert len(result.recorder.excerpts[500]) == 400
    assert server.connections == 2  # one looks whether the server is there


async def _reset(exchange: Exchange) -> None:
    exchange.raw("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
    await exchange.writer.drain()
    exchange.reset()


async def _half(exchange: Exchange) -> None:
    exchange.raw("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
    exchange.writer.close()


async def _chunks_cut(exchange: Exchange) -> None:
    exchange.raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")
    exchange.writer.close()


async def _silence(exchange: Exchange) -> None:
    exchange.writer.close()


async def _nonsense(exchange: Exchange) -> None:
    exchange.raw("HELLO\r\n\r\n")


async def _twice(exchange: Exchange) -> None:
    exchange.raw("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" * 2)


async def _upgrade(exchange: Exchange) -> None:
    exchange.raw("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n")


@pytest.mark.parametrize(
    ("script", "kinds"),
    [
        (_reset, {"reset"}),
        (_half, {"closed"}),
        (_chunks_cut, {"closed"}),
        (_silence, {"closed"}),
        (_nonsense, {"malformed"}),
        (_twice, {"malformed"}),
        (_upgrade, {"malformed"}),
    ],
)
def test_broken_answers(script: Callable[[Exchange], Awaitable[None]], kinds: set[str], attempt: Attempt) -> None:
    for load in ({"rate": 50}, {"concurrency": 2}):
        result, _ = attempt(script, **load, duration=0.2)
        assert set(result.recorder.errors) == kinds
        assert result.recorder.errors.total() == result.recorder.sent > 0
        assert not result.recorder.statuses
        assert totals(result)["errors"] == result.recorder.sent


async def _chunked(exchange: Exchange) -> None:
    exchange.raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    for part in ("4\r\none \r\n", "3\r\ntwo\r\n", "0\r\n\r\n"):
        await asyncio.sleep(0.02)
        exchange.raw(part)


async def _dripping(exchange: Exchange) -> None:
    for byte in "HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\none two":
        await asyncio.sleep(0.001)
        exchange.raw(byte)


async def _closing(exchange: Exchange) -> None:
    await asyncio.sleep(0.04)
    exchange.answer(200, "one two", "Connection: close\r\n")
    exchange.writer.close()


async def _until_the_end(exchange: Exchange) -> None:
    exchange.raw("HTTP/1.1 200 OK\r\n\r\none ")
    await asyncio.sleep(0.04)
    exchange.raw("two")
    exchange.writer.close()


async def _continued(exchange: Exchange) -> None:
    exchange.raw("HTTP/1.1 100 Continue\r\n\r\n")
    await asyncio.sleep(0.04)
    exchange.answer(200, "one two")


@pytest.mark.parametrize("script", [_chunked, _dripping, _closing, _until_the_end, _continued])
def test_answers_of_every_form(script: Callable[[Exchange], Awaitable[None]], attempt: Attempt) -> None:
    """An answer is there when its last byte is."""
    for load in ({"rate": 50}, {"concurrency": 2}):
        result, server = attempt(script, **load)
        assert not result.recorder.errors
        assert result.recorder.statuses[200] == result.recorder.sent == len(server.requests) > 0
        assert (result.latency.low or 0) >= 0.038
        assert result.client.received == 7 * result.recorder.sent
        once = script in (_closing, _until_the_end)
        assert (
            (server.connections == len(server.requests) + 1) if once else (server.connections <= result.client.peak + 1)
        )


def test_requests_are_given_up(attempt: Attempt) -> None:
    async def never(exchange: Exchange) -> None:
        await asyncio.sleep(60)

    result, server = attempt(never, rate=100, timeout=0.1, seed=2)
    assert dict(result.recorder.errors) == {"timeout": result.recorder.sent}
    result, server = attempt(never, concurrency=3, timeout=0.1)
    assert dict(result.recorder.errors) == {"timeout": result.recorder.sent}
    assert "given up after the timeout" in result.text()
    assert server.most >= 3


def test_requests_are_given_up_while_they_wait_for_a_connection(attempt: Attempt) -> None:
    async def never(exchange: Exchange) -> None:
        await asyncio.sleep(60)

    # A connection is free when one request has been given up, just before the next one is: with many arrivals, some are
    # so close together that nothing can be sent in between.
    result, server = attempt(never, rate=2000, timeout=0.1, max_connections=2)
    assert dict(result.recorder.errors) == {"timeout": result.recorder.sent}
    assert result.client.waits > 0
    assert len(server.requests) < result.recorder.sent


def test_waiting_for_a_connection_is_told_and_in_the_latency(attempt: Attempt) -> None:
    async def slow(exchange: Exchange) -> None:
        await asyncio.sleep(0.02)
        exchange.answer()

    result, server = attempt(slow, rate=100, max_connections=1)
    assert server.most == 1
    assert result.client.waits > 0
    assert not result.valid
    assert any("all 1 connections were taken" in problem for problem in result.problems)
    assert "NOT VALID" in result.text()
    # One at a time: the last of n requests waits for the answers to all others.
    assert (result.latency.high or 0) >= 0.019 * result.recorder.sent - 0.3


def test_a_closed_loop_keeps_so_many_under_way(attempt: Attempt) -> None:
    async def slow(exchange: Exchange) -> None:
        await asyncio.sleep(0.005)
        exchange.answer()

    result, server = attempt(slow, concurrency=7)
    assert server.most == 7 == result.client.peak
    assert server.connections <= 8
    assert result.recorder.sent >= 7
    assert result.client.waits == 0


def test_an_answer_before_the_request_is_written(attempt: Attempt) -> None:
    """What is left of such a request must not come before the next one."""
    corpus = Corpus(("x" * (16 << 20),))
    result, server = attempt(simple, concurrency=1, requests=4, duration=60, corpus=corpus, reads=False)
    assert dict(result.recorder.statuses) == {413: 4}
    assert server.connections == 5


def test_one_thread(attempt: Attempt) -> None:
    def threads() -> int:
        return len(list(Path("/proc/self/task").iterdir()))

    before, meanwhile = threads(), []

    async def count(exchange: Exchange) -> None:
        meanwhile.append(threads())
        exchange.answer()

    attempt(count, rate=100)
    assert set(meanwhile) == {before}


def test_so_many_requests_and_no_more(attempt: Attempt) -> None:
    for load in ({"rate": 500, "duration": 60}, {"concurrency": 3, "duration": 60}):
        result, server = attempt(simple, requests=20, **load)
        assert result.recorder.sent == len(server.requests) == result.recorder.answers == 20
        assert 0 < result.seconds < 60
        assert result.requests_per_second == pytest.approx(20 / result.seconds)


def test_the_warm_up_is_not_counted(attempt: Attempt) -> None:
    for load in ({"rate": 300}, {"concurrency": 2}):
        result, server = attempt(simple, warmup=0.2, duration=0.2, **load)
        assert 0 < result.recorder.sent < len(server.requests)
        assert result.latency.count == result.recorder.sent == totals(result)["sent"]


def test_rates_count_what_comes_in_time(attempt: Attempt) -> None:
    async def slow(exchange: Exchange) -> None:
        await asyncio.sleep(0.2)
        exchange.answer()

    result, _ = attempt(slow, rate=200, seed=4)
    recorder = result.recorder
    assert recorder.good == recorder.answers == recorder.sent
    assert recorder.timely <= sum(arrival < 105_000_000 for arrival in draw_arrivals(200, 0.3, 4)) < recorder.sent
    assert result.requests_per_second == recorder.timely / result.seconds


def test_a_generator_that_is_late_says_so(attempt: Attempt) -> None:
    async def block(exchange: Exchange) -> None:
        time.sleep(0.005)  # noqa: ASYNC251  the generator runs in this thread
        exchange.answer()

    result, _ = attempt(block, rate=400, duration=0.5)
    assert any("the generator was late" in problem for problem in result.problems)
    assert not result.valid
    assert (result.recorder.lateness.high or 0) > 0.02
    # Late starts do not make answers look fast: 0.005 s for each at 400 per second cannot be kept up with.
    assert (result.latency.high or 0) >= 0.1


@pytest.mark.parametrize("load", [{"rate": 50}, {"concurrency": 2}])
def test_a_server_that_goes_away(load: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Target, "connectable", lambda *_: "127.0.0.1")
    result = run(Plan("http://127.0.0.1:1", protocol="tei", warmup=0, duration=0.2, **load))
    assert dict(result.recorder.errors) == {"refused": result.recorder.sent}
    assert "no answer was a success (first: connection refused)" in result.problems
    assert 0 < result.recorder.sent < 1000  # a closed loop does not hammer


def test_nobody_is_there() -> None:
    with pytest.raises(InputError, match=r"127\.0\.0\.1:1: no connection can be made: Connection refused"):
        run(Plan("http://127.0.0.1:1", protocol="tei", rate=1))
    with pytest.raises(InputError, match="the host is unknown"):
        run(Plan("http://nowhere.invalid", protocol="tei", rate=1))
    with pytest.raises(InputError, match="nothing to run"):
        run_many([])


def test_several_plans_side_by_side() -> None:
    async def refuse(exchange: Exchange) -> None:
        exchange.answer(429)

    with in_thread(simple) as good, in_thread(refuse) as bad:
        options: dict[str, Any] = {"protocol": "root", "warmup": 0, "duration": 0.3}
        plans = [
            Plan(good.url, rate=100, label="good", **options),
            Plan(bad.url, concurrency=2, label="bad", **options),
        ]
        first, second = run_many(plans)
    assert dict(first.recorder.statuses) == {200: len(good.requests)}
    assert dict(second.recorder.statuses) == {429: len(bad.requests)}
    assert first.text().startswith("good: http://127.0.0.1:")
    assert gc.isenabled()


def test_json_has_everything(attempt: Attempt) -> None:
    corpus = Corpus(("one", "two"), "a test", (3, 3))
    found = attempt(simple, rate=100, corpus=corpus, seed=7)[0].to_json()
    json_text(found)  # no number that JSON lacks
    assert found["plan"]["seed"] == 7
    assert found["plan"]["loop"] == "open"
    assert found["texts"]["tokens"]["p50"] == 3
    assert found["requests"]["status"] == {"200": found["requests"]["sent"]}
    assert {"count", "mean", "min", "p50", "p90", "p95", "p99", "p99.9", "max", "buckets"} == set(found["latency"])
    assert sum(second["good"] for second in found["series"]) == found["requests"]["sent"]
    assert found["generator"]["event_loop"] in ("asyncio", "uvloop")
    assert "numpy" in found["versions"]


def test_no_answers_at_all(attempt: Attempt) -> None:
    result, _ = attempt(simple, rate=1e-6)
    assert result.recorder.sent == 0
    assert result.problems == ["no request was measured"]
    assert "NOT VALID" in result.text()
    json_text(result.to_json())


def test_a_defect_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("fastcpu.load.recorder.Recorder.answered", broken)
    with in_thread(simple) as server, pytest.raises(ZeroDivisionError):
        run(Plan(server.url, protocol="tei", concurrency=1, warmup=0, duration=60))


def test_httptools_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "httptools", None)
    for name in ("loops", "client", "connection"):
        monkeypatch.delitem(sys.modules, f"fastcpu.load.{name}", raising=False)
    with pytest.raises(MissingPackageError, match=r"pip install fastcpu\[serve\]"):
        run(Plan("http://127.0.0.1:1", protocol="tei", rate=1))


def test_a_foreign_event_loop_goes_on() -> None:
    with in_thread(simple) as server:

        async def measure() -> Result:
            (result,) = await drive([Plan(server.url, protocol="tei", concurrency=1, requests=3, warmup=0)])
            await asyncio.sleep(0)
            return result

        assert asyncio.run(measure()).latency.count == 3


@pytest.mark.parametrize("load", [{"rate": 100}, {"concurrency": 2}])
def test_a_run_may_be_cancelled(load: dict[str, Any]) -> None:
    async def never(exchange: Exchange) -> None:
        await asyncio.sleep(60)

    async def measure(url: str, seconds: float) -> int:
        running = asyncio.create_task(drive([Plan(url, protocol="tei", duration=60, **load)]))
        await asyncio.sleep(seconds)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await asyncio.sleep(0.05)
        return len(asyncio.all_tasks())

    for seconds in (0.0, 0.1):
        with in_thread(never) as server:
            assert asyncio.run(measure(server.url, seconds)) == 1
