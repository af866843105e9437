"""When a run is valid, and how times are shown."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from fastcpu.load import Plan, Result
from fastcpu.load.recorder import Recorder
from fastcpu.load.tables import duration

MS = 1_000_000


def made(
    latency: int,
    late: int = 0,
    *,
    waits: int = 0,
    local: int = 0,
    busy: float = 0.5,
    starved: float = 0.0,
    load: dict[str, Any] | None = None,
    count: int = 1000,
    status: int = 200,
) -> Result:
    """A result of answers that took `latency` nanoseconds each, 20 of which started `late` nanoseconds late."""
    recorder = Recorder()
    recorder.set_times(0, 1_000 * MS)
    for number in range(count):
        recorder.arrived(number, number + (late if number < 20 else 0))
        recorder.answered(number, number + latency, status)
    if status != 200:
        recorder.excerpts[status] = 'no\n"such" <model> ' + "x" * 400
    recorder.errors["local"] += local
    client: Any = SimpleNamespace(waits=waits, opened=1, peak=1, received=0)
    usage: Any = SimpleNamespace(busy=busy, starved=starved)
    plan = Plan("http://127.0.0.1:1", protocol="tei", **(load or {"rate": 1000}))
    return Result(plan, recorder, client, "", usage, "uvloop")


@pytest.mark.parametrize(
    ("result", "problem"),
    [
        (made(100 * MS), None),
        (made(100 * MS, MS * 9 // 10), None),
        (made(100 * MS, MS * 11 // 10), "more than 1.10 ms"),
        (made(10 * MS, MS * 9 // 10), "9 % of the median latency"),
        (made(10 * MS, MS * 4 // 10), None),
        (made(10 * MS, 5 * MS, load={"concurrency": 1}), None),
        (made(1 * MS, MS * 19 // 100), None),
        (made(1 * MS, MS * 21 // 100), "21 % of the median latency"),
        (made(10 * MS, 5 * MS, count=99), None),
        (made(10 * MS, 5 * MS, count=100), "more than 4.99 ms"),
        (made(10 * MS, status=404), 'no answer was a success (first: 404 Not Found: no "such" <model> xxx'),
        (made(10 * MS, status=429), "no answer was a success (first: 429 Too Many Requests"),
        (made(10 * MS, waits=3), "3 requests had to wait because all 512 connections"),
        (made(10 * MS, waits=3, load={"concurrency": 1}), None),
        (made(10 * MS, busy=0.95), "busy for 95 % of the time"),
        (made(10 * MS, starved=0.06), "waited for a CPU for 6 % of the time"),
        (made(10 * MS, local=2), "2 connections could not be made"),
    ],
)
def test_problems(result: Result, problem: str | None) -> None:
    assert result.valid == (problem is None)
    if problem is not None:
        assert len(result.problems) == 1
        assert problem in result.problems[0]
        assert (
            f"NOT VALID: these numbers do not tell what the server can do.\n  * {result.problems[0]}" in result.text()
        )
    else:
        assert "NOT VALID" not in result.text()


def test_a_short_run_tells_no_percentiles() -> None:
    few, enough = made(10 * MS, count=99), made(10 * MS, count=100)
    assert few.notes == few.to_json()["notes"] == ["the run is too short to tell percentiles: 99 requests"]
    assert "\nNote: the run is too short to tell percentiles: 99 requests.\n" in few.text()
    assert few.valid
    assert enough.notes == []
    assert "Note:" not in enough.text()


def test_a_quoted_answer_is_cut() -> None:
    (problem,) = made(10 * MS, status=500).problems
    assert len(problem) < 150
    assert problem.endswith("xxx...)")


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, ""),
        (0.0, "0.00 us"),
        (1.234e-6, "1.23 us"),
        (99.99e-6, "100 us"),
        (999.9e-6, "1.00 ms"),
        (12.34e-3, "12.3 ms"),
        (0.9994, "999 ms"),
        (0.9996, "1.00 s"),
        (61.0, "61.0 s"),
        (123.4, "123 s"),
    ],
)
def test_durations(seconds: float | None, shown: str) -> None:
    assert duration(seconds) == shown
