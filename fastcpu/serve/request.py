"""What is asked of the scheduler: requests of sequences, and why some are refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastcpu.serve.scheduler import _Lane

PRIORITIES = 8
"""Priorities 0 (most urgent) to 7, as the urgency of RFC 9218."""
_SOONEST = 0.05  # seconds; the least `retry_after`


class Rejected(Exception):
    """A request that was not accepted.

    Attributes:
        retry_after: seconds after which the same request would probably be accepted.
    """

    def __init__(self, message: str, retry_after: float = _SOONEST) -> None:
        super().__init__(message)
        self.retry_after = max(retry_after, _SOONEST)


class QueueFull(Rejected):
    """The queue of the model, or the client's part of it, has no room: in tokens, or in seconds by `max_wait`."""


class TooLate(Rejected):
    """The deadline has passed, or will have before the request is done, by the estimate."""


@dataclass(frozen=True)
class Policy:
    """How one model is served.

    Attributes:
        batch_tokens: most tokens of a batch; a longer sequence is a batch of its own.
        batch_rows: most sequences of a batch.
        max_delay: seconds that a sequence may wait for others to fill a batch. 0: it runs as soon as it can.
        max_queue_tokens: most tokens that wait, of all clients together. A larger request is accepted only by an empty
            queue; otherwise it could never run. For other clients it counts as half of one's part, so that it does
            not keep them out.
        max_wait: seconds; what would wait longer, by the estimate, is refused.
        weight: share of the time among the models that have work.
    """

    batch_tokens: int = 1024
    batch_rows: int | None = None
    max_delay: float = 0.0
    max_queue_tokens: int = 65536
    max_wait: float | None = None
    weight: float = 1.0

    def __post_init__(self) -> None:
        if min(self.batch_tokens, self.batch_rows or 1, self.max_queue_tokens) < 1 or self.batch_rows == 0:
            raise ValueError("batch_tokens, batch_rows and max_queue_tokens must be at least 1")
        if not (self.max_delay >= 0 and (self.max_wait or 0) >= 0 and 0 < self.weight < inf):
            raise ValueError("max_delay and max_wait must not be negative, and weight positive")


class Request:
    """Sequences that one client wants run by one model.

    Args:
        model: its name.
        lengths: tokens of each sequence, at least one sequence and one token.
        payload: of the caller; not looked at.
        priority: 0 (most urgent) to 7.
        deadline: on the clock of the scheduler; no sequence starts from then on.
        client: who shares the queue fairly with others.

    Attributes:
        arrived: when it was accepted.
        waiting: sequences that have not been taken yet and will be.
        cancelled: whether `cancel`, its deadline or the removal of its model ended it.
    """

    __slots__ = (
        "_lane", "_most", "_next", "_number", "_tokens", "arrived", "cancelled", "client", "deadline", "lengths",
        "model", "payload", "priority", "waiting",
    )  # fmt: skip

    def __init__(
        self,
        model: str,
        lengths: Sequence[int],
        payload: object,
        *,
        priority: int = 3,
        deadline: float | None = None,
        client: str = "",
    ) -> None:
        if not lengths or min(lengths) < 1:
            raise ValueError("a request has at least one sequence, and a sequence at least one token")
        if not 0 <= priority < PRIORITIES:
            raise ValueError(f"priority must be 0 to {PRIORITIES - 1}, not {priority}")
        self.model, self.lengths, self.payload = model, tuple(lengths), payload
        self.priority, self.deadline, self.client = priority, deadline, client
        self.arrived, self.waiting, self.cancelled = 0.0, len(self.lengths), False
        self._number = 0  # of all accepted ones, from 1
        self._next = 0  # first sequence that waits
        self._tokens = sum(self.lengths)  # of the sequences that wait
        self._most = self._tokens  # of them that count in the queue
        self._lane: _Lane | None = None  # where they wait


@dataclass(frozen=True, slots=True)
class Entry:
    """One sequence of a request."""

    request: Request
    index: int

    @property
    def length(self) -> int:
        return self.request.lengths[self.index]


@dataclass(eq=False, slots=True)
class Batch:
    """Sequences of one model that run together; `started` is when they were taken."""

    model: str
    entries: list[Entry]
    tokens: int
    started: float


@dataclass(frozen=True)
class Waiting:
    """What waits for a model, and the estimated seconds until all of it has been run; 0 while no speed is known."""

    requests: int
    sequences: int
    tokens: int
    seconds: float
