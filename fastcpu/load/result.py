"""What came of a run, and whether the generator kept up with its plan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastcpu.load.plan import Plan
from fastcpu.load.recorder import Recorder, Second

if TYPE_CHECKING:
    from fastcpu.load.client import Client

MAX_LATENESS = 0.001
"""Seconds: a run is not valid if more than 1 % of the requests were handed over later than that."""
MAX_LATENESS_SHARE = 0.05
"""The same relative to the median latency."""
MAX_BUSY = 0.9
"""A run is not valid if the generator was busy for a larger share of it: it may have been the limit."""
_PACKAGES = ("fastcpu", "httptools", "uvloop", "numpy", "tokenizers")


@dataclass(frozen=True)
class Result:
    """What came of one plan. All times are in seconds.

    Attributes:
        plan: what was asked for.
        recorder: the counts; `latency` and `refusal_latency` are histograms.
        client: the connections.
        started: date and time, UTC.
        busy: share of the run in which the thread of the generator was running, for all plans that ran beside.
        event_loop: package of the event loop.
    """

    plan: Plan
    recorder: Recorder
    client: Client
    started: str
    busy: float
    event_loop: str

    @property
    def seconds(self) -> float:
        """The measured time."""
        return (self.recorder.last - self.recorder.first) / 1e9

    def _rate(self, count: int) -> float:
        return count / self.seconds if self.seconds > 0 else 0.0

    @property
    def requests_per_second(self) -> float:
        """Answers per second, whatever they say."""
        return self._rate(self.recorder.answers)

    @property
    def good_per_second(self) -> float:
        """Answers with a status of 200 to 299 per second."""
        return self._rate(self.recorder.good)

    @property
    def texts_per_second(self) -> float:
        """Texts of the answers with a status of 200 to 299 per second."""
        return self.good_per_second * self.plan.batch

    @property
    def refused(self) -> int:
        """Answers of a server that has too much to do."""
        return self.recorder.refusal_latency.count

    @property
    def problems(self) -> list[str]:
        """Why the numbers do not speak of the server alone; empty for a valid run."""
        recorder = self.recorder
        found = []
        if not recorder.sent:
            found.append("no request was measured")
        if self.plan.rate is not None:
            late, median = recorder.lateness.quantile(0.99), recorder.latency.quantile(0.5)
            if late is not None and late > MAX_LATENESS:
                found.append(f"the generator was late: 1 % of the requests by more than {_shown(late)}")
            elif late is not None and median is not None and late > MAX_LATENESS_SHARE * median:
                share = 100 * late / median
                found.append(
                    f"the generator was late: 1 % of the requests by more than {_shown(late)}, {share:.0f} % of the "
                    "median latency"
                )
            if self.client.waits:
                found.append(
                    f"{self.client.waits} requests had to wait because all {self.plan.max_connections} connections "
                    "were taken; what they waited is in their latency"
                )
        if self.busy > MAX_BUSY:
            found.append(f"the generator was busy for {100 * self.busy:.0f} % of the time: it may have been the limit")
        if recorder.errors["local"]:
            found.append(
                f"{recorder.errors['local']} connections could not be made for lack of ports, file descriptors or "
                "memory here"
            )
        return found

    @property
    def valid(self) -> bool:
        """Whether the numbers speak of the server alone."""
        return not self.problems

    def text(self) -> str:
        """Tables for the terminal."""
        from fastcpu.load.tables import text

        return text(self)

    def to_json(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        from fastcpu.report.machine import machine, versions

        recorder, client = self.recorder, self.client
        return {
            "plan": self.plan.to_json(),
            "texts": self.plan.corpus.describe(),
            "started": self.started,
            "machine": machine(),
            "versions": versions(_PACKAGES),
            "valid": self.valid,
            "problems": self.problems,
            "requests": {
                "sent": recorder.sent,
                "answered": sum(recorder.statuses.values()),
                "failed": sum(recorder.errors.values()),
                "status": {str(status): count for status, count in sorted(recorder.statuses.items())},
                "errors": dict(sorted(recorder.errors.items())),
                "excerpts": {str(status): excerpt for status, excerpt in sorted(recorder.excerpts.items())},
            },
            "rates": {
                "seconds": self.seconds,
                "offered_requests_per_second": self._rate(recorder.sent),
                "requests_per_second": self.requests_per_second,
                "good_requests_per_second": self.good_per_second,
                "good_texts_per_second": self.texts_per_second,
            },
            "latency": {**recorder.latency.summary(), "buckets": recorder.latency.buckets()},
            "refusal_latency": recorder.refusal_latency.summary(),
            "generator": {
                "lateness": recorder.lateness.summary() if self.plan.rate is not None else None,
                "busy": self.busy,
                "event_loop": self.event_loop,
                "connections": client.opened,
                "peak_under_way": client.peak,
                "waits_for_a_connection": client.waits if self.plan.rate is not None else 0,
                "body_bytes": client.received,
            },
            "series": [_entry(number, second) for number, second in enumerate(recorder.seconds)],
        }


def _entry(number: int, second: Second) -> dict[str, Any]:
    return {
        "second": number,
        "arrived": second.sent,
        "good": second.good,
        "refused": second.refused,
        "other": second.other,
        "errors": second.errors,
        "p50": second.latency.quantile(0.5),
        "p99": second.latency.quantile(0.99),
    }


def _shown(seconds: float) -> str:
    from fastcpu.load.tables import duration

    return duration(seconds)
