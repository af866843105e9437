"""What came of a run, and whether the generator kept up with its plan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastcpu.load.histogram import Histogram
from fastcpu.load.plan import Plan
from fastcpu.load.recorder import Recorder, Second

if TYPE_CHECKING:
    from fastcpu.load.client import Client
    from fastcpu.load.usage import Usage

MAX_LATENESS = 0.001
"""Seconds: a run is not valid if more than 1 % of the requests were handed over later than that."""
MAX_LATENESS_SHARE = 0.05
"""The same relative to the median latency; lateness up to `LEAST_LATENESS` does not count."""
LEAST_LATENESS = 0.0002
"""Seconds."""
FEW_REQUESTS = 100
"""Below so many, the slowest request alone would be the slowest 1 %: percentiles say nothing."""
MAX_BUSY = 0.9
"""A run is not valid if the generator was busy for a larger share of it: it may have been the limit."""
MAX_STARVED = 0.05
"""A run is not valid if the generator waited for a CPU for a larger share of it."""
_LONGEST = 100  # characters of an answer that a problem quotes
_PACKAGES = ("fastcpu", "httptools", "uvloop", "numpy", "tokenizers")


@dataclass(frozen=True)
class Result:
    """What came of one plan. All times are in seconds.

    Attributes:
        plan: what was asked for.
        recorder: the counts.
        client: the connections.
        started: date and time, UTC.
        usage: of this thread by all plans that ran beside, until no more requests arrived.
        event_loop: package of the event loop.
    """

    plan: Plan
    recorder: Recorder
    client: Client
    started: str
    usage: Usage
    event_loop: str

    @property
    def seconds(self) -> float:
        """The measured time."""
        return (self.recorder.last - self.recorder.first) / 1e9

    @property
    def latency(self) -> Histogram:
        """Of answers with a status of 200 to 299, from the arrival of the request on."""
        return self.recorder.latency

    @property
    def refusal_latency(self) -> Histogram:
        """Of answers 429 and 503."""
        return self.recorder.refusal_latency

    def _rate(self, count: int) -> float:
        return count / self.seconds if self.seconds > 0 else 0.0

    @property
    def requests_per_second(self) -> float:
        """Answers per second, whatever they say."""
        return self._rate(self.recorder.timely)

    @property
    def good_per_second(self) -> float:
        """Answers with a status of 200 to 299 per second."""
        return self._rate(self.recorder.timely_good)

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
        """Why the numbers are not those of the server under the whole of this load; empty for a valid run."""
        recorder = self.recorder
        found = []
        if self.interrupted is not None:
            found.append(f"interrupted after {self.interrupted:.1f} s")
        if not recorder.sent:
            return [*found, "no request was measured"]
        if not recorder.good and recorder.answers + recorder.failed_requests:
            found.append(f"no answer was a success (first: {_first_failure(recorder)})")
        if self.plan.rate is not None:
            late, median = recorder.lateness.quantile(0.99), recorder.latency.quantile(0.5)
            if recorder.sent < FEW_REQUESTS:
                late = None
            if late is not None and late > MAX_LATENESS:
                found.append(f"the generator was late: 1 % of the requests by more than {_shown(late)}")
            elif late is not None and median is not None and late > max(LEAST_LATENESS, MAX_LATENESS_SHARE * median):
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
        if self.usage.busy > MAX_BUSY:
            found.append(
                f"the generator was busy for {100 * self.usage.busy:.0f} % of the time: it may have been the limit"
            )
        if self.usage.starved > MAX_STARVED:
            found.append(
                f"the generator waited for a CPU for {100 * self.usage.starved:.0f} % of the time: others had it"
            )
        if recorder.errors["local"]:
            found.append(
                f"{recorder.errors['local']} connections could not be made for lack of ports, file descriptors or "
                "memory here"
            )
        return found

    @property
    def valid(self) -> bool:
        """Whether the numbers are those of the server under the whole of this load."""
        return not self.problems

    @property
    def notes(self) -> list[str]:
        """What else to know when reading the numbers."""
        sent = self.recorder.sent
        return [f"the run is too short to tell percentiles: {sent} requests"] if 0 < sent < FEW_REQUESTS else []

    @property
    def interrupted(self) -> float | None:
        """Seconds of the measured time after which the run was interrupted; None if it came to its end."""
        time = self.recorder.interrupted
        return None if time is None else time / 1e9

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
            "notes": self.notes,
            "interrupted": self.interrupted,
            "requests": {
                "sent": recorder.sent,
                "answered": recorder.answers,
                "good": recorder.good,
                "failed": recorder.failed_requests,
                "unfinished": recorder.unfinished,
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
                "busy": self.usage.busy,
                "starved": self.usage.starved,
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


def _first_failure(recorder: Recorder) -> str:
    """The first status of a run without a success, or the first error if there were no answers."""
    from fastcpu.load.tables import error_text, status_text

    if recorder.statuses:
        status = next(iter(recorder.statuses))
        text = status_text(status, recorder.excerpts.get(status, ""))
        return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
    return error_text(next(kind for kind, count in recorder.errors.items() if count))


def _shown(seconds: float) -> str:
    from fastcpu.load.tables import duration

    return duration(seconds)
