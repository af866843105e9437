"""What a run does: where requests go, what they ask, when they start and when they are given up."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from fastcpu.errors import InputError
from fastcpu.load.corpus import Corpus, make_corpus
from fastcpu.load.protocols import Question, find_protocol
from fastcpu.load.target import Target, parse_url

MAX_SECONDS = 86_400.0
MAX_REQUESTS = 10_000_000
MAX_CONNECTIONS = 10_000
_BODIES = 1 << 28  # bytes of requests that are kept ready; more requests than fit repeat the first ones


@dataclass(frozen=True)
class Plan:
    """One run, which either `rate` or `concurrency` makes an open or a closed loop.

    Attributes:
        url: of the server; a path in it comes before that of the protocol, whose first part is not repeated.
        protocol: one of `fastcpu.load.protocols.PROTOCOLS`.
        model: name that requests give; openai and v2 need one.
        corpus: texts; requests take them in order, again and again.
        batch: texts per request.
        rate: open loop: requests per second that arrive, whatever the server does (a Poisson process).
        concurrency: closed loop: requests that are under way at any time; each answer starts the next.
        duration: seconds that are measured.
        warmup: seconds before these with the same load, which are not measured.
        timeout: seconds from the arrival of a request until it is given up.
        max_connections: open loop: how many connections there may be; requests wait for one beyond that.
        requests: most requests that are measured; the run ends with them. None is `MAX_REQUESTS`.
        encoding: of embeddings in the answer, where the protocol lets one choose.
        api_key: sent as `Authorization: Bearer`; never part of a report.
        seed: of the arrivals.
        label: what reports of several runs call this one.

    Raises:
        InputError: a value is out of range, or does not go with another.
    """

    url: str
    protocol: str = "openai"
    model: str | None = None
    corpus: Corpus = field(default_factory=make_corpus, repr=False)
    batch: int = 1
    rate: float | None = None
    concurrency: int | None = None
    duration: float = 10.0
    warmup: float = 1.0
    timeout: float = 10.0
    max_connections: int = 512
    requests: int | None = None
    encoding: str | None = None
    api_key: str | None = field(default=None, repr=False)
    seed: int = 0
    label: str = ""

    def __post_init__(self) -> None:
        parse_url(self.url)
        adapter = find_protocol(self.protocol)
        if not self.model and (self.model is not None or adapter.NEEDS_MODEL):
            raise InputError(f"the protocol {self.protocol} needs the name of a model (--model)")
        if self.encoding is not None and self.encoding not in adapter.ENCODINGS:
            choice = ", ".join(adapter.ENCODINGS) or "no choice"
            raise InputError(f"unknown encoding {self.encoding!r}; the protocol {self.protocol} has {choice}")
        if (self.rate is None) == (self.concurrency is None):
            raise InputError("a run needs either a rate (open loop) or a concurrency (closed loop)")
        _check_count("batch", self.batch, 1, 100_000)
        _check_count("max connections", self.max_connections, 1, MAX_CONNECTIONS)
        _check_count("seed", self.seed, 0, (1 << 63) - 1)
        if self.concurrency is not None:
            _check_count("concurrency", self.concurrency, 1, MAX_CONNECTIONS)
        if self.requests is not None:
            _check_count("requests", self.requests, 1, MAX_REQUESTS)
        _check_seconds("duration", self.duration, above=0.0)
        _check_seconds("timeout", self.timeout, above=0.0)
        _check_seconds("warmup", self.warmup)
        if self.rate is not None:
            if not (math.isfinite(self.rate) and self.rate > 0):
                raise InputError(f"rate must be above 0, not {self.rate}")
            if self.rate * (self.warmup + self.duration) > MAX_REQUESTS:
                raise InputError(f"rate {self.rate:g}: a run has at most {MAX_REQUESTS} requests; it would have more")
        if self.api_key is not None and not (self.api_key.isascii() and self.api_key.isprintable() and self.api_key):
            raise InputError("the API key is empty, or has characters that a header cannot have")

    @property
    def target(self) -> Target:
        return parse_url(self.url)

    @property
    def path(self) -> str:
        """Of the requests, with what the URL has."""
        path, prefix = find_protocol(self.protocol).PATH, self.target.prefix
        first = "/" + path.split("/")[1]
        if first != "/" and prefix.endswith(first):
            prefix = prefix.removesuffix(first)
        return prefix + path.format(model=quote(self.model or "", safe=""))

    @property
    def answer_encoding(self) -> str:
        """Empty where the protocol has no choice."""
        return self.encoding or next(iter(find_protocol(self.protocol).ENCODINGS), "")

    def messages(self) -> list[bytes]:
        """The different requests, head and body, as they go over the wire."""
        adapter = find_protocol(self.protocol)
        key = "" if self.api_key is None else f"Authorization: Bearer {self.api_key}\r\n"
        head = (
            f"POST {self.path} HTTP/1.1\r\nHost: {self.target.authority}\r\nUser-Agent: fastcpu-load\r\n"
            f"Accept: */*\r\nContent-Type: application/json\r\n{key}Content-Length: "
        )
        made: list[bytes] = []
        size = 0
        for texts in self._texts():
            content = adapter.body(Question(texts, self.model, self.answer_encoding))
            body = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
            made.append(f"{head}{len(body)}\r\n\r\n".encode() + body)
            size += len(made[-1])
            if size > _BODIES:
                break
        return made

    def _texts(self) -> Iterator[tuple[str, ...]]:
        """Of each request; the last one may begin again with the first texts."""
        texts = self.corpus.texts
        for start in range(0, len(texts), self.batch):
            yield tuple(texts[(start + step) % len(texts)] for step in range(self.batch))

    def to_json(self) -> dict[str, Any]:
        """What a report says of it; the API key is left out."""
        return {
            "label": self.label,
            "url": self.url,
            "protocol": self.protocol,
            "path": self.path,
            "model": self.model,
            "encoding": self.answer_encoding or None,
            "api_key": self.api_key is not None,
            "loop": "open" if self.rate is not None else "closed",
            "rate": self.rate,
            "concurrency": self.concurrency,
            "batch": self.batch,
            "duration": self.duration,
            "warmup": self.warmup,
            "timeout": self.timeout,
            "max_connections": self.max_connections if self.concurrency is None else self.concurrency,
            "requests": self.requests,
            "seed": self.seed,
        }


def _check_count(name: str, value: object, low: int, high: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise InputError(f"{name} must be a whole number from {low} to {high}, not {value}")


def _check_seconds(name: str, value: object, above: float | None = None) -> None:
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise InputError(f"{name} must be a number of seconds, not {value}")
    if value > MAX_SECONDS or value < 0 or value == above:
        raise InputError(f"{name} must be {'above' if above == 0 else 'from'} 0 to {MAX_SECONDS:g} s, not {value:g}")
