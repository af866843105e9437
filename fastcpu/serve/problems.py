"""What a server refuses or cannot do: a status, a code for programs, and a sentence for people."""

from __future__ import annotations

import math

from fastcpu.errors import FastcpuError, InputError
from fastcpu.serve.request import QueueFull, TooLate

REFUSED = {
    400: "the request is malformed, or a value in it is wrong",
    401: "no API key, or none that is valid",
    403: "a page of another origin, which cors_origins has not, lets a browser send this",
    404: "no such path or model",
    405: "the path has no such method",
    413: "the body, or what it unpacks to, is larger than the server takes",
    415: "the body has a content type or encoding that the server does not read",
    422: "a value in the request is wrong",
    429: "as many requests wait as the server takes; Retry-After says when to try again",
    500: "the server failed; its log says how, under the request's id",
    503: "the server or the model is starting or stopping; Retry-After says when to try again",
    504: "the deadline that the request named has passed or cannot be met",
}
"""The statuses of refusals, and what they mean."""


class Problem(Exception):
    """Ends a request with an answer that is an error.

    Args:
        status: HTTP status, of `REFUSED`.
        code: what programs compare, e.g. ``model_not_found``.
        message: what is wrong, and where.
        param: the field of the request that is wrong.
        retry_after: seconds after which another try makes sense.
        allow: the methods that the path has, for 405.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        param: str | None = None,
        retry_after: float | None = None,
        allow: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.param = param
        self.retry_after = retry_after
        self.allow = allow

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Those that belong to this problem."""
        found = []
        if self.retry_after is not None:
            # Whole seconds are all that RFC 9110 allows; clients of OpenAI read milliseconds as well.
            found.append((b"retry-after", str(max(1, math.ceil(self.retry_after))).encode()))
            found.append((b"retry-after-ms", str(max(1, math.ceil(1e3 * self.retry_after))).encode()))
        if self.allow is not None:
            found.append((b"allow", self.allow.encode()))
        if self.status == 401:
            found.append((b"www-authenticate", b"Bearer"))
        return found


class Gone(Exception):
    """The client has left: there is nobody to answer."""


def invalid(message: str, param: str | None = None) -> Problem:
    """A value of the request is wrong."""
    return Problem(400, "invalid_request", message, param=param)


def stopping() -> Problem:
    """The server ends before it can answer."""
    return Problem(503, "stopping", "the server is stopping", retry_after=1.0)


def as_problem(error: Exception) -> Problem | None:
    """What the client is told of an error; None for one that nobody foresaw."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, QueueFull):
        return Problem(429, "overloaded", "the queue is full", retry_after=error.retry_after)
    if isinstance(error, TooLate):
        return Problem(504, "deadline_exceeded", "the deadline of the request cannot be met")
    if isinstance(error, InputError):
        return invalid(str(error))
    if isinstance(error, FastcpuError):
        return Problem(500, "internal_error", str(error))
    return None
