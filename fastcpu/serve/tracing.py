"""Spans of requests for OpenTelemetry, sent as OTLP over HTTP where the environment names a collector."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING, Any

import fastcpu
from fastcpu.errors import InputError, MissingPackageError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

    from fastcpu.serve.operation import Call, Operation, Reply

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_PROTOCOL = "http/protobuf"
_UNKNOWN = "unknown_service"
"""With this begins what the library calls a service without a name."""
_PATIENCE = 5.0
"""Seconds that the spans of the last requests have to be sent when the server ends."""


class Tracing:
    """Makes a span of every answered request, below the span that its header traceparent names.

    Args:
        provider: where spans go; ended by `close`.
    """

    def __init__(self, provider: TracerProvider) -> None:
        from opentelemetry.trace import SpanKind, StatusCode, set_span_in_context
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._provider = provider
        self._tracer = provider.get_tracer("fastcpu.serve", fastcpu.__version__)
        self._parent = TraceContextTextMapPropagator().extract
        self._within = set_span_in_context
        self._kind, self._error = SpanKind.SERVER, StatusCode.ERROR

    def record(self, operation: Operation, call: Call, reply: Reply, seconds: float) -> None:
        """A request was answered, that long after its head; its stages are spans within its own.

        What is light is passed over unless it was refused.
        """
        if operation.light and reply.status < 400:
            return
        since = time.time_ns() - time.monotonic_ns()

        def at(moment: float) -> int:
            return since + int(1e9 * moment)

        attributes: dict[str, Any] = {
            "http.request.method": call.scope["method"],
            "http.route": operation.path,
            "http.response.status_code": reply.status,
            "url.scheme": call.scope.get("scheme", "http"),
            "url.path": call.scope["path"][:200],
            "fastcpu.request.id": call.id,
        }
        if call.model:
            attributes |= {"fastcpu.model": call.model, "fastcpu.tokens": call.tokens}
        if reply.status >= 500:
            attributes["error.type"] = str(reply.status)
        span = self._tracer.start_span(
            f"{operation.method} {operation.path}",
            self._parent(_carried(call)),
            self._kind,
            attributes,
            start_time=at(call.began),
        )
        if span.is_recording():
            if reply.status >= 500:
                span.set_status(self._error)
            context = self._within(span)
            for name, began, ended in call.stages or ():
                self._tracer.start_span(name, context, start_time=at(began)).end(at(ended))
        span.end(at(call.began + seconds))

    def close(self) -> None:
        """Sends what was not sent yet, if the collector takes it within a few seconds."""
        last = threading.Thread(target=self._provider.shutdown, name="fastcpu-trace", daemon=True)
        last.start()
        last.join(_PATIENCE)


def _carried(call: Call) -> dict[str, str]:
    """The headers of W3C Trace Context that a request has."""
    names = (b"traceparent", b"tracestate")
    return {name.decode(): call.headers[name].decode("latin-1") for name in names if name in call.headers}


def from_environment() -> Tracing | None:
    """As the variables of OpenTelemetry say; None unless one of them names where to send spans.

    Raises:
        MissingPackageError: the packages of `fastcpu[tracing]` are not installed.
        InputError: spans are to be sent in another form.
    """
    named = next((name for name in _ENDPOINTS if os.environ.get(name)), None)
    disabled = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    if named is None or disabled or os.environ.get("OTEL_TRACES_EXPORTER") == "none":
        return None
    for name in _PROTOCOLS:
        form = os.environ.get(name)
        if form:
            if form != _PROTOCOL:
                raise InputError(f"{name} is {form!r}; spans are sent as {_PROTOCOL} only")
            break
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            f"{named} asks for traces, which need the package {error.name!r} (pip install fastcpu[tracing]); "
            "with OTEL_SDK_DISABLED=true there are none"
        ) from error
    given = Resource.create()
    ours = {
        key: value
        for key, value in {"service.name": "fastcpu", "service.version": fastcpu.__version__}.items()
        if str(given.attributes.get(key, _UNKNOWN)).startswith(_UNKNOWN)
    }
    provider = TracerProvider(resource=given.merge(Resource(ours)), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Tracing(provider)
