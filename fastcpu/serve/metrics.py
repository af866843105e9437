"""What is measured while serving: for Prometheus, and the last minutes for the page."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from fastcpu.serve.request import Batch

if TYPE_CHECKING:
    from fastcpu.serve.operation import Operation

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_TOKENS = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)
_SEQUENCES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_HISTORY = 120  # seconds


class Second:
    """What happened in one second.

    Attributes:
        time: which one, since 1970.
        latencies: of answered requests, in seconds.
        texts, tokens: that were computed.
        batches: tokens of each batch.
        refused: requests that were.
    """

    __slots__ = ("_summary", "batches", "latencies", "refused", "texts", "time", "tokens")
    _MOST = 4096  # latencies and batches that are kept of a second

    def __init__(self, now: int) -> None:
        self.time = now
        self.latencies: list[float] = []
        self.texts = 0
        self.tokens = 0
        self.batches: list[int] = []
        self.refused = 0
        self._summary: dict[str, float | int | None] | None = None

    def answer(self, seconds: float) -> None:
        """A request was answered."""
        if len(self.latencies) < self._MOST:
            self.latencies.append(seconds)

    def batch(self, tokens: int, sequences: int) -> None:
        """A batch has run."""
        self.tokens += tokens
        self.texts += sequences
        if len(self.batches) < self._MOST:
            self.batches.append(tokens)

    def summary(self, over: bool) -> dict[str, float | int | None]:
        """For the page; times in milliseconds. Of a second that is over it is made once."""
        if self._summary is not None:
            return self._summary
        ordered = sorted(self.latencies)

        def quantile(part: float) -> float | None:
            return round(1e3 * ordered[min(len(ordered) - 1, int(part * len(ordered)))], 3) if ordered else None

        found = {
            "time": self.time,
            "requests": len(ordered),
            "texts": self.texts,
            "tokens": self.tokens,
            "refused": self.refused,
            "p50_ms": quantile(0.5),
            "p99_ms": quantile(0.99),
            "batches": len(self.batches),
            "batch_tokens": round(sum(self.batches) / len(self.batches), 1) if self.batches else None,
        }
        if over:
            self._summary = found
        return found


class Metrics:
    """Counters and histograms of one server."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        registry = self._registry
        self._requests = Counter("fastcpu_requests", "Answered requests", ("operation", "status"), registry=registry)
        self._seconds = Histogram(
            "fastcpu_request_seconds",
            "From the head of a request to its answer",
            ("operation",),
            buckets=_SECONDS,
            registry=registry,
        )
        per_model = ("model",)
        self._tokenize = Histogram(
            "fastcpu_tokenize_seconds", "Tokenizing a request", per_model, buckets=_SECONDS, registry=registry
        )
        self._queue = Histogram(
            "fastcpu_queue_seconds",
            "A request's wait for its first batch",
            per_model,
            buckets=_SECONDS,
            registry=registry,
        )
        self._infer = Histogram("fastcpu_infer_seconds", "A batch", per_model, buckets=_SECONDS, registry=registry)
        self._infer_cpu = Counter(
            "fastcpu_infer_cpu_seconds", "CPU time of the threads that run batches", per_model, registry=registry
        )
        self._batch_tokens = Histogram(
            "fastcpu_batch_tokens", "Tokens of a batch", per_model, buckets=_TOKENS, registry=registry
        )
        self._batch_sequences = Histogram(
            "fastcpu_batch_sequences", "Sequences of a batch", per_model, buckets=_SEQUENCES, registry=registry
        )
        self._padding = Counter(
            "fastcpu_padding_avoided_tokens",
            "Tokens of padding that rectangular batches would have had",
            per_model,
            registry=registry,
        )
        self._rejected = Counter(
            "fastcpu_rejected",
            "Requests that were refused for want of time or room",
            ("model", "reason"),
            registry=registry,
        )
        self._cached = Counter("fastcpu_cache_hits", "Texts that the cache answered", per_model, registry=registry)
        self.queued = Gauge("fastcpu_queue_tokens", "Tokens that wait", per_model, registry=registry)
        self.running = Gauge("fastcpu_requests_in_flight", "Requests that are not answered yet", registry=registry)
        self.ready = Gauge("fastcpu_model_ready", "1 for a model that answers", ("model", "version"), registry=registry)
        self._versions: dict[str, str] = {}  # of the models that answer
        self._children: dict[tuple[int, str], Any] = {}
        self._history: deque[Second] = deque(maxlen=_HISTORY)
        self._lock = threading.Lock()  # of the history, which several threads write

    def _child(self, metric: Any, model: str) -> Any:
        """`metric` for a model, without looking its labels up again."""
        key = id(metric), model
        found = self._children.get(key)
        if found is None:
            found = self._children[key] = metric.labels(model)
        return found

    def _second(self) -> Second:
        """The current one; only to be used under the lock."""
        now = int(time.time())
        if not self._history or self._history[-1].time < now:
            self._history.append(Second(now))
        return self._history[-1]

    def operation(self, operation: Operation) -> Callable[[int, float], None]:
        """What is told of every answer of an operation: its status and seconds."""
        name = f"{operation.method} {operation.path}"
        seconds = self._seconds.labels(name)
        counters: dict[int, Any] = {}
        light = operation.light

        def observe(status: int, taken: float) -> None:
            counter = counters.get(status)
            if counter is None:
                counter = counters[status] = self._requests.labels(name, str(status))
            counter.inc()
            seconds.observe(taken)
            if not light:
                with self._lock:
                    if status < 400:
                        self._second().answer(taken)
                    elif status in {429, 503, 504}:
                        self._second().refused += 1

        return observe

    def elsewhere(self, status: int) -> None:
        """A request was answered for which there is no operation."""
        self._requests.labels("", str(status)).inc()

    def batch(self, model: str, batch: Batch, seconds: float, busy: float) -> None:
        """A batch has run that long; its thread was busy for some of it."""
        sequences = len(batch.entries)
        longest = max(entry.length for entry in batch.entries)
        self._child(self._infer, model).observe(seconds)
        self._child(self._infer_cpu, model).inc(busy)
        self._child(self._batch_tokens, model).observe(batch.tokens)
        self._child(self._batch_sequences, model).observe(sequences)
        self._child(self._padding, model).inc(longest * sequences - batch.tokens)
        with self._lock:
            self._second().batch(batch.tokens, sequences)

    def model(self, name: str, version: str | None) -> None:
        """A model answers from now on, in that version; None: it does not."""
        before = self._versions.pop(name, None)
        if before is not None and before != version:
            self.ready.labels(name, before).set(0)
        if version is not None:
            self._versions[name] = version
            self.ready.labels(name, version).set(1)

    def request(self, model: str, tokenize: float, queue: float) -> None:
        """A request has been computed: the seconds that it was tokenized and waited."""
        self._child(self._tokenize, model).observe(tokenize)
        self._child(self._queue, model).observe(queue)

    def rejected(self, model: str, reason: str) -> None:
        """A request was refused."""
        self._rejected.labels(model, reason).inc()

    def cached(self, model: str, texts: int) -> None:
        """Texts were answered from the cache."""
        self._child(self._cached, model).inc(texts)

    def history(self) -> list[dict[str, float | int | None]]:
        """The last seconds in which something happened, the oldest first."""
        with self._lock:
            return [second.summary(second is not self._history[-1]) for second in self._history]

    def exposition(self) -> bytes:
        """For Prometheus, in its text format."""
        return generate_latest(self._registry)
