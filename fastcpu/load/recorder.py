"""Counts what happens to the requests of a run."""

from __future__ import annotations

from collections import Counter

from fastcpu.load.histogram import Histogram

REFUSALS = (429, 503)
"""The statuses of a server that has too much to do."""


class Second:
    """What happened within one second: requests that arrived, and answers and errors that came."""

    __slots__ = ("errors", "good", "latency", "other", "refused", "sent")

    def __init__(self) -> None:
        self.sent = self.good = self.refused = self.other = self.errors = 0
        self.latency = Histogram()


class Recorder:
    """The counts of a run. All times are nanoseconds of `time.monotonic_ns`.

    A request is counted if it arrives within the measured time, however late its answer comes. Rates count what is
    answered within that time, whenever it was asked.

    Attributes:
        first, last: the measured time.
        sent: requests that arrived.
        statuses: answers by HTTP status.
        errors: requests without an answer by what went wrong.
        excerpts: the beginning of the first body for each status that is no success.
        latency: of answers with a status of 200 to 299.
        refusal_latency: of those with one of `REFUSALS`.
        lateness: between the arrival of a request and its being handed to a connection, or to the queue for one.
        timely, timely_good: answers, and those of 200 to 299, that came within the measured time, whenever they were
            asked for.
        latest: when the last answer or error came.
        interrupted: nanoseconds after `first` at which the run was ended from outside; None if it was not.
        seconds: by second from `first` on, also those after `last` in which answers came.
    """

    def __init__(self) -> None:
        self.first = self.last = self.latest = 0
        self.sent = 0
        self.interrupted: int | None = None
        self.statuses: Counter[int] = Counter()
        self.errors: Counter[str] = Counter()
        self.excerpts: dict[int, str] = {}
        self.latency = Histogram()
        self.refusal_latency = Histogram()
        self.lateness = Histogram()
        self.timely = self.timely_good = 0
        self.seconds: list[Second] = []

    @property
    def answers(self) -> int:
        """How many of the requests that are counted were answered."""
        return sum(self.statuses.values())

    @property
    def failed_requests(self) -> int:
        """How many of them came to nothing."""
        return self.errors.total()

    @property
    def unfinished(self) -> int:
        """How many of them were under way when the run was interrupted."""
        return max(0, self.sent - self.answers - self.failed_requests) if self.interrupted is not None else 0

    @property
    def good(self) -> int:
        """How many of them with a status of 200 to 299."""
        return self.latency.count

    def set_times(self, first: int, last: int) -> None:
        self.first, self.last = first, last

    def end_early(self) -> None:
        """No more requests: the measured time ends with the last answer."""
        self.last = max(self.first, min(self.last, self.latest + 1))

    def interrupt(self, now: int) -> None:
        """No more requests, and no waiting for answers: the measured time ends here if it has not ended before."""
        if not self.first:  # nothing has begun
            self.set_times(now, now)
        self.interrupted = max(0, now - self.first)
        self.last = max(self.first, min(self.last, now))

    def _second(self, time: int) -> Second:
        place = (time - self.first) // 1_000_000_000
        while place >= len(self.seconds):
            self.seconds.append(Second())
        return self.seconds[place]

    def arrived(self, start: int, now: int) -> None:
        """A request that should start at `start` is handed over at `now`."""
        if start >= self.first:
            self.sent += 1
            self._second(start).sent += 1
            self.lateness.add(now - start)

    def answered(self, start: int, end: int, status: int) -> None:
        latency = end - start
        good = 200 <= status < 300
        if start >= self.first:
            self.statuses[status] += 1
            if good:
                self.latency.add(latency)
            elif status in REFUSALS:
                self.refusal_latency.add(latency)
        if end < self.first:
            return
        self.latest = end
        second = self._second(end)
        if end < self.last:
            self.timely += 1
            self.timely_good += good
        if good:
            second.good += 1
            second.latency.add(latency)
        elif status in REFUSALS:
            second.refused += 1
        else:
            second.other += 1

    def failed(self, start: int, end: int, kind: str) -> None:
        if start >= self.first:
            self.errors[kind] += 1
        if end >= self.first:
            self.latest = end
            self._second(end).errors += 1
